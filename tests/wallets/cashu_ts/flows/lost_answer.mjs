// Answers that get lost on the way (NUT-19): the library sends the request again, and gets the same answer.
import { assert, fee, invoice, open, pay, sum } from '../lib.mjs'

const wallet = await open()
const fetch = globalThis.fetch
let lost
/** The mint does the work, but its answer to the next request for this path is lost. */
const lose = path => {
  lost = []
  globalThis.fetch = async (url, request) => {
    const response = await fetch(url, request)
    if (!String(url).endsWith(path)) return response
    lost.push(await response.clone().text())
    if (lost.length === 1) throw new TypeError('fetch failed')
    return response
  }
}
const same = () => {
  globalThis.fetch = fetch
  assert.equal(lost.length, 2)
  assert.equal(lost[0], lost[1])
}

const quote = await wallet.createMintQuoteBolt11(500)
await pay(wallet, quote)
lose('/v1/mint/bolt11')
const proofs = await wallet.mintProofsBolt11(500, quote)
same()
assert.equal(sum(proofs), 500)

lose('/v1/swap')
const swapped = await wallet.receive(proofs)
same()
assert.equal(sum(swapped), 500 - fee(wallet, proofs))

const melt = await wallet.createMeltQuoteBolt11((await invoice(100)).bolt11)
lose('/v1/melt/bolt11')
const { quote: paid, change } = await wallet.meltProofsBolt11(melt, swapped)
same()
assert.equal(paid.state, 'PAID')
assert.equal(sum(await wallet.receive(change)), sum(change) - fee(wallet, change))

const quotes = [await wallet.createMintQuoteBolt11(5), await wallet.createMintQuoteBolt11(6)]
for (const quote of quotes) await pay(wallet, quote)
const entries = quotes.map((quote, index) => ({ amount: 5 + index, quote }))
lose('/v1/mint/bolt11/batch')
assert.equal(sum(await wallet.completeBatchMint(await wallet.prepareBatchMint('bolt11', entries))), 11)
same()
