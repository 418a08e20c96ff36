// Ecash found again with nothing but the seed (NUT-09, NUT-13), in batches.
import { assert, fee, fund, invoice, open, randomBytes, sum } from '../lib.mjs'

const seed = randomBytes(64)
const wallet = await open({ bip39seed: seed })
const proofs = await fund(wallet, 500)
const { keep, send } = await wallet.send(77, proofs, { includeFees: true })
await (await open()).receive(send)
const quote = await wallet.createMeltQuoteBolt11((await invoice(100)).bolt11)
const { change } = await wallet.meltProofsBolt11(quote, keep)
assert(sum(change) > 0)

const found = await open({ bip39seed: seed })
const restore = wallet =>
  typeof wallet.restoreAll === 'function' // since v5
    ? wallet.batchRestore({ gapLimit: 20, batchSize: 10 })
    : wallet.batchRestore(20, 10)
const restored = await restore(found)
const { unspent } = await found.groupProofsByState(restored.proofs)
const secrets = proofs => proofs.map(({ secret }) => secret).sort()
assert.deepEqual(secrets(unspent), secrets(change))

// The wallet goes on behind what it has found.
await found.counters.advanceToAtLeast(found.keysetId, restored.lastCounterWithSignature + 1)
assert.equal(sum(await found.receive(unspent)), sum(change) - fee(found, unspent))

assert.deepEqual((await restore(await open({ bip39seed: randomBytes(64) }))).proofs, [])
