// A quote that only the holder of a key can use (NUT-20), by today's message and by the older one.
import { assert, cashu, key, open, pay, refused, sum } from '../lib.mjs'

const wallet = await open()
const owner = key()
const quote = await wallet.createLockedMintQuote(100, owner.pubkey)
assert.equal(quote.pubkey, owner.pubkey)
await pay(wallet, quote)
assert.equal(sum(await wallet.mintProofsBolt11(100, quote, { privkey: owner.secret })), 100)

const second = await wallet.createLockedMintQuote(100, owner.pubkey)
await pay(wallet, second)
const preview = await wallet.prepareMint('bolt11', 100, second, { privkey: owner.secret })
const { outputs } = preview.payload
const unsigned = { quote: second.quote, outputs }
await refused(wallet.mint.mintBolt11(unsigned), 20008)
const forged = cashu.signMintQuote(key().secret, second.quote, outputs)
await refused(wallet.mint.mintBolt11({ ...unsigned, signature: forged }), 20008)
const message = second.quote + outputs.map(({ B_ }) => B_).join('')
const { signatures } = await wallet.mint.mintBolt11({
  ...unsigned,
  signature: cashu.schnorrSignMessage(message, owner.secret),
})
assert.equal(signatures.length, outputs.length)
