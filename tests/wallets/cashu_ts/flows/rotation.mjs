// A new keyset while wallets hold ecash of the old one, and while they do not know of it.
import { PATIENCE_MS, assert, cashu, fee, fund, invoice, node, open, state, sum } from '../lib.mjs'

const wallet = await open()
const proofs = await fund(wallet, 500)
const old = wallet.getKeyset()
const held = await wallet.createMintQuoteBolt11(64)

await node('cashu-rotate', { unit: 'sat', input_fee_ppk: old.fee + 200 })

// The wallet still makes outputs of the old keyset: refused as inactive, and nothing is lost.
const stale = await wallet.receive(proofs).catch(error => error)
const told = stale instanceof cashu.MintOperationError ? stale : stale.cause
assert(told instanceof cashu.MintOperationError, stale)
assert.equal(told.code, 12002)
assert.equal(await state(wallet, proofs), 'UNSPENT')

await wallet.loadMint(true)
const fresh = wallet.keyChain.getCheapestKeyset()
assert.notEqual(fresh.id, old.id)
assert.equal(fresh.fee, old.fee + 200)
const known = wallet.keyChain.getKeysets().find(({ id }) => id === old.id)
assert.equal(known.isActive, false)
assert.equal(known.fee, old.fee)

const wallet2 = await open()
await wallet2.keyChain.ensureKeysetKeys(old.id)
const swapped = await wallet2.receive(proofs.slice(0, 2))
assert.equal(sum(swapped), sum(proofs.slice(0, 2)) - fee(wallet2, proofs.slice(0, 2)))
assert(swapped.every(({ id }) => id === fresh.id))

// Ecash of both keysets in one melt, each with its fee.
const both = [...proofs.slice(2), ...swapped]
const quote = await wallet2.createMeltQuoteBolt11((await invoice(50)).bolt11)
const { change } = await wallet2.meltProofsBolt11(quote, both)
assert(change.every(({ id }) => id === fresh.id))
const cost = sum(both) - sum(change) - 50 - fee(wallet2, both)
assert(cost >= 0 && cost <= quote.fee_reserve.toNumber(), `${cost}`)

// A quote from before is minted with the new keyset.
await node('sandbox-pay', { bolt11: held.request })
await wallet2.on.onceMintPaid(held.quote, { timeoutMs: PATIENCE_MS })
assert((await wallet2.mintProofsBolt11(64, held)).every(({ id }) => id === fresh.id))
