// Refusals reach the wallet as what they are: the error codes of the NUTs.
import { cashu, fee, fund, invoice, key, open, refused } from '../lib.mjs'

const wallet = await open()
const { mint } = wallet
const { id } = wallet.getKeyset()
const nowhere = `01${'0'.repeat(64)}`
const funded = await fund(wallet, 128, { type: 'random', denominations: [32, 32, 32, 32] })
const proofs = funded.map(({ id, amount, secret, C }) => ({ id, amount, secret, C }))
const [one, two] = proofs
const outputs = (...amounts) =>
  amounts.map(amount => cashu.OutputData.createSingleRandomData(amount, id).blindedMessage)
const swap = (inputs, outputs) => mint.swap({ inputs, outputs })
const quote = async () => (await wallet.createMintQuoteBolt11(1)).quote

// Quotes.
await refused(mint.checkMintQuoteBolt11('nothing'), 20000)
await refused(mint.checkMeltQuoteBolt11('nothing'), 20000)
await refused(mint.createMintQuoteBolt11({ amount: 1, unit: 'usd' }), 11013)
await refused(mint.createMintQuoteBolt11({ amount: 1_000_001, unit: 'sat' }), 11006)
await refused(mint.createMintQuoteBolt11({ amount: 1, unit: 'sat', pubkey: `04${'1'.repeat(64)}` }), 20009)
await refused(mint.createMeltQuoteBolt11({ request: (await invoice(1)).bolt11, unit: 'usd' }), 11013)
await refused(mint.createMeltQuoteBolt11({ request: 'lnbcrt1nonsense', unit: 'sat' }), 20000)
await refused(mint.createMeltQuoteBolt11({ request: (await invoice('any')).bolt11, unit: 'sat' }), 11011)
const unpaid = await quote()
await refused(mint.mintBolt11({ quote: unpaid, outputs: outputs(1) }), 20001)
const batch = (quotes, ...outputs) =>
  mint.mintBatch('bolt11', { quotes, quote_amounts: quotes.map(() => 1), outputs })
await refused(batch([unpaid, unpaid], ...outputs(2)), 11016)
await refused(batch(Array.from({ length: 101 }, (_, n) => `${n}`), ...outputs(1)), 11017)

// Inputs and outputs.
await refused(mint.getKeys(nowhere), 12001)
await refused(swap([{ ...one, id: nowhere }], outputs(32)), 12001)
await refused(swap([one], [{ ...outputs(32)[0], id: nowhere }]), 12001)
await refused(swap([{ ...one, C: key().pubkey }], outputs(32)), 10001)
await refused(swap([one, one], outputs(64)), 11007)
const [output] = outputs(32)
await refused(swap([one, two], [output, output]), 11008)
await refused(swap([one], outputs(32, 1)), 11005)
await refused(swap([one], outputs(16)), 11005)
await refused(swap(Array(1001).fill(one), outputs(32)), 11014)
await refused(swap([one], Array(1001).fill(output)), 11015)
await refused(mint.check({ Ys: [`02${'f'.repeat(64)}`] }), 11000)

// What happened before.
const all = outputs(32 - fee(wallet, [one]))
await swap([one], all)
await refused(swap([one], outputs(32)), 11001)
await refused(swap([two], all), 11003)
