// A quote, the WebSocket that says it is paid, and the ecash for it.
import { PATIENCE_MS, assert, cashu, fund, get, open, pay, refused, sum, until } from '../lib.mjs'

const { MintQuoteState } = cashu
const wallet = await open({ requireSigDleq: true })
const quote = await wallet.createMintQuoteBolt11(1337, 'thirteen')
assert.equal(quote.state, MintQuoteState.UNPAID)
assert.match(quote.request, /^lnbcrt13370n1/)
await refused(wallet.mintProofsBolt11(1337, quote), 20001)

const states = []
const cancel = await wallet.on.mintQuoteUpdates([quote.quote], ({ state }) => states.push(state), assert.fail)
await until(() => states.length === 1)
const paid = await pay(wallet, quote)
assert.equal(paid.state, MintQuoteState.PAID)
assert.deepEqual(await get(`/v1/mint/quote/bolt11/${quote.quote}`), paid)

const proofs = await wallet.mintProofsBolt11(1337, quote)
assert.equal(sum(proofs), 1337)
assert.equal((await wallet.checkMintQuoteBolt11(quote.quote)).state, MintQuoteState.ISSUED)
assert(proofs.every(proof => cashu.hasValidDleq(proof, wallet.getKeyset(proof.id), { require: true })))
await refused(wallet.mintProofsBolt11(1337, quote), 20002)

await until(() => states.length === 3)
assert.deepEqual(states, [MintQuoteState.UNPAID, MintQuoteState.PAID, MintQuoteState.ISSUED])
cancel()

// Whichever of several is paid first.
const quotes = [await wallet.createMintQuoteBolt11(1), await wallet.createMintQuoteBolt11(2)]
const any = wallet.on.onceAnyMintPaid(quotes.map(({ quote }) => quote), { timeoutMs: PATIENCE_MS })
await pay(wallet, quotes[1])
assert.equal((await any).id, quotes[1].quote)

assert.equal(sum(await fund(wallet, 1)), 1)
