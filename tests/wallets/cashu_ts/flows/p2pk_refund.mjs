// Ecash that goes back to its sender after a time (NUT-11).
import { assert, cashu, key, lock, now, open, refused, sleep, sum } from '../lib.mjs'

const wallet = await open()
const [alice, bob] = [key(), key()]
const until = when => new cashu.P2PKBuilder().addLockPubkey(bob.pubkey).lockUntil(when)

const open_at = now() + 3
const send = await lock(wallet, 32, until(open_at).addRefundPubkey(alice.pubkey).toOptions())
const late = await lock(wallet, 32, until(now() + 3600).addRefundPubkey(alice.pubkey).toOptions())
const both = await lock(wallet, 32, until(now() - 60).addRefundPubkey(alice.pubkey).toOptions())
const free = await lock(wallet, 32, until(now() - 60).toOptions())

await refused(wallet.receive(late, { privkey: alice.secret }), 20008)
assert.equal(sum(await wallet.receive(late, { privkey: bob.secret })), 32)
assert.equal(sum(await wallet.receive(both, { privkey: bob.secret })), 32)
assert.equal(sum(await wallet.receive(free)), 32)

await sleep(Math.max(0, (open_at + 1) * 1000 - Date.now()))
await refused(wallet.receive(send), 20008)
assert.equal(sum(await wallet.receive(send, { privkey: alice.secret })), 32)
