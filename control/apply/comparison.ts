/**
 * Compares what the maps hold with what is wanted, a little at a time, without anybody having changed
 * anything: a stray write, a fault of ours or of a machine's memory is found within minutes, not by users.
 */
import {
  PM_SCHEDULE_ACTIVE,
  RealFlag,
  RealRecord,
  ScheduleRecord,
  ServiceRecord,
} from '../../dataplane/layout/layout.gen.ts'
import { bracketWithin, canBePlayed, seatOf, seatWord } from '../compile/bracket.ts'
import {
  REAL_WORDS,
  realImage,
  SERVICE_WORDS,
  schedulerNumber,
  serviceImage,
  takesAnyPort,
} from '../compile/images.ts'
import { isPlaced } from '../compile/placement.ts'
import { entrySlot, findEntries, isEntryOf } from '../compile/service-index.ts'
import type { PlanView } from '../plan/draft.ts'
import type { ServiceHolding } from '../plan/ledger.ts'
import { SCHEDULE_WORDS } from '../plan/operations.ts'
import type { ServiceEntry } from '../rules/entries.ts'
import type { Rules } from '../rules/rules.ts'
import { weightSteps } from '../rules/scheduler-state.ts'

/** What was found to be different. */
export type Difference = 'service' | 'index entry' | 'schedule' | 'real server'

export type Found =
  | { readonly service: string; readonly difference: Difference }
  /** What the network adds to its real servers is another by now, or not known yet: no fault. */
  | { readonly unplaced: string }
  /** An entry of the index that names no service in force, or not as packets look for it. */
  | { readonly entry: number }

const FLAGS = RealRecord.offsets.flags / 4
const SOURCE = RealRecord.offsets.source / 4
const SCHEDULE_WORD = ServiceRecord.offsets.schedule / 4
/** Real servers between two looks at the clock. */
const STRIDE = 64
/** Entries of the index between two looks at the clock. */
const ENTRIES = 1024

export class Comparison {
  readonly #view: () => PlanView
  readonly #rules: Rules
  readonly #isPending: (service: string) => boolean
  /** Entry of the index that is looked at next, before the services. */
  #entry = 0
  /** Services of the round under way that are still to be looked at. */
  #left: string[] = []
  /** Where the look at the first of them stopped; its list has to be the same when it goes on. */
  #at = 0
  #switchedAtMs = 0

  constructor(view: () => PlanView, rules: Rules, isPending: (service: string) => boolean) {
    this.#view = view
    this.#rules = rules
    this.#isPending = isPending
  }

  /** Looks on until `until` (ms, `performance.now`); what is different, at most one per service. */
  slice(until: number): Found[] {
    const found: Found[] = []
    if (this.#left.length === 0) {
      if (!this.#lookAtIndex(until, found)) return found
      this.#left = Array.from(this.#rules.entries(), ({ key }) => key)
    }
    while (this.#left.length > 0 && performance.now() < until) {
      const key = this.#left.at(-1)!
      const difference = this.#look(key, until)
      if (difference === undefined) continue
      if (difference === 'placement') found.push({ unplaced: key })
      else if (difference !== null) found.push({ service: key, difference })
      this.#left.pop()
      this.#at = 0
    }
    return found
  }

  /** True when all entries have been looked at. */
  #lookAtIndex(until: number, found: Found[]): boolean {
    const { maps, ledger } = this.#view()
    const { u32, u64 } = maps.serviceIndex
    while (this.#entry < u64.length) {
      const stop = Math.min(u64.length, this.#entry + ENTRIES)
      for (; this.#entry < stop; this.#entry++) {
        const at = this.#entry
        if (u32[at * 2] === 0 && u32[at * 2 + 1] === 0) continue
        const slot = entrySlot(u64[at]!)
        const holding = ledger.service(slot)
        if (holding?.state === 'live' && this.#isPending(holding.key)) continue
        if (holding?.state !== 'live' || !isEntryOf(maps.serviceIndex, maps.services, slot, at)) {
          found.push({ entry: at })
        }
      }
      if (performance.now() >= until && this.#entry < u64.length) return false
    }
    this.#entry = 0
    return true
  }

  /** Null if all is well; undefined if it is to go on with the same service. */
  #look(key: string, until: number): Difference | 'placement' | null | undefined {
    const service = this.#rules.findKey(key)
    const view = this.#view()
    const holding = view.ledger.serviceOfKey(key)
    // What is not in force yet will be compared when it comes.
    if (service === undefined || holding === undefined || this.#isPending(key)) return null
    if (this.#at === 0) {
      this.#switchedAtMs = holding.switchedAtMs
      const difference = differenceOfService(view, service, holding)
      if (difference !== null) return difference
    } else if (this.#switchedAtMs !== holding.switchedAtMs) {
      return null
    }
    const { servers } = service
    while (this.#at < servers.length) {
      const stop = Math.min(servers.length, this.#at + STRIDE)
      for (; this.#at < stop; this.#at++) {
        const difference = differenceOfServer(view, service, holding, this.#at)
        if (difference !== null) return difference
      }
      if (performance.now() >= until && this.#at < servers.length) return undefined
    }
    return null
  }
}

function differenceOfService(
  { maps }: PlanView,
  service: ServiceEntry,
  { slot, ranges }: ServiceHolding,
): Difference | null {
  const base = slot * SERVICE_WORDS
  const word = maps.services.u32[base + SCHEDULE_WORD]!
  const image = serviceImage(service.value, service.order, word)
  for (let at = 0; at < SERVICE_WORDS; at++) {
    if (maps.services.u32[base + at] !== image[at]) return 'service'
  }
  if (findEntries(maps.serviceIndex, maps.services, slot).length === 0) return 'index entry'
  const active = (word & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1
  const range = ranges[active]
  const schedule = (slot * 2 + active) * SCHEDULE_WORDS
  if (range === null || (word & 0xff) !== schedulerNumber(service.value.scheduler)) return 'schedule'
  const at = (field: keyof typeof ScheduleRecord.offsets): number =>
    maps.schedules.u32[schedule + ScheduleRecord.offsets[field] / 4]!
  const count = service.servers.length
  const steps = service.weights === null ? { step: 0, max: 0 } : weightSteps(service.weights)
  const same =
    at('first') === range.first &&
    at('count') === count &&
    at('tableCount') === range.count - count &&
    at('tableFirst') === (range.count === count ? 0 : range.first + count) &&
    at('bracket') === bracketWithin(service.value.scheduler, count, range.count - count) &&
    at('weightMax') === steps.max &&
    at('weightStep') === steps.step
  return same ? null : 'schedule'
}

function differenceOfServer(
  view: PlanView,
  service: ServiceEntry,
  holding: ServiceHolding,
  index: number,
): Difference | 'placement' | null {
  const { key, value } = service.servers[index]!
  const real = holding.reals.get(key)
  const range = holding.ranges.find((known) => known !== null)
  if (real === undefined || range === undefined || range === null) return 'schedule'
  const { members, reals, live } = view.maps
  const count = service.servers.length
  const member = (range.first + count - 1 - index) * 2
  if (members.u32[member] !== real || members.u32[member + 1] !== value.weight) return 'schedule'
  const order = bracketWithin(service.value.scheduler, count, range.count - count)
  if (order !== 0) {
    // More than half of the seats are taken, so that this comes by all matches.
    const table = range.first + count
    const seated = seatOf(live, real) === seatWord(service.value.scheduler, index + 1)
    if (!seated || !canBePlayed(members, table, order, 2 * index)) return 'schedule'
  }
  const placement = view.place(value)
  const standing = { slot: holding.slot, anyPort: takesAnyPort(service.value.id) }
  const image = realImage(value, standing, placement)
  const base = real * REAL_WORDS
  for (let at = 0; at < REAL_WORDS; at++) {
    if (at !== FLAGS && (at < SOURCE || at >= SOURCE + 4) && reals.u32[base + at] !== image[at]) {
      return 'real server'
    }
  }
  if ((reals.u32[base + FLAGS]! & ~RealFlag.Local) !== (image[FLAGS]! & ~RealFlag.Local)) return 'real server'
  return isPlaced(reals.u32, real, placement) ? null : 'placement'
}
