// Ecash whose signature covers the whole transaction (NUT-11, SIG_ALL), in swap and melt.
import { assert, cashu, invoice, key, lock, open, refused, state, sum } from '../lib.mjs'

const wallet = await open()
const bob = key()
const options = new cashu.P2PKBuilder().addLockPubkey(bob.pubkey).sigAll().toOptions()

const send = await lock(wallet, 64, options)
const swap = await wallet.prepareSwapToReceive(send)
const { message } = await refused(wallet.completeSwap(swap, key().secret), 20008)
assert.match(message.toLowerCase(), /no witness|signatures not provided/)
// A signature for each proof is not one for all.
await refused(wallet.completeSwap({ ...swap, inputs: cashu.signP2PKProofs(swap.inputs, bob.secret) }), 20008)
assert.equal(await state(wallet, send), 'UNSPENT')
const { keep } = await wallet.completeSwap(swap, bob.secret)
assert.equal(sum(keep), 64)

const more = await lock(wallet, 64, options)
const quote = await wallet.createMeltQuoteBolt11((await invoice(40)).bolt11)
const melt = await wallet.prepareMelt('bolt11', quote, more)
await refused(wallet.completeMelt(melt, key().secret), 20008)
const melted = await wallet.completeMelt(melt, bob.secret)
assert.equal(melted.quote.state, 'PAID')
assert.equal(await state(wallet, more), 'SPENT')
