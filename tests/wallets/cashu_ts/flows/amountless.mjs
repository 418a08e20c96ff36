// An invoice that leaves the amount to its payer (NUT-23), and one of which somebody else pays a part (NUT-15).
import { assert, fund, invoice, node, open, refused } from '../lib.mjs'

const wallet = await open()
const proofs = await fund(wallet, 500)
const { bolt11, payment_hash } = await invoice('any')
await refused(wallet.createMeltQuoteBolt11(bolt11), 11011)
const quote = await wallet.createMeltQuoteBolt11(bolt11, 123_000)
assert.equal(quote.amount.toNumber(), 123)
const { change } = await wallet.meltProofsBolt11(quote, proofs)
const [row] = (await node('listsendpays', { payment_hash })).payments
assert.equal(row.amount_msat, 123_000)

const shared = await invoice(100)
const part = await wallet.createMultiPathMeltQuote(shared.bolt11, 40_000)
assert.equal(part.amount.toNumber(), 40)
const melt = wallet.meltProofsBolt11(part, change)
await node('sandbox-pay', { bolt11: shared.bolt11, amount_msat: 60_000 })
assert.equal((await melt).quote.state, 'PAID')
const [sent] = (await node('listsendpays', { payment_hash: shared.payment_hash })).payments
assert.equal(sent.amount_msat, 40_000)
await refused(wallet.createMultiPathMeltQuote((await invoice(100)).bolt11, 100_001), 11012)
