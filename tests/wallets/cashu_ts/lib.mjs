// What the flows share: the library, the node that the mint lives in, and ecash to begin with.
// From outside come MINT_URL, NODE_SOCKET (lightning-rpc of the node) and CASHU_TS (the module to test).
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import net from 'node:net'

export const cashu = await import(process.env.CASHU_TS)
export const MINT_URL = process.env.MINT_URL
export const PATIENCE_MS = 30_000
export { assert, randomBytes }

export const hex = bytes => Buffer.from(bytes).toString('hex')
export const sha256 = data => createHash('sha256').update(data).digest('hex')
export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))
export const now = () => Math.floor(Date.now() / 1000)

/** Wait until something holds. */
export async function until(holds) {
  const deadline = Date.now() + PATIENCE_MS
  while (!(await holds())) {
    assert(Date.now() < deadline, `not within ${PATIENCE_MS} ms: ${holds}`)
    await sleep(10)
  }
}

/** A command of the node or of the mint's operator, as lightning-cli sends it. */
export function node(method, params = {}) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(process.env.NODE_SOCKET)
    let text = ''
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`${method}: no answer`)))
    socket.on('data', data => {
      text += data
      if (!text.endsWith('\n\n')) return
      const { result, error } = JSON.parse(text)
      if (error) reject(new Error(`${method}: ${error.message}`))
      else resolve(result)
      socket.destroy()
    })
    socket.write(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }))
  })
}

/** What the mint answers to a GET, as it stands. */
export const get = async path => (await fetch(`${MINT_URL}${path}`)).json()

/** Somebody's invoice, and what becomes of its payment: success, failure, hold, noroute. */
export const invoice = (sat, behaviour = 'success') =>
  node('sandbox-invoice', { amount_msat: sat === 'any' ? 'any' : sat * 1000, behaviour })

/** Wait until a held payment is on its way, then let it arrive or come back. */
export async function decide(payment_hash, command) {
  await until(async () => (await node('listsendpays', { payment_hash })).payments.length > 0)
  await node(command, { payment_hash })
}

/** A wallet that knows the mint. */
export async function open(options = {}) {
  const wallet = new cashu.Wallet(MINT_URL, options)
  await wallet.loadMint()
  return wallet
}

/** Wait on the WebSocket until a mint quote is paid, which happens once we listen. */
export async function pay(wallet, quote) {
  const paid = wallet.on.onceMintPaid(quote.quote, { timeoutMs: PATIENCE_MS })
  await node('sandbox-pay', { bolt11: quote.request })
  return paid
}

/** Fresh ecash. */
export async function fund(wallet, amount, outputType) {
  const quote = await wallet.createMintQuoteBolt11(amount)
  await pay(wallet, quote)
  return wallet.mintProofsBolt11(amount, quote, {}, outputType)
}

export const sum = proofs => cashu.sumProofs(proofs).toNumber()
export const fee = (wallet, proofs) => wallet.getFeesForProofs(proofs).toNumber()

/** A key pair for locks. */
export function key() {
  const secret = cashu.createRandomSecretKey()
  return { secret: hex(secret), pubkey: hex(cashu.getPubKeyFromPrivKey(secret)) }
}

/** Ecash under a lock (`options` as P2PKBuilder makes them), as its recipient gets it. */
export async function lock(wallet, amount, options) {
  const proofs = await fund(wallet, amount + 10)
  const { send } = await wallet.ops.send(amount, proofs).asP2PK(options).includeFees(true).run()
  return send
}

/** The mint must refuse, with this code. */
export async function refused(attempt, code) {
  const error = await attempt.then(
    () => assert.fail(`accepted, instead of refused with ${code}`),
    reason => reason,
  )
  assert(error instanceof cashu.MintOperationError, error)
  assert.equal(error.code, code, `${error.code} instead of ${code}: ${error.message}`)
  return error
}

/** What these proofs are at the mint: all UNSPENT, all PENDING or all SPENT. */
export async function state(wallet, proofs) {
  const states = new Set((await wallet.checkProofsStates(proofs)).map(entry => entry.state))
  assert.equal(states.size, 1, [...states].join(' and '))
  return [...states][0]
}
