/**
 * Who owns which slot of the maps. Contents are always read from the maps themselves; the ledger only
 * knows identities: which service a slot serves, which real server an index stands for, which ranges of
 * members are in use, and what is waiting to become free.
 */
import type { Sizes } from '../../dataplane/dataplane.ts'
import { RangeAllocator } from './ranges.ts'

/** A range of members and of the lookup table behind it. */
export interface MemberRange {
  readonly first: number
  /** Members and table entries together. */
  readonly count: number
}

/** A slot of `services` in use. */
export interface ServiceHolding {
  readonly slot: number
  readonly key: string
  /** Gone: no index entry names it, but connections of its real servers may be left. */
  state: 'live' | 'gone'
  /** Real servers by identity: those of the service, and removed ones that connections may refer to. */
  readonly reals: Map<string, number>
  /** Range of each of the two schedules. */
  readonly ranges: [MemberRange | null, MemberRange | null]
  /** When the active schedule was switched last (ms, monotonic). */
  switchedAtMs: number
}

/** A slot of `reals` in use. */
export interface RealHolding {
  readonly service: ServiceHolding
  readonly key: string
}

interface Quarantined {
  readonly range: MemberRange
  readonly untilMs: number
}

/**
 * A packet that has read the old schedule is done with it after microseconds; this is ample even for a
 * stalled virtual CPU.
 */
export const QUARANTINE_MS = 100

export class Ledger {
  readonly #sizes: Sizes
  readonly #services: (ServiceHolding | undefined)[]
  readonly #byKey = new Map<string, ServiceHolding>()
  readonly #reals: (RealHolding | undefined)[]
  readonly #freeServices: SlotPool
  readonly #freeReals: SlotPool
  readonly #ranges: RangeAllocator
  #quarantine: Quarantined[] = []
  /** Removed real servers, and since when (ms, monotonic). */
  readonly goneReals = new Map<number, number>()

  constructor(sizes: Sizes) {
    this.#sizes = sizes
    this.#services = new Array<ServiceHolding | undefined>(sizes.services)
    this.#reals = new Array<RealHolding | undefined>(sizes.reals)
    this.#freeServices = new SlotPool(sizes.services)
    this.#freeReals = new SlotPool(sizes.reals)
    this.#ranges = new RangeAllocator(sizes.members)
  }

  get sizes(): Sizes {
    return this.#sizes
  }

  get servicesFree(): number {
    return this.#freeServices.free
  }

  get realsFree(): number {
    return this.#freeReals.free
  }

  service(slot: number): ServiceHolding | undefined {
    return this.#services[slot]
  }

  serviceOfKey(key: string): ServiceHolding | undefined {
    return this.#byKey.get(key)
  }

  holdings(): IterableIterator<ServiceHolding> {
    return this.#byKey.values()
  }

  real(index: number): RealHolding | undefined {
    return this.#reals[index]
  }

  /** The slot of a service, a new one if it has none; null when all are in use. */
  takeService(key: string): ServiceHolding | null {
    const known = this.#byKey.get(key)
    if (known !== undefined) return known
    const slot = this.#freeServices.take()
    return slot === null ? null : this.#hold(slot, key, 'live')
  }

  /** Notes a slot found in use (adoption). */
  adoptService(slot: number, key: string, state: ServiceHolding['state']): ServiceHolding {
    this.#freeServices.occupy(slot)
    return this.#hold(slot, key, state)
  }

  #hold(slot: number, key: string, state: ServiceHolding['state']): ServiceHolding {
    const holding: ServiceHolding = {
      slot,
      key,
      state,
      reals: new Map(),
      ranges: [null, null],
      switchedAtMs: Number.NEGATIVE_INFINITY,
    }
    this.#services[slot] = holding
    this.#byKey.set(key, holding)
    return holding
  }

  dropService(holding: ServiceHolding): void {
    this.#services[holding.slot] = undefined
    this.#byKey.delete(holding.key)
    this.#freeServices.give(holding.slot)
  }

  /** The index of a real server; `fresh` if it had none, null when all are in use. */
  takeReal(service: ServiceHolding, key: string): { index: number; fresh: boolean } | null {
    const known = service.reals.get(key)
    if (known !== undefined) {
      this.goneReals.delete(known)
      return { index: known, fresh: false }
    }
    const index = this.#freeReals.take()
    if (index === null) return null
    this.#reals[index] = { service, key }
    service.reals.set(key, index)
    return { index, fresh: true }
  }

  /** Notes an index found in use (adoption). */
  adoptReal(index: number, service: ServiceHolding, key: string): void {
    this.#freeReals.occupy(index)
    this.#reals[index] = { service, key }
    service.reals.set(key, index)
  }

  dropReal(index: number): void {
    const holding = this.#reals[index]
    if (holding === undefined) return
    holding.service.reals.delete(holding.key)
    this.#reals[index] = undefined
    this.goneReals.delete(index)
    this.#freeReals.give(index)
  }

  /**
   * A range of members nobody reads any more.
   * @returns the range, or how long to wait for one (ms, infinite if there is nothing to wait for).
   */
  takeRange(count: number, nowMs: number): MemberRange | { readonly waitMs: number } {
    this.#releaseQuarantined(nowMs)
    if (count === 0) return { first: 0, count: 0 }
    const first = this.#ranges.allocate(count)
    if (first !== null) return { first, count }
    const next = this.#quarantine[0]
    return { waitMs: next === undefined ? Number.POSITIVE_INFINITY : next.untilMs - nowMs }
  }

  /** Notes a range found in use (adoption); false if it overlaps another. */
  adoptRange(range: MemberRange): boolean {
    return range.count === 0 || this.#ranges.reserve(range.first, range.count)
  }

  /** Packets may still be reading the range: it becomes free a little later. */
  giveRange(range: MemberRange | null, nowMs: number): void {
    if (range === null || range.count === 0) return
    this.#quarantine.push({ range, untilMs: nowMs + QUARANTINE_MS })
  }

  #releaseQuarantined(nowMs: number): void {
    let done = 0
    while (done < this.#quarantine.length && this.#quarantine[done]!.untilMs <= nowMs) {
      const { range } = this.#quarantine[done]!
      this.#ranges.release(range.first, range.count)
      done++
    }
    if (done > 0) this.#quarantine = this.#quarantine.slice(done)
  }
}

/** Free slots: those never used first, then the one that has been free for longest. */
class SlotPool {
  readonly #used: Uint8Array
  #queue: number[] = []
  #head = 0
  #next = 0
  #free: number

  constructor(size: number) {
    this.#used = new Uint8Array(size)
    this.#free = size
  }

  get free(): number {
    return this.#free
  }

  take(): number | null {
    while (this.#next < this.#used.length && this.#used[this.#next] === 1) this.#next++
    let slot: number | undefined
    if (this.#next < this.#used.length) {
      slot = this.#next++
    } else {
      slot = this.#queue[this.#head]
      if (slot === undefined) return null
      this.#head++
      if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
        this.#queue = this.#queue.slice(this.#head)
        this.#head = 0
      }
    }
    this.#used[slot] = 1
    this.#free--
    return slot
  }

  /** Marks a slot as used that no `take` has handed out. */
  occupy(slot: number): void {
    if (this.#used[slot] === 1) return
    this.#used[slot] = 1
    this.#free--
  }

  give(slot: number): void {
    this.#used[slot] = 0
    this.#free++
    if (slot < this.#next) this.#queue.push(slot)
  }
}
