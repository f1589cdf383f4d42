/**
 * The filter in front of the packet program: a bit per hash of each address that a rule is about. Bits
 * are set before the rule is published and stay for as long as connections of removed rules may live, in
 * fact until a director starts without any rules: a bit too many costs a look-up, one too few a packet.
 */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import { PM_INTEREST_BITS } from '../../dataplane/layout/layout.gen.ts'

/** Sets the bit of an address: `words` holds its four words as they lie in a record (IPv4: the first). */
export function markInterest(map: MapMemory, family: number, words: Uint32Array): void {
  let hash = mix(0x9e3779b9, words[0]!)
  if (family === 6) for (let i = 1; i < 4; i++) hash = mix(hash, words[i]!)
  hash = Math.imul(hash, 0xc2b2ae35)
  const bit = (hash ^ (hash >>> 16)) & (PM_INTEREST_BITS - 1)
  Atomics.or(map.u32, bit >>> 5, 1 << (bit & 31))
}

/** One step of the packet program's address hash (`pm_mix` in bpf/lookup.h). */
function mix(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x85ebca6b)
  return mixed ^ (mixed >>> 13)
}
