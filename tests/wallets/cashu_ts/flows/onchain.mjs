// On the chain (NUT-30): ecash for deposits, bit by bit; and a payment from it, followed until it is deep enough.
import { assert, fee, get, key, node, now, open, refused, state, sum, until } from '../lib.mjs'

const CONFIRMATIONS = 3
const SOMEBODY = 'bcrt1qqqqsyqcyq5rqwzqfpg9scrgwpugpzysnard0ew'
const mine = () => node('sandbox-mine', { blocks: CONFIRMATIONS })
const wallet = await open()
const { methods } = wallet.getMintInfo().nuts['4']
assert.equal(methods.find(({ method }) => method === 'onchain').options.confirmations, CONFIRMATIONS)

const owner = key()
const quote = await wallet.createMintQuoteOnchain(owner.pubkey)
assert.match(quote.request, /^bcrt1/)
assert(quote.expiry > now())
const current = () => wallet.checkMintQuoteOnchain(quote.quote)
for (const [deposit, paid] of [[60_000, 60_000], [9_999, 60_000], [40_000, 100_000]]) {
  await node('sandbox-deposit', { address: quote.request, satoshi: deposit })
  await mine()
  await until(async () => Number((await current()).amount_paid) === paid)
}
const collect = async amount => wallet.mintProofsOnchain(amount, await current(), owner.secret)
let proofs = [...(await collect(25_000)), ...(await collect(75_000))]
assert.deepEqual([(await current()).amount_paid, (await current()).amount_issued].map(Number), [100_000, 100_000])
await assert.rejects(collect(1))

await node('sandbox-coins', { count: 2, satoshi: 500_000 })
await refused(wallet.createMeltQuoteOnchain('bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4', 20_000), 20000)
const melt = await wallet.createMeltQuoteOnchain(SOMEBODY, 20_000)
assert.deepEqual([melt.selected_fee_index, melt.outpoint], [null, null])
const [option] = melt.fee_options
const needed = 20_000 + Number(option.fee_reserve)
const { send, keep } = await wallet.send(needed, proofs, { includeFees: true })
const { quote: pending, outputData } = await wallet.meltProofsOnchain(melt, send, option.fee_index)
assert.equal(pending.state, 'PENDING')
assert.equal(await state(wallet, send), 'PENDING')
const look = () => get(`/v1/melt/quote/onchain/${melt.quote}`)
await until(async () => (await look()).outpoint !== null)
assert.equal((await look()).state, 'PENDING')
await mine()
await until(async () => (await look()).state === 'PAID')
const paid = await look()
assert.equal(paid.selected_fee_index, option.fee_index)
const [txid, vout] = paid.outpoint.split(':')
const { amount, script } = await node('getutxout', { txid, vout: Number(vout) })
assert.deepEqual([amount, script], ['20000sat', '0014000102030405060708090a0b0c0d0e0f10111213'])
assert.equal(await state(wallet, send), 'SPENT')
const change = wallet.createMeltChangeProofs(outputData, paid.change ?? [])
const cost = sum(send) - fee(wallet, send) - sum(change) - 20_000
assert(0 < cost && cost <= Number(option.fee_reserve), `the payment cost ${cost}`)
proofs = [...keep, ...change]
assert.equal(sum(await wallet.receive(proofs)), sum(proofs) - fee(wallet, proofs))
