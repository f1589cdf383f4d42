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
  readonly state: 'live' | 'gone'
  /** Real servers by identity: those of the service, and removed ones that connections may refer to. */
  readonly reals: ReadonlyMap<string, number>
  /** Range of each of the two schedules. */
  readonly ranges: readonly [MemberRange | null, MemberRange | null]
  /** The table before that in force, which packets may go by (compile/untracked.ts). */
  readonly before: RangeBefore | null
  /** When the active schedule was switched last (ms, monotonic). */
  readonly switchedAtMs: number
}

/** A range that a table before stands in, and whom it names: none of them is used for another one meanwhile. */
export interface RangeBefore {
  readonly range: MemberRange
  readonly reals: ReadonlySet<number>
}

interface Holding extends ServiceHolding {
  state: 'live' | 'gone'
  readonly reals: Map<string, number>
  readonly ranges: [MemberRange | null, MemberRange | null]
  before: RangeBefore | null
  switchedAtMs: number
}

/** A slot of `reals` in use. */
export interface RealHolding {
  readonly service: ServiceHolding
  readonly key: string
}

/**
 * What a plan takes and gives back, committed together with its operations. Until then the ledger knows
 * nothing of it: a plan that is thrown away has cost nothing.
 */
export type Claim =
  | { readonly claim: 'take-service'; readonly slot: number; readonly key: string }
  | { readonly claim: 'publish-service'; readonly slot: number }
  | { readonly claim: 'retire-service'; readonly slot: number }
  | { readonly claim: 'free-service'; readonly slot: number }
  | { readonly claim: 'take-real'; readonly real: number; readonly slot: number; readonly key: string }
  /** Removed before, wanted again. */
  | { readonly claim: 'revive-real'; readonly real: number }
  | { readonly claim: 'retire-real'; readonly real: number }
  | { readonly claim: 'free-real'; readonly real: number }
  /** One of the two schedules of a service gets a range; no other of this service is read any more. */
  | {
      readonly claim: 'switch'
      readonly slot: number
      readonly schedule: 0 | 1
      readonly range: MemberRange
      /** It says that packets may go by the table that stands in there, one of those that the service holds. */
      readonly before: RangeBefore | null
    }
  | { readonly claim: 'settled'; readonly slot: number }

/** What planning may look at. */
export interface LedgerView {
  readonly sizes: Sizes
  readonly servicesFree: number
  readonly realsFree: number
  /** Removed real servers, and since when (ms, monotonic); oldest first. */
  readonly goneReals: ReadonlyMap<number, number>
  service(slot: number): ServiceHolding | undefined
  serviceOfKey(key: string): ServiceHolding | undefined
  holdings(): IterableIterator<ServiceHolding>
  real(index: number): RealHolding | undefined
  /** A free slot; null when all are in use. */
  freeService(): number | null
  /** Up to `count` free indices. */
  freeReals(count: number): number[]
  /** A range of members nobody reads; null when there is none. */
  freeRange(count: number): MemberRange | null
  /** Services that have a table before the one in force. */
  readonly settling: ReadonlySet<ServiceHolding>
  /** Whether packets may be led to a real server by a table before the one in force. */
  isBefore(real: number): boolean
  /** When to ask again for what packets may still be reading (ms); null if there is nothing of that kind. */
  comingMs(): number | null
}

/** Out of packets' sight since then; those that had begun before may still be reading it. */
type Quarantined = { readonly sinceMs: number } & (
  | { readonly range: MemberRange }
  | { readonly slot: number }
)

/** Packets are done with what they have read after microseconds; to know of it takes some milliseconds. */
export const QUIET_LOOK_MS = 2

export class Ledger implements LedgerView {
  readonly sizes: Sizes
  readonly #services: (Holding | undefined)[]
  readonly #byKey = new Map<string, Holding>()
  readonly #reals: ({ readonly service: Holding; readonly key: string } | undefined)[]
  readonly #freeServices: SlotPool
  readonly #freeReals: SlotPool
  readonly #ranges: RangeAllocator
  readonly #goneReals = new Map<number, number>()
  readonly #settling = new Set<Holding>()
  #quarantine: Quarantined[] = []
  #servicesComing = 0

  constructor(sizes: Sizes) {
    this.sizes = sizes
    this.#services = new Array<Holding | undefined>(sizes.services)
    this.#reals = new Array<{ service: Holding; key: string } | undefined>(sizes.reals)
    this.#freeServices = new SlotPool(sizes.services)
    this.#freeReals = new SlotPool(sizes.reals)
    this.#ranges = new RangeAllocator(sizes.members)
  }

  get servicesFree(): number {
    return this.#freeServices.free + this.#servicesComing
  }

  get realsFree(): number {
    return this.#freeReals.free
  }

  get goneReals(): ReadonlyMap<number, number> {
    return this.#goneReals
  }

  service(slot: number): ServiceHolding | undefined {
    return this.#services[slot]
  }

  serviceOfKey(key: string): ServiceHolding | undefined {
    return this.#byKey.get(key)
  }

  /** Whether there is a service of a firewall mark, or connections of one that is gone. */
  get holdsMarks(): boolean {
    for (const key of this.#byKey.keys()) if (key.startsWith('fwmark')) return true
    return false
  }

  /** Services that have a table before the one in force. */
  get settling(): ReadonlySet<ServiceHolding> {
    return this.#settling
  }

  isBefore(real: number): boolean {
    return this.#reals[real]?.service.before?.reals.has(real) ?? false
  }

  holdings(): IterableIterator<ServiceHolding> {
    return this.#byKey.values()
  }

  real(index: number): RealHolding | undefined {
    return this.#reals[index]
  }

  freeService(): number | null {
    return this.#freeServices.peek(1)[0] ?? null
  }

  freeReals(count: number): number[] {
    return this.#freeReals.peek(count)
  }

  freeRange(count: number): MemberRange | null {
    if (count === 0) return { first: 0, count: 0 }
    const first = this.#ranges.find(count)
    return first === null ? null : { first, count }
  }

  comingMs(): number | null {
    return this.#quarantine.length === 0 ? null : QUIET_LOOK_MS
  }

  /**
   * An index for a record that no service has (a health check's), from the far end: rules keep those that
   * were never used. Null when all are in use.
   */
  borrowReal(): number | null {
    const real = this.#freeReals.last()
    if (real !== null) this.#freeReals.take(real)
    return real
  }

  /** The same of one that is found in use. */
  borrowFound(real: number): void {
    this.#freeReals.take(real)
  }

  returnReal(real: number): void {
    this.#freeReals.give(real)
  }

  /** Notes a slot found in use (adoption). */
  adoptService(slot: number, key: string, state: ServiceHolding['state']): ServiceHolding {
    return this.#hold(slot, key, state)
  }

  /** Notes an index found in use (adoption), by a real server that is gone since `goneMs` or is not. */
  adoptReal(index: number, slot: number, key: string, goneMs: number | null = null): void {
    this.#takeReal(index, slot, key)
    if (goneMs !== null) this.#goneReals.set(index, goneMs)
  }

  /** Notes the range of an active schedule (adoption); false if it overlaps another. */
  adoptRange(slot: number, schedule: 0 | 1, range: MemberRange): boolean {
    if (range.count > 0 && !this.#ranges.reserve(range.first, range.count)) return false
    this.#holding(slot).ranges[schedule] = range
    return true
  }

  /** Notes the range of a table before the one in force (adoption); false if it overlaps another. */
  adoptBefore(slot: number, before: RangeBefore): boolean {
    if (!this.#ranges.reserve(before.range.first, before.range.count)) return false
    this.#setBefore(this.#holding(slot), before)
    return true
  }

  #setBefore(holding: Holding, before: RangeBefore | null): void {
    holding.before = before
    if (before === null) this.#settling.delete(holding)
    else this.#settling.add(holding)
  }

  /** What is done cannot be undone: the maps hold it already. */
  commit(claims: readonly Claim[], nowMs: number): void {
    for (const claim of claims) this.#commit(claim, nowMs)
  }

  #commit(claim: Claim, nowMs: number): void {
    switch (claim.claim) {
      case 'take-service':
        this.#hold(claim.slot, claim.key, 'live')
        return
      case 'publish-service':
        this.#holding(claim.slot).state = 'live'
        return
      case 'retire-service': {
        const holding = this.#holding(claim.slot)
        holding.state = 'gone'
        this.#giveRanges(holding, null, nowMs)
        return
      }
      case 'free-service': {
        const holding = this.#holding(claim.slot)
        this.#giveRanges(holding, null, nowMs)
        this.#services[claim.slot] = undefined
        this.#byKey.delete(holding.key)
        this.#servicesComing++
        this.#quarantine.push({ slot: claim.slot, sinceMs: nowMs })
        return
      }
      case 'take-real':
        this.#takeReal(claim.real, claim.slot, claim.key)
        return
      case 'revive-real':
        this.#goneReals.delete(claim.real)
        return
      case 'retire-real':
        this.#goneReals.set(claim.real, nowMs)
        return
      case 'free-real': {
        const real = this.#reals[claim.real]
        if (real === undefined) throw new Error(`Cannot free real server ${claim.real}: it is free`)
        real.service.reals.delete(real.key)
        this.#reals[claim.real] = undefined
        this.#goneReals.delete(claim.real)
        this.#freeReals.give(claim.real)
        return
      }
      case 'switch': {
        const holding = this.#holding(claim.slot)
        const { first, count } = claim.range
        if (count > 0 && !this.#ranges.reserve(first, count)) {
          throw new Error(`Cannot take members ${first} to ${first + count - 1}: they are in use`)
        }
        this.#giveRanges(holding, claim.before, nowMs)
        holding.ranges[claim.schedule] = claim.range
        holding.switchedAtMs = nowMs
        return
      }
      case 'settled': {
        const holding = this.#holding(claim.slot)
        this.#giveRange(holding.before?.range ?? null, nowMs)
        this.#setBefore(holding, null)
        return
      }
      default:
        claim satisfies never
    }
  }

  /** All ranges of a service but the one that is kept. */
  #giveRanges(holding: Holding, kept: RangeBefore | null, nowMs: number): void {
    for (const range of [...holding.ranges, holding.before?.range ?? null]) {
      if (range?.first !== kept?.range.first) this.#giveRange(range, nowMs)
    }
    holding.ranges.fill(null)
    this.#setBefore(holding, kept)
  }

  #holding(slot: number): Holding {
    const holding = this.#services[slot]
    if (holding === undefined) throw new Error(`Service slot ${slot} is free`)
    return holding
  }

  #hold(slot: number, key: string, state: ServiceHolding['state']): Holding {
    this.#freeServices.take(slot)
    const holding: Holding = {
      slot,
      key,
      state,
      reals: new Map(),
      ranges: [null, null],
      before: null,
      switchedAtMs: Number.NEGATIVE_INFINITY,
    }
    this.#services[slot] = holding
    this.#byKey.set(key, holding)
    return holding
  }

  #takeReal(index: number, slot: number, key: string): void {
    const service = this.#holding(slot)
    this.#freeReals.take(index)
    this.#reals[index] = { service, key }
    service.reals.set(key, index)
  }

  /** Packets may still be reading the range: it becomes free a little later. */
  #giveRange(range: MemberRange | null, nowMs: number): void {
    if (range === null || range.count === 0) return
    this.#quarantine.push({ range, sinceMs: nowMs })
  }

  /** No packet is under way that had begun before this moment: what was out of sight by then is free again. */
  release(quietMs: number): void {
    let done = 0
    for (const found of this.#quarantine) {
      if (found.sinceMs >= quietMs) break
      if ('range' in found) {
        this.#ranges.release(found.range.first, found.range.count)
      } else {
        this.#freeServices.give(found.slot)
        this.#servicesComing--
      }
      done++
    }
    if (done > 0) this.#quarantine = this.#quarantine.slice(done)
  }
}

/** Free slots: those never used first, then the one that has been free for longest. */
class SlotPool {
  readonly #used: Uint8Array
  /** Given back and not taken since, each once. */
  readonly #queue = new Set<number>()
  #next = 0
  #free: number

  constructor(size: number) {
    this.#used = new Uint8Array(size)
    this.#free = size
  }

  get free(): number {
    return this.#free
  }

  /** Up to `count` slots that are free, in the order in which they should be taken. */
  peek(count: number): number[] {
    const slots: number[] = []
    for (let slot = this.#next; slot < this.#used.length && slots.length < count; slot++) {
      if (!this.#knows(slot)) slots.push(slot)
    }
    for (const slot of this.#queue) {
      if (slots.length >= count) break
      slots.push(slot)
    }
    return slots
  }

  /** The free slot with the highest number. */
  last(): number | null {
    for (let slot = this.#used.length - 1; slot >= 0; slot--) if (this.#used[slot] === 0) return slot
    return null
  }

  take(slot: number): void {
    if (this.#used[slot] !== 0) throw new Error(`Slot ${slot} is in use`)
    this.#used[slot] = 1
    this.#free--
    this.#queue.delete(slot)
    while (this.#next < this.#used.length && this.#knows(this.#next)) this.#next++
  }

  give(slot: number): void {
    this.#used[slot] = 0
    this.#free++
    this.#queue.add(slot)
  }

  #knows(slot: number): boolean {
    return this.#used[slot] === 1 || this.#queue.has(slot)
  }
}
