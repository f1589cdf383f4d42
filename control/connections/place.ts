/** Where the lines of a key may stand: the hash of `pm_place` in bpf/lookup.h, in whole numbers of 32 bits. */
import { PM_WAYS } from '../../dataplane/layout/layout.gen.ts'

export interface Place {
  /** In a table without end: in a level with so many sets, modulo their number. */
  readonly sets: readonly [number, number]
  /** First line of a set to look at. */
  readonly way: number
}

/** A key as the program loads it from a packet: the first byte lowest. */
export interface PlaceKey {
  /** Source and then destination, one word each for IPv4, four for IPv6... */
  readonly addresses: Uint32Array
  /** ... from this one on. */
  readonly first: number
  readonly words: 1 | 4
  readonly sport: number
  readonly dport: number
  /** IP protocol number. */
  readonly protocol: number
}

/** Both halves of the number under way. */
let high = 0
let low = 0

/** The lower 64 bits of the product. */
function multiply(byHigh: number, byLow: number): void {
  const a0 = low & 0xffff
  const a1 = low >>> 16
  const b0 = byLow & 0xffff
  const b1 = byLow >>> 16
  const first = a0 * b0
  const middle = a0 * b1 + a1 * b0 + (first >>> 16)
  const carried = a1 * b1 + Math.floor(middle / 0x1_0000)
  high = (carried + Math.imul(high, byLow) + Math.imul(low, byHigh)) >>> 0
  low = (((middle & 0xffff) << 16) | (first & 0xffff)) >>> 0
}

/** `pm_template_place`, from where the rest of its key leads. */
export function placeOfTemplate({ sets: [one, other], way }: Place, tag: number): Place {
  const apart = Math.imul(tag, 0x9e3779b1)
  return { sets: [(one ^ apart) >>> 0, (other ^ apart) >>> 0], way }
}

/** `pm_stir` */
function stir(wordHigh: number, wordLow: number): void {
  high = (high ^ wordHigh) >>> 0
  low = (low ^ wordLow) >>> 0
  multiply(0x9e3779b9, 0x7f4a7c15)
  low = (low ^ ((high << 3) | (low >>> 29))) >>> 0
  high = (high ^ (high >>> 29)) >>> 0
}

export function placeOf(
  seed: number,
  { addresses, first: at, words, sport, dport, protocol }: PlaceKey,
): Place {
  high = 0
  low = seed >>> 0
  for (let i = at; i < at + words; i++) stir(addresses[i]!, addresses[i + words]!)
  stir(sport, (dport << 8) | protocol)
  multiply(0xbf58476d, 0x1ce4e5b9)
  const first = (low ^ high) >>> 0
  return { sets: [first, (first ^ ((high >>> 1) | 1)) >>> 0], way: high >>> 30 }
}

/** Whether a set of a table is one of the place's, in a level with so many sets, less one. */
export function isSetOf({ sets: [one, other] }: Place, set: number, mask: number): boolean {
  return set === (one & mask) >>> 0 || set === (other & mask) >>> 0
}

/** The lines of a level with so many sets, less one, in the order of a search. */
export function linesOf({ sets, way }: Place, mask: number): number[] {
  return sets.flatMap((set) =>
    Array.from({ length: PM_WAYS }, (_, n) => ((set & mask) >>> 0) * PM_WAYS + ((way + n) % PM_WAYS)),
  )
}
