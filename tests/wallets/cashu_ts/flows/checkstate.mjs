// The state of many proofs, asked for in batches, and pushed as it changes.
import { assert, fund, open, sum, until } from '../lib.mjs'

const wallet = await open()
const proofs = await fund(wallet, 130, { type: 'random', denominations: Array(130).fill(1) })
assert.equal(proofs.length, 130)

const watched = proofs.slice(0, 4)
const seen = new Map()
await wallet.on.proofStateUpdates(
  watched,
  ({ proof, state }) => seen.set(proof.secret, [...(seen.get(proof.secret) ?? []), state]),
  assert.fail,
)
await until(() => seen.size === watched.length)
const { unspent } = await wallet.groupProofsByState(proofs)
assert.equal(unspent.length, 130)
const fresh = await wallet.receive(proofs.slice(0, 10))
await until(() => [...seen.values()].every(states => states.length === 2))
for (const states of seen.values()) assert.deepEqual(states, ['UNSPENT', 'SPENT'])

const groups = await wallet.groupProofsByState([...proofs, ...fresh])
assert.equal(sum(groups.spent), 10)
assert.equal(groups.pending.length, 0)
assert.equal(groups.unspent.length, 120 + fresh.length)
