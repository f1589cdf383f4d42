/**
 * SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input PRF") of one 32-bit word, as the
 * kernel's `hsiphash_1u32` computes it on 64-bit machines: both halves of the key are the same number
 * and only the low 32 bits of the result are kept. 64-bit words are pairs of 32-bit halves: a table of
 * 4093 slots needs thousands of these, and bigints would cost milliseconds.
 */

/** v0..v3 as [low, high] pairs. */
const v = new Uint32Array(8)

function addRotateXor(a: number, b: number, bits: number): void {
  // a += b
  const low = v[a]! + v[b]!
  v[a + 1] = v[a + 1]! + v[b + 1]! + (low > 0xffffffff ? 1 : 0)
  v[a] = low
  // b = rotl(b, bits) ^ a
  const [l, h] = [v[b]!, v[b + 1]!]
  v[b] = ((l << bits) | (h >>> (32 - bits))) ^ v[a]!
  v[b + 1] = ((h << bits) | (l >>> (32 - bits))) ^ v[a + 1]!
}

function swapHalves(a: number): void {
  const low = v[a]!
  v[a] = v[a + 1]!
  v[a + 1] = low
}

/** rotl by 32 + bits is a swap and a rotl by bits. */
function round(): void {
  addRotateXor(0, 2, 13)
  swapHalves(0)
  addRotateXor(4, 6, 16)
  addRotateXor(0, 6, 21)
  addRotateXor(4, 2, 17)
  swapHalves(4)
}

/**
 * @param word unsigned 32-bit
 * @param key unsigned 32-bit, both halves of the 128-bit key
 * @returns unsigned 32-bit
 */
export function siphash13Word(word: number, key: number): number {
  v[0] = 0x70736575 ^ key
  v[1] = 0x736f6d65
  v[2] = 0x6e646f6d ^ key
  v[3] = 0x646f7261
  v[4] = 0x6e657261 ^ key
  v[5] = 0x6c796765
  v[6] = 0x79746573 ^ key
  v[7] = 0x74656462
  // The only block: the word, and the length (4) in the top byte.
  const high = 4 << 24
  v[6]! ^= word
  v[7]! ^= high
  round()
  v[0]! ^= word
  v[1]! ^= high
  v[4]! ^= 0xff
  round()
  round()
  round()
  return (v[0]! ^ v[2]! ^ v[4]! ^ v[6]!) >>> 0
}
