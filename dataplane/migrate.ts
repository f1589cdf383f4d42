/**
 * Rules, connections and counters out of maps of an earlier layout into maps of the present one, while the
 * old program may be running on the old maps: copy, catch up with what it changed meanwhile, and after
 * the new program has taken over carry what the old one did last.
 *
 * What is guaranteed: a map whose records did not change is not copied at all, both programs work on it.
 * Of the others, everything the old program ever wrote arrives; a field that both have changed keeps the
 * new program's value, or the sum or the later of both (`MERGES`). The caller sees to it that no connection
 * begins on the old maps between the last `catchUp` and the exchange of programs.
 */
import { CONVERSIONS, type Conversion, MERGES, type NewMaps, type OldRecord } from './conversions.ts'
import {
  type Converter,
  converter,
  type Leaf,
  leavesOf,
  planRecord,
  readNumber,
  readScalar,
  writeScalar,
} from './layout/convert.ts'
import { MAP_NAMES, type MapName } from './layout/layout.gen.ts'
import { SCALAR_SIZE } from './layout/record.ts'
import { stampLayout } from './layout/stamp.ts'
import { type Layout, OWN_LAYOUT, recordOf } from './layout/version.ts'

/** Maps that an earlier version has made. */
export interface OldMaps {
  readonly layout: Layout
  entries(name: string): number
  /** All records, live. */
  bytes(name: string): Uint8Array
}

export interface MigrationPlan {
  readonly layout: Layout
  readonly conversion: Conversion
  /** Maps that the new program works on as they are. */
  readonly shared: readonly MapName[]
  /** Maps that are filled from the old ones; all others are new and empty. */
  readonly carried: readonly MapName[]
}

/** Which maps stay and which are carried, or why it cannot be done, in words. */
export function planMigration(
  old: Pick<OldMaps, 'layout' | 'entries'>,
  entries: Readonly<Record<MapName, number>>,
  conversion: Conversion = CONVERSIONS[old.layout.version] ?? {},
  to: Layout = OWN_LAYOUT,
): MigrationPlan | { readonly refusal: string } {
  const { layout } = old
  for (const [name, value] of layout.constants) {
    const own = to.constants.get(name)
    if (own === value || conversion.forgets?.includes(name)) continue
    return { refusal: `its ${name} is ${value}, this version's ${own ?? 'gone'}` }
  }
  const shared: MapName[] = []
  const carried: MapName[] = []
  for (const name of MAP_NAMES) {
    if (!layout.maps.has(name)) continue
    const isPlaced = conversion.place?.[name] !== undefined
    if (!isPlaced && old.entries(name) !== entries[name]) {
      return { refusal: `its map ${name} has ${old.entries(name)} entries, this version's ${entries[name]}` }
    }
    const plan = planRecord(recordOf(layout, name), layout, recordOf(to, name), to)
    const isSame = plan.identical && !isPlaced && conversion.records?.[name] === undefined
    // `settings` says which layout the rest has, so each program needs its own.
    if (isSame && name !== 'settings') shared.push(name)
    else carried.push(name)
  }
  return { layout, conversion, shared, carried }
}

/** Moving one set of maps; `copy`, any number of `catchUp`, exchange the programs, `finish`. */
export class Migration {
  readonly #carries: readonly Carry[]
  readonly #to: NewMaps

  constructor(old: OldMaps, to: NewMaps, plan: MigrationPlan, toLayout: Layout = OWN_LAYOUT) {
    this.#to = to
    this.#carries = plan.carried.map((name) => new Carry(name, old, to, plan, toLayout))
  }

  /** The first pass: everything. Returns how many blocks of memory that was. */
  copy(): number {
    const blocks = this.#carries.reduce((sum, carry) => sum + carry.catchUp(), 0)
    stampLayout(this.#to.map('settings').view)
    return blocks
  }

  /** What the old program changed since the last pass; how many blocks of memory that touched. */
  catchUp(): number {
    return this.#changing().reduce((sum, carry) => sum + carry.catchUp(), 0)
  }

  /** The last pass, with the new program at work and the old one ended. Returns records given up. */
  finish(): number {
    return this.#changing().reduce((sum, carry) => sum + carry.finish(), 0)
  }

  /**
   * The last pass of a migration whose process was killed in it: nobody knows any more what was copied
   * when. Records that the new program has never used come from the old one; of others, what the old
   * program did in its last moments is forgotten.
   */
  salvage(): void {
    for (const carry of this.#changing()) carry.salvage()
  }

  /** `settings` is the daemon's but for a counter of no consequence. */
  #changing(): readonly Carry[] {
    return this.#carries.filter(({ name }) => name !== 'settings')
  }
}

/** Compared at once: large enough for memcmp to be worth it, small enough that little is copied twice. */
const BLOCK_BYTES = 64 * 1024

/** One map on its way. */
class Carry {
  readonly name: MapName
  readonly #from: Uint8Array
  readonly #fromSize: number
  readonly #to: NewMaps
  readonly #toSize: number
  readonly #convert: Converter
  readonly #hook: ((old: OldRecord, view: DataView, base: number) => void) | undefined
  readonly #place: ((old: OldRecord, index: number, to: NewMaps) => void) | undefined
  readonly #oldLeaves: ReadonlyMap<string, Leaf>
  readonly #leaves: readonly Leaf[]
  readonly #blockRecords: number
  /** What each block of the old map was when it was carried last; none: zero throughout. */
  readonly #seen = new Map<number, Uint8Array>()
  readonly #zeros: Uint8Array
  readonly #look: Uint8Array

  constructor(name: MapName, old: OldMaps, to: NewMaps, plan: MigrationPlan, toLayout: Layout) {
    const fromRecord = recordOf(old.layout, name)
    const toRecord = recordOf(toLayout, name)
    this.name = name
    this.#from = old.bytes(name)
    this.#fromSize = fromRecord.size
    this.#to = to
    this.#toSize = toRecord.size
    this.#convert = converter(planRecord(fromRecord, old.layout, toRecord, toLayout))
    this.#hook = plan.conversion.records?.[name]
    this.#place = plan.conversion.place?.[name]
    this.#oldLeaves = new Map(leavesOf(fromRecord, old.layout).map((leaf) => [leaf.path, leaf]))
    this.#leaves = leavesOf(toRecord, toLayout)
    this.#blockRecords = Math.max(1, Math.floor(BLOCK_BYTES / this.#fromSize))
    this.#zeros = new Uint8Array(this.#blockRecords * this.#fromSize)
    this.#look = new Uint8Array(this.#zeros.length)
  }

  catchUp(): number {
    let changed = 0
    for (const { first, count, before, now } of this.#changedBlocks()) {
      changed++
      if (this.#place !== undefined) {
        this.#eachChanged(count, before, now, (at, index) => this.#placeRecord(now, at, first + index))
      } else this.#carryBlock(first, count, before, now)
    }
    return changed
  }

  finish(): number {
    let givenUp = 0
    const base = new Uint8Array(this.#blockRecords * this.#toSize)
    const theirs = new Uint8Array(base.length)
    const merge = this.#merger(base, theirs)
    const [baseView, theirView] = [new DataView(base.buffer), new DataView(theirs.buffer)]
    for (const { first, count, before, now } of this.#changedBlocks()) {
      if (this.#place === undefined) {
        this.#convert(before, base, count)
        this.#convert(now, theirs, count)
      }
      const [was, is] = [this.#oldRecords(before), this.#oldRecords(now)]
      this.#eachChanged(count, before, now, (at, index) => {
        if (this.#place !== undefined) return this.#placeRecord(now, at, first + index)
        this.#hook?.(was(at), baseView, index * this.#toSize)
        this.#hook?.(is(at), theirView, index * this.#toSize)
        if (!merge(first + index, index * this.#toSize)) givenUp++
      })
    }
    return givenUp
  }

  salvage(): void {
    const { bytes } = this.#to.map(this.name)
    const empty = new Uint8Array(this.#toSize)
    const record = new Uint8Array(this.#toSize)
    for (const { first, count, before, now } of this.#changedBlocks()) {
      this.#eachChanged(count, before, now, (at, index) => {
        if (this.#place !== undefined) return this.#placeRecord(now, at, first + index)
        const target = (first + index) * this.#toSize
        if (Buffer.compare(bytes.subarray(target, target + this.#toSize), empty) !== 0) return
        this.#convertRecord(now, at, record)
        bytes.set(record, target)
      })
    }
  }

  *#changedBlocks(): Generator<{ first: number; count: number; before: Uint8Array; now: Uint8Array }> {
    const records = this.#from.length / this.#fromSize
    for (let first = 0; first < records; first += this.#blockRecords) {
      const count = Math.min(this.#blockRecords, records - first)
      const live = this.#from.subarray(first * this.#fromSize, (first + count) * this.#fromSize)
      const seen = this.#seen.get(first)
      const before = seen ?? this.#zeros.subarray(0, live.length)
      if (Buffer.compare(live, before) === 0) continue
      // The program goes on writing: all of a pass is about one look at the block.
      const now = seen === undefined ? new Uint8Array(live.length) : this.#look.subarray(0, live.length)
      now.set(live)
      yield { first, count, before, now }
      if (seen === undefined) this.#seen.set(first, now)
      else seen.set(now)
    }
  }

  #eachChanged(
    count: number,
    before: Uint8Array,
    now: Uint8Array,
    visit: (at: number, index: number) => void,
  ): void {
    // By words: a comparison by memcmp costs more to call than a record is long.
    const stride = this.#fromSize / 4
    const old = new Uint32Array(before.buffer, before.byteOffset, count * stride)
    const fresh = new Uint32Array(now.buffer, now.byteOffset, count * stride)
    for (let index = 0, word = 0; index < count; index++, word += stride) {
      let k = 0
      while (k < stride && old[word + k] === fresh[word + k]) k++
      if (k < stride) visit(index * this.#fromSize, index)
    }
  }

  /** The new program does not run yet, so that whole blocks can be written. */
  #carryBlock(first: number, count: number, before: Uint8Array, now: Uint8Array): void {
    const map = this.#to.map(this.name)
    const start = first * this.#toSize
    // To convert a record is quicker than to find out whether it was changed; to call the hook is not.
    if (this.#hook === undefined || before.buffer === this.#zeros.buffer) {
      this.#convert(now, map.bytes.subarray(start, start + count * this.#toSize), count)
    }
    if (this.#hook === undefined) return
    const isFirst = before.buffer === this.#zeros.buffer
    const old = this.#oldRecords(now)
    const record = new Uint8Array(this.#toSize)
    this.#eachChanged(count, before, now, (at, index) => {
      const target = start + index * this.#toSize
      if (isFirst) this.#hook?.(old(at), map.view, target)
      else {
        this.#convertRecord(now, at, record)
        map.bytes.set(record, target)
      }
    })
  }

  #convertRecord(from: Uint8Array, at: number, to: Uint8Array): void {
    to.fill(0)
    this.#convert(from.slice(at, at + this.#fromSize), to, 1)
    this.#hook?.(this.#oldRecord(from, at), new DataView(to.buffer), 0)
  }

  #placeRecord(from: Uint8Array, at: number, index: number): void {
    this.#place?.(this.#oldRecord(from, at), index, this.#to)
  }

  #oldRecord(bytes: Uint8Array, at: number): OldRecord {
    return this.#oldRecords(bytes)(at)
  }

  /** A view of one record at a time: good until the next is looked at. */
  #oldRecords(bytes: Uint8Array): (at: number) => OldRecord {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let start = 0
    const leafAt = (path: string, element: number): Leaf | null => {
      const leaf = this.#oldLeaves.get(path)
      return leaf === undefined || element >= leaf.count ? null : leaf
    }
    const offset = (leaf: Leaf, element: number) => start + leaf.offset + element * SCALAR_SIZE[leaf.type]
    const record: OldRecord = {
      number: (path, element = 0) => {
        const leaf = leafAt(path, element)
        return leaf === null ? 0 : readNumber(view, offset(leaf, element), leaf.type)
      },
      bigint: (path, element = 0) => {
        const leaf = leafAt(path, element)
        return leaf === null ? 0n : readScalar(view, offset(leaf, element), leaf.type)
      },
    }
    return (at) => {
      start = at
      return record
    }
  }

  /**
   * Brings the old program's change from `base` to `theirs`, where a record stands at `at` in both, into the
   * new program's record; false when it has become another thing on both sides.
   */
  #merger(base: Uint8Array, theirs: Uint8Array): (index: number, at: number) => boolean {
    const map = this.#to.map(this.name)
    const [baseView, theirView] = [new DataView(base.buffer), new DataView(theirs.buffer)]
    const [baseWords, theirWords] = [new Uint32Array(base.buffer), new Uint32Array(theirs.buffer)]
    const parts = this.#leaves.flatMap(({ path, offset, type, count }) => {
      const size = SCALAR_SIZE[type]
      return Array.from({ length: count }, (_, element) => {
        const at = offset + element * size
        return {
          at,
          words: [at >> 2, (at + size - 1) >> 2] as const,
          type,
          size,
          way: wayOf(this.name, path),
        }
      })
    })
    const identities = parts.filter(({ way }) => way === 'identity')
    return (index, at) => {
      const start = index * this.#toSize
      const word = at / 4
      /** Most fields of most records, and quicker than to read numbers. */
      const isSame = ([from, to]: readonly [number, number]): boolean =>
        baseWords[word + from] === theirWords[word + from] && baseWords[word + to] === theirWords[word + to]
      for (const { at: field, words, type } of identities) {
        if (isSame(words)) continue
        const was = readScalar(baseView, at + field, type)
        if (readScalar(theirView, at + field, type) === was) continue
        if (readScalar(map.view, start + field, type) !== was) return false
      }
      for (const { at: field, words, type, size, way } of parts) {
        if (isSame(words)) continue
        const was = readScalar(baseView, at + field, type)
        const their = readScalar(theirView, at + field, type)
        if (their === was) continue
        if (way === 'sum') {
          addScalar(map, start + field, size, their - was)
          continue
        }
        const our = readScalar(map.view, start + field, type)
        let value = our
        if (our === was) value = their
        else if (way === 'later') value = (Number(their - our) | 0) > 0 ? their : our
        if (value !== our) writeScalar(map.view, start + field, type, value)
      }
      return true
    }
  }
}

/** How a field that both programs have changed is brought together; null: the new program's value stays. */
function wayOf(map: MapName, path: string): 'sum' | 'identity' | 'later' | null {
  const field = `${map} ${path}`
  if (MERGES.sums.has(field)) return 'sum'
  if (MERGES.identities.has(field)) return 'identity'
  return MERGES.later.has(field) ? 'later' : null
}

/** Adds to a number that the packet program adds to as well. */
function addScalar(
  map: { u32: Uint32Array; u64: BigUint64Array },
  at: number,
  size: number,
  more: bigint,
): void {
  if (size === 8) Atomics.add(map.u64, at / 8, BigInt.asUintN(64, more))
  else Atomics.add(map.u32, at / 4, Number(BigInt.asIntN(32, more)))
}
