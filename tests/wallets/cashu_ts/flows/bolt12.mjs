// Offers (NUT-25): ecash for every payment of one, bit by bit; and offers paid with ecash, in the background as well.
import { assert, cashu, get, key, node, now, open, refused, sha256, state, sum, until } from '../lib.mjs'

const wallet = await open()
const owner = key()
assert.equal(wallet.getMintInfo().supportsNut04Description('bolt12'), true)
const quote = await wallet.createMintQuoteBolt12(owner.pubkey, { description: 'Kaffee für zwei ☕' })
assert.match(quote.request, /^lno1/)
assert.equal(quote.pubkey, owner.pubkey)
assert.equal((await node('decode', { string: quote.request })).offer_description, 'Kaffee für zwei ☕')
const paid = async amount =>
  until(async () => Number((await wallet.checkMintQuoteBolt12(quote.quote)).amount_paid) === amount)
const collect = async (amount, secret = owner.secret) =>
  wallet.mintProofsBolt12(amount, await wallet.checkMintQuoteBolt12(quote.quote), secret)

const { request } = quote
await node('sandbox-pay', { bolt11: request, amount_msat: 300_000 })
await paid(300)
let proofs = await collect(100)
await node('sandbox-pay', { bolt11: request, amount_msat: 700_500 })
await paid(1000)
proofs = [...proofs, ...(await collect(150)), ...(await collect(750))]
assert.equal(sum(proofs), 1000)
const spent = await wallet.checkMintQuoteBolt12(quote.quote)
assert.deepEqual([spent.amount_paid, spent.amount_issued].map(Number), [1000, 1000])

const fixed = await wallet.createMintQuoteBolt12(owner.pubkey, { amount: 21 })
assert.equal(Number(fixed.amount), 21)
await node('sandbox-pay', { bolt11: fixed.request })
await until(async () => Number((await wallet.checkMintQuoteBolt12(fixed.quote)).amount_paid) === 21)
const current = await wallet.checkMintQuoteBolt12(fixed.quote)
const { outputs } = (await wallet.prepareMint('bolt12', 21, current, { privkey: owner.secret })).payload
const unsigned = { quote: fixed.quote, outputs }
await refused(wallet.mint.mintBolt12(unsigned), 20008)
const forged = cashu.signMintQuote(key().secret, fixed.quote, outputs)
await refused(wallet.mint.mintBolt12({ ...unsigned, signature: forged }), 20008)
assert.equal(sum(await wallet.mintProofsBolt12(21, current, owner.secret)), 21)

// An offer over an amount; the request is answered when it is paid.
const { bolt12 } = await node('sandbox-offer', { amount_msat: 300_000 })
const melt = await wallet.createMeltQuoteBolt12(bolt12)
assert.equal(Number(melt.amount), 300)
assert(melt.expiry > now())
const done = await wallet.meltProofsBolt12(melt, proofs)
assert.equal(done.quote.state, 'PAID')
const settled = await get(`/v1/melt/quote/bolt12/${melt.quote}`)
const { payments } = await node('listsendpays', { payment_hash: sha256(Buffer.from(settled.payment_preimage, 'hex')) })
assert.equal(payments[0].status, 'complete')
const routing = Math.ceil((payments[0].amount_sent_msat - payments[0].amount_msat) / 1000)
assert.equal(sum(done.change), 700 - routing)

// An offer without one, several times, in the background; the WebSocket tells the outcome.
const open_ = (await node('sandbox-offer', { amount_msat: 'any' })).bolt12
await refused(wallet.createMeltQuoteBolt12(open_), 11011)
await refused(wallet.createMeltQuoteBolt12(bolt12, 299_000), 11012)
const { webSocketConnection: socket } = (await wallet.mint.connectWebSocket(), wallet.mint)
let purse = done.change
for (const amount of [100, 50]) {
  const quote = await wallet.createMeltQuoteBolt12(open_, amount * 1000)
  assert.equal(Number(quote.amount), amount)
  const seen = []
  const told = payload => seen.push(payload)
  socket.createSubscription({ kind: 'bolt12_melt_quote', filters: [quote.quote] }, told, assert.fail)
  await until(() => seen.length === 1)
  const preview = await wallet.prepareMelt('bolt12', quote, purse)
  const pending = await wallet.completeMelt(preview, undefined, { preferAsync: true })
  assert.equal(pending.quote.state, 'PENDING')
  await until(() => seen.length === 3)
  assert.deepEqual(seen.map(({ state }) => state), ['UNPAID', 'PENDING', 'PAID'])
  const final = seen[2]
  assert.deepEqual(await get(`/v1/melt/quote/bolt12/${quote.quote}`), final)
  assert.equal(await state(wallet, purse), 'SPENT')
  purse = wallet.createMeltChangeProofs(preview.outputData, final.change)
}
assert.equal(sum(await wallet.receive(purse)), sum(purse))
