/**
 * The index of services: buckets of eight entries, two buckets per key. The packet program computes the
 * same hash (`pm_service_hash` in bpf/lookup.h) and always searches both buckets. The index of NAT real
 * servers (nat-index.ts) is made the same way.
 */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import { PM_BUCKET, ServiceRecord, Slot } from '../../dataplane/layout/layout.gen.ts'

const { offsets } = ServiceRecord
/** Words of a service record. */
const RECORD_WORDS = ServiceRecord.size / 4
const FAMILY_WORD = offsets.family / 4
const ADDR_WORD = offsets.addr / 4
const FWMARK_WORD = offsets.fwmark / 4

function mix(h: number, word: number): number {
  const mixed = Math.imul(h ^ word, 0x85ebca6b)
  return mixed ^ (mixed >>> 13)
}

/**
 * Hash of the service whose record starts at `words[at]`.
 * @returns unsigned 32-bit
 */
export function serviceHash(words: Uint32Array, at: number): number {
  // Family, protocol and port share a word, in memory order: family, protocol, port (network order).
  const head = words[at + FAMILY_WORD]!
  const family = head & 0xff
  const protocol = (head >>> 8) & 0xff
  const port = head >>> 16
  let h = 0x9e3779b9
  for (let i = 0; i < 4; i++) {
    h = mix(h, i === 0 || family === 6 ? words[at + ADDR_WORD + i]! : 0)
  }
  h = mix(h, port | (protocol << 16) | (family << 24))
  h = mix(h, words[at + FWMARK_WORD]!)
  h = Math.imul(h, 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** The two buckets of a hash. */
export function bucketsOf(hash: number, mask: number): readonly [number, number] {
  const first = (hash & mask) >>> 0
  const second = ((first ^ (Math.imul(hash, 0x5bd1e995) >>> 7)) & mask) >>> 0
  return [first, second === first ? ((first + 1) & mask) >>> 0 : second]
}

/** The published word: tag in the low half, 1 + slot in the high half. */
export function indexEntry(hash: number, slot: number): bigint {
  return BigInt((hash | 1) >>> 0) | (BigInt(slot + 1) << 32n)
}

/** Slot an entry names, -1 for a free one. */
export function entrySlot(entry: bigint): number {
  return Number(entry >> 32n) - 1
}

/** One store into the index: entry number `at` (bucket * 8 + way) becomes `entry`, 0n frees it. */
export interface IndexStore {
  readonly at: number
  readonly entry: bigint
}

/** How far entries may be moved out of the way: each step costs one store. */
const MOVES_MAX = 5

/**
 * The stores that publish `slot`, in order; an entry that makes room is written to its other bucket before
 * it leaves the first, so a search finds it throughout. Null if there is no room.
 * @param index live memory of `service_index`
 * @param services live memory of `services`, for the keys of the other entries
 * @param image the record that stands at `slot` when the stores are done
 */
export function planEntry(
  index: MapMemory,
  services: MapMemory,
  slot: number,
  image: Uint32Array,
): IndexStore[] | null {
  const hashOf = (other: number): number => serviceHash(services.u32, other * RECORD_WORDS)
  return planPlace(index, hashOf, slot, serviceHash(image, 0))
}

/** What entries stand in: a map, or memory that becomes part of one. */
type Buckets = Pick<MapMemory, 'entries' | 'u64'>

/** The same for a slot of this hash; `hashOf` knows those of the slots that have entries. */
export function planPlace(
  index: Buckets,
  hashOf: (slot: number) => number,
  slot: number,
  hash: number,
): IndexStore[] | null {
  const mask = index.entries - 1
  const entry = indexEntry(hash, slot)
  const taken = new Set<number>()
  for (let depth = 0; depth <= MOVES_MAX; depth++) {
    for (const bucket of bucketsOf(hash, mask)) {
      const stores = makeRoom(index, hashOf, bucket, depth, taken)
      if (stores !== null) return [...stores.moves, { at: stores.at, entry }]
    }
  }
  return null
}

/** A free entry of `bucket`, moving at most `depth` entries out of the way. */
function makeRoom(
  index: Buckets,
  hashOf: (slot: number) => number,
  bucket: number,
  depth: number,
  taken: ReadonlySet<number>,
): { at: number; moves: IndexStore[] } | null {
  const base = bucket * PM_BUCKET
  for (let way = 0; way < PM_BUCKET; way++) {
    if (index.u64[base + way] === 0n && !taken.has(base + way)) return { at: base + way, moves: [] }
  }
  if (depth === 0) return null
  const mask = index.entries - 1
  for (let way = 0; way < PM_BUCKET; way++) {
    const at = base + way
    if (taken.has(at)) continue
    const entry = index.u64[at]!
    const [first, second] = bucketsOf(hashOf(entrySlot(entry)), mask)
    const other = first === bucket ? second : first
    const room = makeRoom(index, hashOf, other, depth - 1, new Set([...taken, at]))
    if (room !== null) {
      return { at, moves: [...room.moves, { at: room.at, entry }, { at, entry: 0n }] }
    }
  }
  return null
}

/** Where `slot` is published; more than once while an entry was being moved. */
export function findEntries(index: MapMemory, services: MapMemory, slot: number): number[] {
  return entriesOf(index, serviceHash(services.u32, slot * RECORD_WORDS), slot)
}

/** Whether the entry at `at` is one by which packets find the service in `slot`. */
export function isEntryOf(index: MapMemory, services: MapMemory, slot: number, at: number): boolean {
  const hash = serviceHash(services.u32, slot * RECORD_WORDS)
  const bucket = Math.floor(at / PM_BUCKET)
  return index.u64[at] === indexEntry(hash, slot) && bucketsOf(hash, index.entries - 1).includes(bucket)
}

/** Where a slot of this hash has its entries. */
export function entriesOf(index: MapMemory, hash: number, slot: number): number[] {
  const found: number[] = []
  for (const bucket of bucketsOf(hash, index.entries - 1)) {
    for (let way = 0; way < PM_BUCKET; way++) {
      const at = bucket * PM_BUCKET + way
      if (entrySlot(index.u64[at]!) === slot) found.push(at)
    }
  }
  return found
}

/** What the packet program finds: the live service whose record equals the key, or -1. */
export function findService(index: MapMemory, services: MapMemory, key: Uint32Array): number {
  const hash = serviceHash(key, 0)
  const tag = (hash | 1) >>> 0
  for (const bucket of bucketsOf(hash, index.entries - 1)) {
    for (let way = 0; way < PM_BUCKET; way++) {
      const entry = index.u64[bucket * PM_BUCKET + way]!
      if (Number(entry & 0xffffffffn) !== tag) continue
      const at = entrySlot(entry) * RECORD_WORDS
      if (services.u32[at] !== Slot.Live) continue
      let same = true
      for (let word = FAMILY_WORD; word <= FWMARK_WORD; word++) {
        same &&= services.u32[at + word] === key[word]
      }
      if (same) return entrySlot(entry)
    }
  }
  return -1
}
