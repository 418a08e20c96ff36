// Ecash locked to a key (NUT-11): only its holder can spend it, by swap and by melt.
import { assert, cashu, invoice, key, lock, open, refused, state, sum } from '../lib.mjs'

const wallet = await open()
const bob = key()
const options = new cashu.P2PKBuilder().addLockPubkey(bob.pubkey).addTag('memo', 'for Bob').toOptions()

const send = await lock(wallet, 64, options)
assert(send.every(({ secret }) => JSON.parse(secret)[1].data === bob.pubkey))
const { message } = await refused(wallet.receive(send, { privkey: key().secret }), 20008)
assert.match(message.toLowerCase(), /witness.*p2pk.*signature/)
const forged = { signatures: ['0'.repeat(128)] }
await refused(wallet.receive(send.map(proof => ({ ...proof, witness: forged }))), 20008)
assert.equal(await state(wallet, send), 'UNSPENT')

assert.equal(sum(await wallet.receive(send, { privkey: bob.secret })), 64)
for (const { state, witness } of await wallet.checkProofsStates(send)) {
  assert.equal(state, 'SPENT')
  assert.equal(JSON.parse(witness).signatures.length, 1)
}

const more = await lock(wallet, 64, options)
const quote = await wallet.createMeltQuoteBolt11((await invoice(40)).bolt11)
await refused(wallet.meltProofsBolt11(quote, more, { privkey: key().secret }), 20008)
const melted = await wallet.meltProofsBolt11(quote, more, { privkey: bob.secret })
assert.equal(melted.quote.state, 'PAID')
assert.equal(await state(wallet, more), 'SPENT')

// The same lock with Bob's key blinded (NUT-28): the mint sees another key for each proof.
const blinded = await lock(wallet, 64, new cashu.P2PKBuilder().addLockPubkey(bob.pubkey).blindKeys().toOptions())
assert(blinded.every(({ secret }) => JSON.parse(secret)[1].data !== bob.pubkey))
await refused(wallet.receive(blinded, { privkey: key().secret }), 20008)
assert.equal(sum(await wallet.receive(blinded, { privkey: bob.secret })), 64)
