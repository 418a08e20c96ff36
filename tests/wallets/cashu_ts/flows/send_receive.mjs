// Ecash from one wallet to another, as a token, and every fee in its place.
import { MINT_URL, assert, cashu, fee, fund, open, refused, state, sum } from '../lib.mjs'

const alice = await open()
const bob = await open({ requireSigDleq: true })
const proofs = await fund(alice, 1000)

const { keep, send } = await alice.send(77, proofs, { includeFees: true })
const untouched = new Set(keep.map(({ secret }) => secret))
const inputs = proofs.filter(({ secret }) => !untouched.has(secret))
assert.equal(sum(send), 77 + fee(alice, send))
assert.equal(sum(keep) + sum(send), 1000 - fee(alice, inputs))

const token = cashu.getEncodedToken({ mint: MINT_URL, proofs: send, unit: 'sat', memo: 'a memo' })
assert.match(token, /^cashuB/)
const received = await bob.receive(token, { requireDleq: true })
assert.equal(sum(received), 77)
assert.equal(await state(bob, send), 'SPENT')
assert.equal(await state(bob, received), 'UNSPENT')
assert.equal(await state(alice, keep), 'UNSPENT')
await refused(alice.receive(token), 11001)

// Everything into small ones: many outputs at once.
const small = await bob.receive(received, {}, { type: 'random', denominations: Array(40).fill(1) })
assert.equal(sum(small), 77 - fee(bob, received))
assert(small.length > 40)

// A proof that was tampered with is worth nothing, and spoils nothing.
const [first, ...rest] = small.map(({ id, amount, secret, C }) => ({ id, amount, secret, C }))
await refused(alice.receive([{ ...first, secret: `${first.secret}!` }, ...rest]), 10001)
assert.equal(await state(bob, small), 'UNSPENT')
