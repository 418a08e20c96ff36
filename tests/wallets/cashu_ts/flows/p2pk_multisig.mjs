// Ecash that needs two of three keys (NUT-11).
import { assert, cashu, key, lock, open, refused, sum } from '../lib.mjs'

const wallet = await open()
const [a, b, c] = [key(), key(), key()]
const two = new cashu.P2PKBuilder().addLockPubkey([a.pubkey, b.pubkey, c.pubkey]).requireLockSignatures(2)

const send = await lock(wallet, 32, two.toOptions())
await refused(wallet.receive(send, { privkey: a.secret }), 20008)
await refused(wallet.receive(send, { privkey: [a.secret, key().secret] }), 20008)
const [signed] = cashu.signP2PKProofs(send, a.secret)
const [signature] = cashu.getP2PKWitnessSignatures(signed.witness)
await refused(wallet.receive([{ ...signed, witness: { signatures: [signature, signature] } }]), 20008)
assert.equal(sum(await wallet.receive(send, { privkey: [a.secret, c.secret] })), 32)

const all = await lock(wallet, 32, two.sigAll().toOptions())
const swap = await wallet.prepareSwapToReceive(all)
await refused(wallet.completeSwap(swap, b.secret), 20008)
const { keep } = await wallet.completeSwap(swap, [b.secret, c.secret])
assert.equal(sum(keep), 32)
