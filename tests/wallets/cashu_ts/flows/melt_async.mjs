// An invoice paid in the background: PENDING at once, then the WebSocket, and the change in the quote.
import {
  PATIENCE_MS, assert, decide, fee, fund, get, invoice, node, open, refused, sha256, state, sum, until,
} from '../lib.mjs'

const wallet = await open()
const proofs = await fund(wallet, 1000)
const { bolt11, payment_hash } = await invoice(300, 'hold')
const quote = await wallet.createMeltQuoteBolt11(bolt11)
const seen = []
await wallet.on.meltQuoteUpdates([quote.quote], ({ state }) => seen.push(state), assert.fail)
await until(() => seen.length === 1)

const preview = await wallet.prepareMelt('bolt11', quote, proofs)
const pending = await wallet.completeMelt(preview, undefined, { preferAsync: true })
assert.equal(pending.quote.state, 'PENDING')
assert.equal(pending.change.length, 0)
assert.equal(await state(wallet, proofs), 'PENDING')
await refused(wallet.receive(proofs), 11002)
await refused(wallet.createMeltQuoteBolt11(bolt11), 20005)

const paid = wallet.on.onceMeltPaid(quote.quote, { timeoutMs: PATIENCE_MS })
await decide(payment_hash, 'sandbox-release')
const final = await paid
assert.equal(sha256(Buffer.from(final.payment_preimage, 'hex')), payment_hash)
assert.deepEqual(await get(`/v1/melt/quote/bolt11/${quote.quote}`), final)
await until(() => seen.length === 3)
assert.deepEqual(seen, ['UNPAID', 'PENDING', 'PAID'])
assert.equal(await state(wallet, proofs), 'SPENT')

const change = wallet.createMeltChangeProofs(preview.outputData, final.change)
const [row] = (await node('listsendpays', { payment_hash })).payments
const routing = Math.ceil((row.amount_sent_msat - row.amount_msat) / 1000)
assert.equal(sum(change), 1000 - 300 - routing - fee(wallet, proofs))
assert.equal(sum(await wallet.receive(change)), sum(change) - fee(wallet, change))
