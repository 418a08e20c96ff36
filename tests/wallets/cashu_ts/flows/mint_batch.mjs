// Several quotes minted at once (NUT-29), some of them locked (NUT-20).
import { assert, key, open, pay, refused, sum } from '../lib.mjs'

const wallet = await open()
const owner = key()
const quotes = [
  await wallet.createMintQuoteBolt11(100),
  await wallet.createLockedMintQuote(20, owner.pubkey),
  await wallet.createMintQuoteBolt11(3),
]
const states = async () => (await wallet.checkMintQuoteBatchBolt11(quotes)).map(({ state }) => state)
assert.deepEqual(await states(), ['UNPAID', 'UNPAID', 'UNPAID'])
const entries = quotes.map((quote, index) => ({ amount: [100, 20, 3][index], quote }))
const batch = () => wallet.prepareBatchMint('bolt11', entries, { privkey: owner.secret })
await refused(wallet.completeBatchMint(await batch()), 20001)
for (const quote of quotes) await pay(wallet, quote)
assert.deepEqual(await states(), ['PAID', 'PAID', 'PAID'])

const prepared = await batch()
const proofs = await wallet.completeBatchMint(prepared)
assert.equal(sum(proofs), 123)
assert.deepEqual(await states(), ['ISSUED', 'ISSUED', 'ISSUED'])
assert.deepEqual(await wallet.completeBatchMint(prepared), proofs)
await refused(wallet.completeBatchMint(await batch()), 20002)
