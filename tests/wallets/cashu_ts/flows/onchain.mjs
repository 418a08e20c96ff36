// An address that is paid twice, and a payment to another one: both take blocks (NUT-30).
import { assert, fee, get, key, node, open, refused, state, sum, until } from '../lib.mjs'

const CONFIRMATIONS = 3
const wallet = await open()
const mine = blocks => node('sandbox-mine', { blocks })
await node('sandbox-coins', { count: 3 })

// --- mint ---
const owner = key()
let quote = await wallet.createMintQuoteOnchain(owner.pubkey)
const credited = async amount => Number((await wallet.checkMintQuoteOnchain(quote.quote)).amount_paid) === amount
assert.equal(quote.pubkey, owner.pubkey)
await node('sandbox-deposit', { address: quote.request, satoshi: 60_000 })
await mine(CONFIRMATIONS - 1)
assert(await credited(0))
await mine(1)
await until(() => credited(60_000))
quote = await wallet.checkMintQuoteOnchain(quote.quote)
const first = await wallet.mintProofsOnchain(50_000, quote, owner.secret)
assert.equal(sum(first), 50_000)
await node('sandbox-deposit', { address: quote.request, satoshi: 20_000 })
await mine(CONFIRMATIONS)
await until(() => credited(80_000))
quote = await wallet.checkMintQuoteOnchain(quote.quote)
const proofs = [...first, ...(await wallet.mintProofsOnchain(30_000, quote, owner.secret))]
assert.equal(sum(proofs), 80_000)

// --- melt ---
const { p2tr: address } = await node('newaddr', { addresstype: 'p2tr' })
await refused(wallet.createMeltQuoteOnchain('bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4', 20_000), 20000)
const melt = await wallet.createMeltQuoteOnchain(address, 20_000)
const [option] = melt.fee_options
assert.equal(option.fee_index, 0)
const { send } = await wallet.send(20_000 + Number(option.fee_reserve), proofs, { includeFees: true })
const pending = await wallet.meltProofsOnchain(melt, send, 0)
assert.equal(pending.quote.state, 'PENDING')
assert.equal(await state(wallet, send), 'PENDING')
await until(async () => (await wallet.checkMeltQuoteOnchain(melt.quote)).outpoint)
await mine(CONFIRMATIONS)
await until(async () => (await wallet.checkMeltQuoteOnchain(melt.quote)).state === 'PAID')
assert.equal(await state(wallet, send), 'SPENT')

const paid = await wallet.checkMeltQuoteOnchain(melt.quote)
const [txid, vout] = paid.outpoint.split(':')
const { outputs } = await node('listfunds')
const received = outputs.find(output => output.txid === txid && output.output === Number(vout))
assert.deepEqual([received.address, received.amount_msat, received.status], [address, 20_000_000, 'confirmed'])
const change = wallet.createMeltChangeProofs(pending.outputData ?? [], paid.change ?? [])
const spent = sum(send) - fee(wallet, send) - sum(change)
assert(spent > 20_000 && spent < 20_000 + Number(option.fee_reserve), `${spent}`)
assert.equal((await get(`/v1/melt/quote/onchain/${melt.quote}`)).selected_fee_index, 0)
