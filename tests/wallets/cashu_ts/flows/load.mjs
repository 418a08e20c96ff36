// Info, keysets and keys, and what a wallet concludes from them.
import { MINT_URL, assert, cashu, open } from '../lib.mjs'

const wallet = await open()
const info = wallet.getMintInfo()
assert.equal(info.name, 'Nutbolt')
assert.match(info.version, /^Nutbolt\//)
assert.equal(info.pubkey.length, 66)
for (const nut of [7, 8, 9, 10, 11, 12, 14, 20]) assert.equal(info.isSupported(nut).supported, true, `NUT-${nut}`)
for (const nut of [4, 5]) {
  const { disabled, params } = info.isSupported(nut)
  assert.equal(disabled, false)
  assert(params.some(({ method, unit }) => method === 'bolt11' && unit === 'sat'))
}
for (const nut of [15, 17, 19]) assert.equal(info.isSupported(nut).supported, true, `NUT-${nut}`)

// The library has derived the id of the keyset from its keys; one that differs would not be here.
const { keysets } = await new cashu.Mint(MINT_URL).getKeySets()
const keyset = wallet.keyChain.getCheapestKeyset()
assert.equal(keyset.id.slice(0, 2), '01')
assert.equal(keyset.fee, Number(process.env.INPUT_FEE_PPK))
const amounts = Object.keys(keyset.keys)
assert.deepEqual(amounts, amounts.map((_, place) => String(2n ** BigInt(place))))
assert(amounts.length > 50)
assert(keysets.some(({ id, active }) => id === keyset.id && active))
const { keysets: [single] } = await new cashu.Mint(MINT_URL).getKeys(keyset.id)
assert.deepEqual(single.keys, keyset.keys)
