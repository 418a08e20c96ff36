// Payments that fail: the ecash is free again at once, and good.
import { assert, cashu, decide, fee, fund, invoice, open, refused, state, sum, until } from '../lib.mjs'

const wallet = await open()
const proofs = await fund(wallet, 1000)

// In the background, on its way for a while.
const { bolt11, payment_hash } = await invoice(300, 'hold')
const quote = await wallet.createMeltQuoteBolt11(bolt11)
const preview = await wallet.prepareMelt('bolt11', quote, proofs)
assert.equal((await wallet.completeMelt(preview, undefined, { preferAsync: true })).quote.state, 'PENDING')
const seen = []
await wallet.on.meltQuoteUpdates([quote.quote], ({ state }) => seen.push(state), assert.fail)
await until(() => seen.length === 1)
await decide(payment_hash, 'sandbox-fail')
await until(() => seen.at(-1) === 'UNPAID')
assert.equal(await state(wallet, proofs), 'UNSPENT')
assert.equal((await wallet.checkMeltQuoteBolt11(quote.quote)).state, 'UNPAID')

// The same quote again, with the same ecash and the same outputs.
const again = await wallet.completeMelt(preview)
assert.equal(again.quote.state, 'PAID')
assert.equal(await state(wallet, proofs), 'SPENT')

// While the wallet waits.
for (const behaviour of ['failure', 'noroute']) {
  const other = await wallet.createMeltQuoteBolt11((await invoice(300, behaviour)).bolt11)
  await refused(wallet.meltProofsBolt11(other, again.change), 20004)
  assert.equal(await state(wallet, again.change), 'UNSPENT')
}
// A failure before the first part, in the background: no event of the node tells of it.
const none = await wallet.createMeltQuoteBolt11((await invoice(300, 'noroute')).bolt11)
const answer = await wallet.completeMelt(await wallet.prepareMelt('bolt11', none, again.change), undefined, {
  preferAsync: true,
}).catch(error => error)
assert(answer instanceof cashu.MintOperationError ? answer.code === 20004 : answer.quote.state === 'PENDING')
await until(async () => (await wallet.checkMeltQuoteBolt11(none.quote)).state === 'UNPAID')
assert.equal(await state(wallet, again.change), 'UNSPENT')
assert.equal(sum(await wallet.receive(again.change)), sum(again.change) - fee(wallet, again.change))
