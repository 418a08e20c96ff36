// An invoice paid with ecash while the wallet waits: preimage, change, and what it cost.
import { PATIENCE_MS, assert, fee, fund, invoice, node, open, refused, sha256, state, sum } from '../lib.mjs'

const wallet = await open()
const proofs = await fund(wallet, 1000)
const { bolt11, payment_hash } = await invoice(300)
const quote = await wallet.createMeltQuoteBolt11(bolt11)
assert.equal(quote.amount.toNumber(), 300)
assert.equal(quote.state, 'UNPAID')

const melted = await wallet.meltProofsBolt11(quote, proofs)
assert.equal(melted.quote.state, 'PAID')
assert.equal(sha256(Buffer.from(melted.quote.payment_preimage, 'hex')), payment_hash)
const [row] = (await node('listsendpays', { payment_hash })).payments
const routing = Math.ceil((row.amount_sent_msat - row.amount_msat) / 1000)
assert(routing <= quote.fee_reserve.toNumber())
assert.equal(sum(melted.change), 1000 - 300 - routing - fee(wallet, proofs))
assert.equal(await state(wallet, proofs), 'SPENT')
assert.equal(await state(wallet, melted.change), 'UNSPENT')
assert.equal((await wallet.checkMeltQuoteBolt11(quote.quote)).payment_preimage, melted.quote.payment_preimage)

await refused(wallet.createMeltQuoteBolt11(bolt11), 20006)
await refused(wallet.meltProofsBolt11(quote, melted.change), 20006)

// Exactly what the quote asks for, with nothing over.
const tight = await wallet.createMeltQuoteBolt11((await invoice(200)).bolt11)
const needed = tight.amount.add(tight.fee_reserve)
const { send, keep } = await wallet.send(needed, melted.change, { includeFees: true })
const { change } = await wallet.meltProofsBolt11(tight, send)
assert(sum(change) <= tight.fee_reserve.toNumber())

// The mint's own invoice: paid within the node, without a fee.
const mine = await wallet.createMintQuoteBolt11(100)
const inside = await wallet.createMeltQuoteBolt11(mine.request)
assert.equal(inside.fee_reserve.toNumber(), 0)
assert.equal((await wallet.meltProofsBolt11(inside, keep)).quote.state, 'PAID')
await wallet.on.onceMintPaid(mine.quote, { timeoutMs: PATIENCE_MS })
assert.equal(sum(await wallet.mintProofsBolt11(100, mine)), 100)
