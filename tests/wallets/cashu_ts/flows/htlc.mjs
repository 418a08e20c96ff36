// Ecash for whoever knows a preimage (NUT-14), with a key beside it or without.
import { assert, cashu, invoice, key, lock, now, open, refused, state, sum } from '../lib.mjs'

const wallet = await open()
const [alice, bob] = [key(), key()]
const { hash, preimage } = cashu.createHTLCHash()
const wrong = cashu.createHTLCHash().preimage
const hashlock = () => new cashu.P2PKBuilder().addHashlock(hash)
const knowing = (proofs, preimage) => proofs.map(proof => ({ ...proof, witness: { preimage } }))
const refusal = 20008

const keyed = await lock(wallet, 64, hashlock().addLockPubkey(bob.pubkey).toOptions())
await refused(wallet.receive(knowing(keyed, wrong), { privkey: bob.secret }), refusal)
await refused(wallet.receive(knowing(keyed, preimage), { privkey: alice.secret }), refusal)
await refused(wallet.receive(keyed, { privkey: bob.secret }), refusal)
assert.equal(await state(wallet, keyed), 'UNSPENT')
assert.equal(sum(await wallet.receive(knowing(keyed, preimage), { privkey: bob.secret })), 64)
for (const { witness } of await wallet.checkProofsStates(keyed)) assert.equal(JSON.parse(witness).preimage, preimage)

const more = await lock(wallet, 64, hashlock().addLockPubkey(bob.pubkey).toOptions())
const quote = await wallet.createMeltQuoteBolt11((await invoice(40)).bolt11)
const melted = await wallet.meltProofsBolt11(quote, knowing(more, preimage), { privkey: bob.secret })
assert.equal(melted.quote.state, 'PAID')

const back = hashlock().addLockPubkey(bob.pubkey).addRefundPubkey(alice.pubkey)
const expired = await lock(wallet, 64, back.lockUntil(now() - 60).toOptions())
assert.equal(sum(await wallet.receive(expired, { privkey: alice.secret })), 64)
