/**
 * From rules and what the maps hold to the steps between them. Order, per service:
 *
 *   1. real servers: filled before a schedule names them;
 *   2. members and the idle schedule: filled before the switch;
 *   3. the service: its record before an index entry names it, or the one store that switches over;
 *   4. leftovers: real servers no schedule names any more are retired, never freed here.
 *
 * A removed service leaves the index first. So no packet ever meets a schedule that names a free real
 * server, whatever the moment.
 */
import {
  LiveRecord,
  PM_SCHEDULE_ACTIVE,
  RealRecord,
  ScheduleRecord,
  ServiceRecord,
  Slot,
} from '../../dataplane/layout/layout.gen.ts'
import {
  type Placement,
  REAL_WORDS,
  realImage,
  SERVICE_WORDS,
  schedulerNumber,
  serviceImage,
} from '../compile/images.ts'
import { dhTable, mhTable, shTable, type TableEntry } from '../compile/lookup-table.ts'
import { findEntries, planEntry } from '../compile/service-index.ts'
import { serviceText } from '../model/identity.ts'
import type { RealServer } from '../model/server.ts'
import { newestFirst, type ServerEntry, type ServiceEntry } from '../rules/entries.ts'
import { weightSteps } from '../rules/scheduler-state.ts'
import { overloadedAfterEdit } from '../rules/thresholds.ts'
import type { Ledger, MemberRange, ServiceHolding } from './ledger.ts'
import { type Operation, type RuleMaps, SCHEDULE_WORDS, SERVICE_REVISIONS } from './operations.ts'

/** The maps have no room for what the rules ask for. */
export class CapacityError extends Error {
  override readonly name = 'CapacityError'
}

/** What has changed about a service since the maps were right. */
export interface Change {
  /** New, perhaps in the place of one with the same identity that the maps still hold. */
  readonly created: boolean
  /** The real servers, their weights or the scheduler differ. */
  readonly reschedule: boolean
  /** Added or edited. */
  readonly touched: ReadonlySet<ServerEntry>
  /** Identities of removed ones. */
  readonly removed: ReadonlySet<string>
}

export interface PlanContext {
  readonly ledger: Ledger
  readonly maps: RuleMaps
  /** Milliseconds, monotonic. */
  readonly nowMs: number
  place(server: RealServer): Placement
}

const SLOT_WORD = RealRecord.offsets.slot / 4
const LIVE_WORDS = LiveRecord.size / 4

/** Slots of the lookup table, as indices into the list of real servers; empty for most schedulers. */
function lookupTable(service: ServiceEntry): Uint32Array {
  const { scheduler, id } = service.value
  if (scheduler !== 'dh' && scheduler !== 'sh' && scheduler !== 'mh') return new Uint32Array(0)
  const entries: TableEntry[] = Array.from(newestFirst(service), ({ value, lastWeight }) => ({
    address: value.id.address,
    port: value.id.port,
    weight: value.weight,
    lastWeight,
  }))
  if (scheduler === 'dh') return dhTable(entries)
  return scheduler === 'sh' ? shTable(entries) : mhTable(entries, id.family)
}

/** The steps that bring a service in force, or how long to wait until there is room. */
export function planService(
  context: PlanContext,
  service: ServiceEntry,
  change: Change,
): Operation[] | { readonly waitMs: number } {
  const { ledger, maps } = context
  const holding = ledger.takeService(service.key)
  if (holding === null) throw full('services', ledger.sizes.services, service)
  const base = holding.slot * SERVICE_WORDS
  const published = maps.services.u32[base] === Slot.Live
  const current = maps.services.u32[base + ServiceRecord.offsets.schedule / 4]!

  const operations: Operation[] = []
  const reschedule = change.reschedule || change.created || !published
  let table: Uint32Array | null = null
  let range: MemberRange | null = null
  if (reschedule) {
    table = lookupTable(service)
    const room = ledger.takeRange(service.servers.length + table.length, context.nowMs)
    if ('waitMs' in room) {
      if (room.waitMs === Number.POSITIVE_INFINITY) throw full('members', ledger.sizes.members, service)
      return room
    }
    range = room
  }

  service.slot = holding.slot
  for (const server of change.touched) planServer(context, holding, service, server, operations)

  let word = (current & PM_SCHEDULE_ACTIVE) | schedulerNumber(service.value.scheduler)
  if (range !== null && table !== null) {
    word ^= PM_SCHEDULE_ACTIVE
    const idle = (word & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1
    if (range.count > 0) {
      const words = memberWords(
        service,
        table,
        change.created ? null : oldMembers(maps, holding, 1 - idle),
        change,
        holding,
      )
      operations.push({ op: 'fill-members', first: range.first, words })
    }
    operations.push({
      op: 'fill-schedule',
      schedule: holding.slot * 2 + idle,
      image: scheduleImage(service, range, table.length),
    })
    ledger.giveRange(holding.ranges[1 - idle]!, context.nowMs)
    holding.ranges[idle] = range
    holding.ranges[1 - idle] = null
    holding.switchedAtMs = context.nowMs
  }

  planRecord(context, holding, service, word, published, operations)
  holding.state = 'live'

  const removed = change.created ? leftBehind(holding, service) : change.removed
  for (const key of removed) {
    if (!service.byKey.has(key)) planRetirement(context, holding, key, operations)
  }
  return operations
}

function* leftBehind(holding: ServiceHolding, service: ServiceEntry): Generator<string> {
  for (const key of holding.reals.keys()) if (!service.byKey.has(key)) yield key
}

function full(what: string, size: number, service: ServiceEntry): CapacityError {
  return new CapacityError(
    `Cannot bring service "${serviceText(service.value.id)}" in force: all ${size} ${what} are in use`,
  )
}

function planServer(
  context: PlanContext,
  holding: ServiceHolding,
  service: ServiceEntry,
  server: ServerEntry,
  operations: Operation[],
): void {
  const { ledger, maps } = context
  const taken = ledger.takeReal(holding, server.key)
  if (taken === null) throw full('real servers', ledger.sizes.reals, service)
  const real = taken.index
  server.real = real
  const image = realImage(server.value, holding.slot, context.place(server.value))
  const base = real * REAL_WORDS
  if (maps.reals.u32[base + SLOT_WORD] === Slot.Free) {
    operations.push({ op: 'fill-real', real, image })
    return
  }
  if (differs(maps.reals.u32, base, image)) operations.push({ op: 'revise-real', real, image })
  const live = real * LIVE_WORDS
  const total =
    maps.live.u32[live + LiveRecord.offsets.active / 4]! +
    maps.live.u32[live + LiveRecord.offsets.inactive / 4]!
  const was = maps.live.u32[live + LiveRecord.offsets.overloaded / 4] !== 0
  const { upperThreshold, lowerThreshold } = server.value
  const overloaded = overloadedAfterEdit(was, upperThreshold, lowerThreshold, total)
  if (overloaded !== was) operations.push({ op: 'mark-overload', real, overloaded })
}

function differs(memory: Uint32Array, base: number, image: Uint32Array): boolean {
  for (let word = 0; word < image.length; word++) if (memory[base + word] !== image[word]) return true
  return false
}

/** Fewer changes than this are patched into a copy of the old members. */
const PATCH_MAX = 16

/** The members of a schedule in force. */
function oldMembers(maps: RuleMaps, holding: ServiceHolding, index: number): Uint32Array | null {
  const range = holding.ranges[index]
  if (range === null || range === undefined) return null
  const base = (holding.slot * 2 + index) * SCHEDULE_WORDS
  const count = maps.schedules.u32[base + ScheduleRecord.offsets.count / 4]!
  return maps.members.u32.subarray(range.first * 2, (range.first + count) * 2)
}

/** Members in list order, then the lookup table: each entry is the index of a real server and its weight. */
function memberWords(
  service: ServiceEntry,
  table: Uint32Array,
  old: Uint32Array | null,
  change: Change,
  holding: ServiceHolding,
): Uint32Array {
  const { servers } = service
  const words = new Uint32Array((servers.length + table.length) * 2)
  if (old === null || change.touched.size + change.removed.size > PATCH_MAX) {
    for (let i = servers.length - 1, at = 0; i >= 0; i--) at = putMember(words, at, servers[i]!)
  } else {
    patchMembers(words, servers, old, change, holding)
  }
  let at = servers.length * 2
  for (const index of table) at = putMember(words, at, servers[servers.length - 1 - index]!)
  return words
}

function putMember(words: Uint32Array, at: number, server: ServerEntry): number {
  words[at] = server.real
  words[at + 1] = server.value.weight
  return at + 2
}

/**
 * The old members without the removed ones, behind the added ones, with edited weights: one change among
 * 100,000 real servers does not visit the other 99,999 objects.
 */
function patchMembers(
  words: Uint32Array,
  servers: readonly ServerEntry[],
  old: Uint32Array,
  change: Change,
  holding: ServiceHolding,
): void {
  const gaps: number[] = []
  for (const key of change.removed) {
    const at = findMember(old, holding.reals.get(key))
    if (at >= 0) gaps.push(at)
  }
  gaps.sort((a, b) => a - b)
  // Whatever was not there before was added, and stands in front: newest first.
  let at = 0
  const kept = old.length / 2 - gaps.length
  for (let i = servers.length - 1; i >= kept; i--) at = putMember(words, at, servers[i]!)
  const first = at
  let from = 0
  for (const gap of [...gaps, old.length]) {
    words.set(old.subarray(from, gap), at)
    at += gap - from
    from = gap + 2
  }
  for (const { real, value } of change.touched) {
    const member = findMember(words.subarray(first, at), real)
    if (member >= 0) words[first + member + 1] = value.weight
  }
}

/** Word of the member that stands for a real server, -1 if none does. */
function findMember(words: Uint32Array, real: number | undefined): number {
  for (let at = 0; at < words.length; at += 2) if (words[at] === real) return at
  return -1
}

function scheduleImage(service: ServiceEntry, range: MemberRange, table: number): Uint32Array {
  const image = new Uint32Array(SCHEDULE_WORDS)
  const { state, servers } = service
  const count = servers.length
  const steps = state.weights === null ? null : weightSteps(state.weights)
  // Positions count from 1 in list order, newest first; 0 is the head.
  const position = state.last === null ? 0 : count - servers.indexOf(state.last)
  const weight = steps === null ? 0 : state.weight
  ScheduleRecord.write(new DataView(image.buffer), 0, {
    first: range.first,
    count,
    tableFirst: table === 0 ? 0 : range.first + count,
    tableCount: table,
    weightMax: steps?.max ?? 0,
    weightStep: steps?.step ?? 0,
    cursor: BigInt(position) | (BigInt.asUintN(32, BigInt(weight)) << 32n),
  })
  return image
}

/** The service's own record and its way to the packets. */
function planRecord(
  context: PlanContext,
  holding: ServiceHolding,
  service: ServiceEntry,
  schedule: number,
  published: boolean,
  operations: Operation[],
): void {
  const { maps } = context
  const { slot } = holding
  const image = serviceImage(service.value, service.order, schedule)
  if (published) {
    for (const word of SERVICE_REVISIONS) {
      const at = ServiceRecord.offsets[word] / 4
      const value = image[at]!
      if (maps.services.u32[slot * SERVICE_WORDS + at] !== value) {
        operations.push({ op: 'revise-service', slot, word, value })
      }
    }
    const at = slot * SERVICE_WORDS + ServiceRecord.offsets.schedule / 4
    if (maps.services.u32[at] !== schedule) operations.push({ op: 'switch', slot, value: schedule })
    return
  }
  const stores = planEntry(maps.serviceIndex, maps.services, slot, image)
  if (stores === null) throw full('index entries near its place', maps.serviceIndex.entries * 8, service)
  operations.push({ op: 'fill-service', slot, image })
  for (const store of stores) operations.push({ op: 'index', ...store })
}

function planRetirement(
  context: PlanContext,
  holding: ServiceHolding,
  key: string,
  operations: Operation[],
): void {
  const real = holding.reals.get(key)
  if (real === undefined || context.maps.reals.u32[real * REAL_WORDS + SLOT_WORD] !== Slot.Live) return
  operations.push({ op: 'retire-real', real })
  context.ledger.goneReals.set(real, context.nowMs)
}

/** The steps that take a service away from packets. Its slot stays while connections may refer to it. */
export function planRemoval(context: PlanContext, holding: ServiceHolding): Operation[] {
  const { ledger, maps } = context
  const { slot } = holding
  const operations: Operation[] = findEntries(maps.serviceIndex, maps.services, slot).map((at) => ({
    op: 'index',
    at,
    entry: 0n,
  }))
  for (const key of holding.reals.keys()) planRetirement(context, holding, key, operations)
  for (const range of holding.ranges) ledger.giveRange(range, context.nowMs)
  holding.ranges.fill(null)
  holding.state = 'gone'
  if (holding.reals.size > 0) {
    operations.push({ op: 'retire-service', slot })
  } else {
    operations.push({ op: 'free-service', slot })
    ledger.dropService(holding)
  }
  return operations
}
