/**
 * The daemon's part in the size of a connection table. Packets make it larger, at once; here it is made
 * smaller again when it has been nearly empty for a while, and levels that no line stands in any more are
 * no longer searched.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { PM_LEVEL_STEP, PM_LEVELS, PM_WAYS, SettingsRecord } from '../../dataplane/layout/layout.gen.ts'
import { firstLevel, levelsWord, linesInUse, readLevels } from '../../dataplane/levels.ts'
import type { Family } from '../../net/address.ts'
import { isSetOf, type Place } from './place.ts'
import { hasStalled } from './stall.ts'

/** A table shrinks when fewer than one in this many of its lines are in use, to a quarter of its size... */
const SPARSE = 32
/** ... in so many sweeps, one after the other. */
const SPARSE_SWEEPS = 10

export class TableLevels {
  readonly #dataplane: Dataplane
  readonly #settings: Uint32Array
  readonly #word: number
  readonly #lines: number
  readonly #first: number
  /** Lines met in the sweep under way, by the level they are found in. */
  readonly #met = new Uint32Array(PM_LEVELS)
  /** Levels that lines may have stood in when the sweep under way began, in the order of a search. */
  #searched: readonly number[] = []
  /** The other ones of them. */
  #others = 0
  /** Since when sweeps have met nothing in a level, in ticks. */
  readonly #desertedSince = new Map<number, number>()
  #sparseSweeps = 0

  constructor(dataplane: Dataplane, family: Family, lines: number) {
    const { offsets } = SettingsRecord
    this.#dataplane = dataplane
    this.#settings = dataplane.map('settings').u32
    this.#word = (family === 4 ? offsets.levels4 : offsets.levels6) / 4
    this.#lines = lines
    this.#first = firstLevel(lines)
  }

  /** Where new lines are placed, and then every other one that lines may stand in. */
  toSearch(): readonly [current: number, ...others: number[]] {
    const { current, others } = readLevels(this.#read())
    const rest = Array.from({ length: PM_LEVELS }, (_, level) => level)
    return [current, ...rest.filter((level) => level !== current && (others & (1 << level)) !== 0)]
  }

  /** What the hash of connections begins with. */
  get seed(): number {
    return this.#settings[SettingsRecord.offsets.hashSeed / 4]!
  }

  /** Sets of a level, less one. */
  mask(level: number): number {
    return (this.#lines / PM_WAYS - 1) >>> level
  }

  /** Lines that may be in use: the first of the table. */
  get inUse(): number {
    return linesInUse(this.#lines, this.#read())
  }

  /** New lines are placed in a larger part of the table, as `pm_grow` has it; false: all of it is in use. */
  grow(): boolean {
    const word = this.#read()
    const { current, others } = readLevels(word)
    if (current === 0) return false
    const next = Math.max(0, current - PM_LEVEL_STEP)
    const grown = levelsWord({ current: next, others: (others | (1 << current)) & ~(1 << next) })
    // Who loses has been forestalled by a packet.
    Atomics.compareExchange(this.#settings, this.#word, word, grown)
    return true
  }

  /** Whether an empty table would stay as it is. */
  get isSettled(): boolean {
    const { current, others } = readLevels(this.#read())
    return others === 0 && current >= this.#first
  }

  begin(): void {
    this.#met.fill(0)
    this.#searched = this.toSearch()
    this.#others = readLevels(this.#read()).others
  }

  /** A line in use; `place` says where those of its key may stand, null: nobody knows yet. */
  meet(line: number, place: () => Place | null): void {
    const [current = 0] = this.#searched
    if (this.#others === 0) {
      this.#met[current]!++
      return
    }
    const known = place()
    const set = Math.floor(line / PM_WAYS)
    const level = known && this.#searched.find((one) => isSetOf(known, set, this.mask(one)))
    if (level !== null && level !== undefined) this.#met[level]!++
    // Being written, or just moved: it may be found in any.
    else for (const one of this.#searched) this.#met[one]!++
  }

  /** A sweep that began with `begin` has met all lines. */
  end(): void {
    const word = this.#read()
    let { current, others } = readLevels(word)
    // Packets that had looked at the levels before one was left may have placed a line there after the sweep
    // came by: so sweeps have to agree for longer than anybody stalls.
    const now = this.#dataplane.nowTicks()
    for (let level = 0; level < PM_LEVELS; level++) {
      const bit = 1 << level
      const isDeserted = (this.#others & others & bit) !== 0 && this.#met[level] === 0
      const since = this.#desertedSince.get(level)
      if (!isDeserted) this.#desertedSince.delete(level)
      else if (since === undefined) this.#desertedSince.set(level, now)
      else if (hasStalled(since, now)) others &= ~bit
    }
    const met = this.#met.reduce((sum, lines) => sum + lines, 0)
    const isSparse = current < this.#first && met * SPARSE < this.#lines >>> current
    this.#sparseSweeps = isSparse ? this.#sparseSweeps + 1 : 0
    if (this.#sparseSweeps >= SPARSE_SWEEPS) {
      this.#sparseSweeps = 0
      const next = Math.min(current + PM_LEVEL_STEP, this.#first)
      others = (others | (1 << current)) & ~(1 << next)
      current = next
    }
    // If it has grown meanwhile, there will be another sweep.
    Atomics.compareExchange(this.#settings, this.#word, word, levelsWord({ current, others }))
  }

  #read(): number {
    return Atomics.load(this.#settings, this.#word)
  }
}
