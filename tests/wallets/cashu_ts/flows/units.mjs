// A second unit: ecash in millisatoshis.
import { assert, cashu, fee, fund, invoice, open, refused, sum } from '../lib.mjs'

const wallet = await open({ unit: 'msat' })
const sats = await open()
const proofs = await fund(wallet, 50_000)
assert.equal(sum(proofs), 50_000)
assert.notEqual(proofs[0].id, sats.getKeyset().id)

const quote = await wallet.createMeltQuoteBolt11((await invoice(10)).bolt11)
assert.equal(quote.amount.toNumber(), 10_000)
const { change } = await wallet.meltProofsBolt11(quote, proofs)
const cost = 50_000 - 10_000 - fee(wallet, proofs) - sum(change)
assert(cost >= 0 && cost <= quote.fee_reserve.toNumber(), `${cost}`)

// Ecash of one unit is none of the other.
const outputs = keysetId => [cashu.OutputData.createSingleRandomData(8, keysetId).blindedMessage]
const [sat, msat] = [await fund(sats, 8), await fund(wallet, 1024)]
await refused(wallet.mint.swap({ inputs: msat, outputs: outputs(sats.getKeyset().id) }), 11010)
await refused(wallet.mint.swap({ inputs: [...sat, ...msat], outputs: outputs(sat[0].id) }), 11009)
