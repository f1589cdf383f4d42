/** What planning looks at, and a plan in the making. */
import { PM_SCHEDULE_ACTIVE, ScheduleRecord, ServiceRecord } from '../../dataplane/layout/layout.gen.ts'
import { type Placement, SERVICE_WORDS } from '../compile/images.ts'
import type { RealServer } from '../model/server.ts'
import type { Change } from '../rules/changes.ts'
import type { ServerEntry, ServiceEntry } from '../rules/entries.ts'
import type { Claim, LedgerView, MemberRange, ServiceHolding } from './ledger.ts'
import { type Operation, type RuleMaps, SCHEDULE_WORDS } from './operations.ts'

/** What is looked at: all of it only read. */
export interface PlanView {
  readonly ledger: LedgerView
  readonly maps: RuleMaps
  /** No packet is under way that had begun before this moment (milliseconds, monotonic). */
  readonly quietMs: number
  /** The packet program's clock. */
  nowTicks(): number
  place(server: RealServer): Placement
}

/** A plan in the making: what it has found out, and what it will take. */
export interface Draft {
  readonly view: PlanView
  readonly service: ServiceEntry
  readonly change: Change
  /** Null for a service that the maps do not hold. */
  readonly holding: ServiceHolding | null
  readonly slot: number
  /** Real servers that take part, oldest first: all, or those there is room for. */
  readonly servers: readonly ServerEntry[]
  /** Indices of those that the maps do not hold yet. */
  readonly fresh: ReadonlyMap<string, number>
  readonly operations: Operation[]
  readonly claims: Claim[]
}

export function indexOf(draft: Draft, key: string): number {
  const index = draft.holding?.reals.get(key) ?? draft.fresh.get(key)
  if (index === undefined) throw new Error(`Real server "${key}" of "${draft.service.key}" has no index`)
  return index
}

const SCHEDULE_WORD = ServiceRecord.offsets.schedule / 4

/** Number of the schedule in force. */
export function activeSchedule({ view, slot }: Draft): 0 | 1 {
  const word = view.maps.services.u32[slot * SERVICE_WORDS + SCHEDULE_WORD]!
  return (word & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1
}

/** Where the members of the schedule in force stand; null if they are not known to be ours. */
export function membersInForce(draft: Draft): MemberRange | null {
  const { view, holding, slot } = draft
  if (holding === null) return null
  const active = activeSchedule(draft)
  const range = holding.ranges[active]
  if (range === null) return null
  const base = (slot * 2 + active) * SCHEDULE_WORDS
  const count = view.maps.schedules.u32[base + ScheduleRecord.offsets.count / 4]!
  return { first: range.first, count: Math.min(count, range.count) }
}
