/** Prefixes as the packet program looks them up (bpf/filter.h), and the memory they stand in. */
import type { Dataplane, MapMemory } from '../../dataplane/dataplane.ts'
import {
  FilterLengthsRecord,
  FilterRecord,
  FilterVerdict,
  PM_FILTER_BUCKET,
  SettingsRecord,
} from '../../dataplane/layout/layout.gen.ts'
import { readAddress, writeAddress } from '../../net/address.ts'
import type { Prefix } from '../../net/prefix.ts'
import type { FilterAction } from '../model/filter.ts'
import { SOURCES, type SourceName } from '../model/source.ts'
import { bucketsOf } from './service-index.ts'

/** An entry as it stands in the map. */
export interface FilterEntry {
  readonly prefix: Prefix
  readonly action: FilterAction
  readonly owner: SourceName
  /** Of the service, 0: all of them. */
  readonly scope: number
  /** Ticks, 0: never. */
  readonly expires: number
}

const WORDS = FilterRecord.size / 4
const WHAT = FilterRecord.offsets.what / 4
const EXPIRES = FilterRecord.offsets.expires / 4
const ADDRESS = FilterRecord.offsets.addr / 4
const SCOPE = FilterRecord.offsets.scope / 4
const VERDICTS: Readonly<Record<FilterAction, number>> = {
  allow: FilterVerdict.Allow,
  deny: FilterVerdict.Deny,
}
/** Length and family: what an entry is found by, besides address and scope. */
const KIND_MASK = 0xffff
const VERDICT_SHIFT = 16
const OWNER_SHIFT = 24
/** How far entries may be moved out of the way; each of them costs a copy. */
const MOVES_MAX = 4

function mix(h: number, word: number): number {
  const mixed = Math.imul(h ^ word, 0x85ebca6b)
  return mixed ^ (mixed >>> 13)
}

interface Key {
  /** In network order, as the packet program loads them. */
  readonly address: Uint32Array
  readonly scope: number
  readonly kind: number
}

function keyOf(prefix: Prefix, scope: number): Key {
  const address = new Uint32Array(4)
  writeAddress(prefix.address, new Uint8Array(address.buffer), 0)
  return { address, scope, kind: prefix.length | (prefix.family << 8) }
}

export class FilterTable {
  readonly #filters: MapMemory
  readonly #lengths: MapMemory
  readonly #settings: MapMemory
  #count = 0
  /** How many each source states, by its number. */
  readonly #countOf: number[] = SOURCES.map(() => 0)
  /** The last scope, of all that entries had when this was opened. */
  readonly lastScope: number
  /** Where the search for what is over goes on. */
  #at = 0

  constructor(dataplane: Dataplane) {
    this.#filters = dataplane.map('filters')
    this.#lengths = dataplane.map('filter_lengths')
    this.#settings = dataplane.map('settings')
    const { u32 } = this.#filters
    let lastScope = 0
    for (let base = 0; base < u32.length; base += WORDS) {
      if (u32[base + WHAT] === 0) continue
      this.#counted(u32[base + WHAT]!, 1)
      lastScope = Math.max(lastScope, u32[base + SCOPE]!)
    }
    this.lastScope = lastScope
  }

  #counted(what: number, by: 1 | -1): void {
    this.#count += by
    const owner = what >>> OWNER_SHIFT
    this.#countOf[owner] = (this.#countOf[owner] ?? 0) + by
  }

  get count(): number {
    return this.#count
  }

  countOf(owner: SourceName): number {
    return this.#countOf[SOURCES.indexOf(owner)]!
  }

  /** How many there can be, about. */
  get capacity(): number {
    return this.#filters.entries
  }

  #hash({ address, scope, kind }: Key): number {
    let h = this.#settings.u32[SettingsRecord.offsets.hashSeed / 4]!
    for (let i = 0; i < 4; i++) h = mix(h, address[i]!)
    h = mix(h, scope)
    h = mix(h, kind)
    h = Math.imul(h, 0xc2b2ae35)
    return (h ^ (h >>> 16)) >>> 0
  }

  #buckets(key: Key): readonly [number, number] {
    return bucketsOf(this.#hash(key), this.#filters.entries / PM_FILTER_BUCKET - 1)
  }

  /** Where the entry of a key begins; -1: nowhere. */
  #find(key: Key): number {
    const { u32 } = this.#filters
    for (const bucket of this.#buckets(key)) {
      for (let way = 0; way < PM_FILTER_BUCKET; way++) {
        const base = (bucket * PM_FILTER_BUCKET + way) * WORDS
        if ((u32[base + WHAT]! & KIND_MASK) !== key.kind || u32[base + SCOPE] !== key.scope) continue
        if (key.address.every((word, i) => u32[base + ADDRESS + i] === word)) return base
      }
    }
    return -1
  }

  get(prefix: Prefix, scope: number): FilterEntry | null {
    const base = this.#find(keyOf(prefix, scope))
    return base < 0 ? null : this.#read(base)
  }

  /** Adds an entry, or changes that of its prefix; false: there is no room. */
  put({ prefix, action, owner, scope, expires }: FilterEntry): boolean {
    const key = keyOf(prefix, scope)
    const what =
      (key.kind | (VERDICTS[action] << VERDICT_SHIFT) | (SOURCES.indexOf(owner) << OWNER_SHIFT)) >>> 0
    const { u32 } = this.#filters
    let base = this.#find(key)
    if (base < 0) {
      base = this.#room(this.#buckets(key), MOVES_MAX)
      if (base < 0) return false
      // Packets find the length before there is an entry of it.
      this.#useLength(prefix)
    } else {
      this.#counted(u32[base + WHAT]!, -1)
      Atomics.store(u32, base + WHAT, 0)
    }
    u32[base + EXPIRES] = expires
    u32.set(key.address, base + ADDRESS)
    u32[base + SCOPE] = scope
    Atomics.store(u32, base + WHAT, what)
    this.#counted(what, 1)
    return true
  }

  remove(prefix: Prefix, scope: number): boolean {
    const base = this.#find(keyOf(prefix, scope))
    if (base < 0) return false
    this.#free(base)
    return true
  }

  #free(base: number): void {
    const { u32 } = this.#filters
    this.#counted(u32[base + WHAT]!, -1)
    Atomics.store(u32, base + WHAT, 0)
    if (this.#count === 0) for (const family of [0, 1]) this.#setCount(family, 0)
  }

  /** A free entry in one of two buckets, if need be by moving others to their other bucket; -1. */
  #room(buckets: readonly [number, number], moves: number): number {
    const { u32 } = this.#filters
    for (const bucket of buckets) {
      for (let way = 0; way < PM_FILTER_BUCKET; way++) {
        const base = (bucket * PM_FILTER_BUCKET + way) * WORDS
        if (u32[base + WHAT] === 0) return base
      }
    }
    if (moves === 0) return -1
    for (const bucket of buckets) {
      for (let way = 0; way < PM_FILTER_BUCKET; way++) {
        const base = (bucket * PM_FILTER_BUCKET + way) * WORDS
        const [first, second] = this.#buckets({
          address: u32.subarray(base + ADDRESS, base + ADDRESS + 4),
          scope: u32[base + SCOPE]!,
          kind: u32[base + WHAT]! & KIND_MASK,
        })
        const other = first === bucket ? second : first
        const free = this.#room([other, other], moves - 1)
        if (free < 0) continue
        const what = u32[base + WHAT]!
        // This very entry may have been moved out of the way of another.
        if (what === 0) return base
        u32.copyWithin(free + WHAT + 1, base + WHAT + 1, base + WORDS)
        // In both places for a moment, rather than in none.
        Atomics.store(u32, free + WHAT, what)
        Atomics.store(u32, base + WHAT, 0)
        return base
      }
    }
    return -1
  }

  #setCount(family: number, count: number): void {
    const { entrySize, u32 } = this.#lengths
    Atomics.store(u32, (family * entrySize + FilterLengthsRecord.offsets.count) / 4, count)
  }

  /** Longest first; while one is put in, packets find all others at every moment, one of them twice. */
  #useLength({ family, length }: Prefix): void {
    const index = family === 6 ? 1 : 0
    const { bytes, u32, entrySize } = this.#lengths
    const base = index * entrySize
    const list = base + FilterLengthsRecord.offsets.length
    const count = u32[(base + FilterLengthsRecord.offsets.count) / 4]!
    let at = 0
    while (at < count && bytes[list + at]! > length) at++
    if (at < count && bytes[list + at] === length) return
    bytes[list + count] = at === count ? length : bytes[list + count - 1]!
    this.#setCount(index, count + 1)
    for (let i = count - 1; i > at; i--) bytes[list + i] = bytes[list + i - 1]!
    bytes[list + at] = length
  }

  #read(base: number): FilterEntry {
    const { u32, bytes } = this.#filters
    const what = u32[base + WHAT]!
    const family = ((what >>> 8) & 0xff) === 6 ? 6 : 4
    return {
      prefix: { family, address: readAddress(bytes, (base + ADDRESS) * 4, family), length: what & 0xff },
      action: ((what >>> VERDICT_SHIFT) & 0xff) === FilterVerdict.Deny ? 'deny' : 'allow',
      owner: SOURCES[what >>> OWNER_SHIFT] ?? 'manual',
      scope: u32[base + SCOPE]!,
      expires: u32[base + EXPIRES]!,
    }
  }

  *entries(): Generator<FilterEntry> {
    const { u32 } = this.#filters
    for (let base = 0; base < u32.length; base += WORDS) {
      if (u32[base + WHAT] !== 0) yield this.#read(base)
    }
  }

  /**
   * Takes away, of the next `slots` places, what is over, and what belongs to nobody any more.
   * @param kept whether a scope is that of a service
   */
  expireSlice(slots: number, nowTicks: number, kept: (scope: number) => boolean): void {
    if (this.#count === 0) return
    const { u32, entries } = this.#filters
    for (let i = 0; i < Math.min(slots, entries); i++) {
      const base = this.#at * WORDS
      this.#at = (this.#at + 1) % entries
      if (u32[base + WHAT] === 0) continue
      const expires = u32[base + EXPIRES]!
      const scope = u32[base + SCOPE]!
      if ((expires !== 0 && ((nowTicks - expires) | 0) >= 0) || (scope !== 0 && !kept(scope)))
        this.#free(base)
    }
  }
}
