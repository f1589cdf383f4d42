/**
 * From rules and what the maps hold to the steps between them, as a value: nothing is taken, written or
 * marked here. Order, per service:
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
  CountersRecord,
  LiveRecord,
  PM_SCHEDULE_ACTIVE,
  RealRecord,
  ScheduleRecord,
  ServiceFlag,
  ServiceRecord,
  Slot,
} from '../../dataplane/layout/layout.gen.ts'
import { bracketLength, bracketMatches, bracketOrder, bracketWithin } from '../compile/bracket.ts'
import {
  REAL_WORDS,
  realImage,
  SERVICE_WORDS,
  schedulerNumber,
  serviceImage,
  takesAnyPort,
} from '../compile/images.ts'
import { dhTable, mhTable, shTable, type TableEntry } from '../compile/lookup-table.ts'
import { entrySlot, findEntries, planEntry } from '../compile/service-index.ts'
import {
  HOW_WORD,
  howOf,
  isPast,
  isUntracked,
  longestSilence,
  SETTLED,
  SETTLING_WORDS,
  type Settling,
  settlingFields,
  settlingOf,
  succeed,
  tableOf,
} from '../compile/untracked.ts'
import { serviceText } from '../model/identity.ts'
import type { Change } from '../rules/changes.ts'
import type { ServerEntry, ServiceEntry } from '../rules/entries.ts'
import {
  type Cursor,
  moved,
  START,
  type WeightSteps,
  weightSteps,
  weightsOf,
} from '../rules/scheduler-state.ts'
import { overloadedAfterEdit } from '../rules/thresholds.ts'
import { isPinned } from './capacity.ts'
import { activeSchedule, type Draft, indexOf, type PlanView } from './draft.ts'
import {
  type Claim,
  type MemberRange,
  QUIET_LOOK_MS,
  type RangeBefore,
  type ServiceHolding,
} from './ledger.ts'
import { memberWords, planMembers } from './members.ts'
import { type Operation, type RuleMaps, SCHEDULE_WORDS, SERVICE_REVISIONS } from './operations.ts'
import { countSeated, planSeats } from './seats.ts'

/** A service cannot be brought in force, or not yet; the message says which and why. */
export class CapacityError extends Error {
  override readonly name = 'CapacityError'
}

/** What the maps have too little of. */
export interface Lack {
  readonly what: 'services' | 'real servers' | 'members' | 'index entries'
  readonly wanted: number
  readonly free: number
  /** How many there are at all. */
  readonly size: number
}

/** Steps, and what they take: to be executed and committed together. */
export interface Steps {
  readonly kind: 'steps'
  readonly operations: readonly Operation[]
  readonly claims: readonly Claim[]
  /** What the steps leave out, if only a part was asked for. */
  readonly lack: Lack | null
  /** Real servers are filled that no schedule names yet: the same change is to be planned again. */
  readonly unfinished?: true
}

export type Plan =
  | Steps
  | { readonly kind: 'wait'; readonly waitMs: number }
  | { readonly kind: 'lacks'; readonly lack: Lack }

const SLOT_WORD = RealRecord.offsets.slot / 4
const LIVE_WORDS = LiveRecord.size / 4
const COUNTER_WORDS = CountersRecord.size / 4
/** Its low half: that comes round once in four thousand million packets. */
const IN_PACKETS = CountersRecord.offsets.inPackets / 4
const SCHEDULE_WORD = ServiceRecord.offsets.schedule / 4
const FLAGS_WORD = ServiceRecord.offsets.flags / 4
const SCHEDULER_FLAGS = ServiceFlag.Sched1 | ServiceFlag.Sched2 | ServiceFlag.Sched3
const CURSOR = ScheduleRecord.offsets.cursor / 4
const { offsets } = ScheduleRecord
/** Words of a schedule that are the packets': where they are, how far they have played the bracket, whether there is nobody. */
const OF_PACKETS: ReadonlySet<number> = new Set(
  [offsets.cursor, offsets.cursor + 4, offsets.unplayed, offsets.released, offsets.nobody].map(
    (offset) => offset / 4,
  ),
)

export function describeLack(service: ServiceEntry, { what, wanted, free, size }: Lack): string {
  const need = wanted > size ? `it needs ${wanted} ${what}, and there are ${size}` : null
  return `Cannot bring service "${serviceText(service.value.id)}" in force: ${
    need ?? `it needs ${wanted} more ${what}, and of all ${size} only ${free} are free`
  }`
}

/** More new real servers than this are filled in plans of their own: one of 100,000 takes too long to wait for. */
const FILL_MAX = 2048

/**
 * The steps that bring a service in force; or how long to wait, or what there is too little of.
 * @param partly take as many real servers as there is room for, rather than none
 * @param fillMax at most so many new real servers in one plan
 */
export function planService(
  view: PlanView,
  service: ServiceEntry,
  change: Change,
  partly = false,
  fillMax = FILL_MAX,
): Plan {
  const { ledger, maps } = view
  const holding = ledger.serviceOfKey(service.key) ?? null
  const slot = holding?.slot ?? ledger.freeService()
  if (slot === null) {
    const waitMs = ledger.servicesFree > 0 ? ledger.comingMs() : null
    if (waitMs !== null) return { kind: 'wait', waitMs }
    return lacks({ what: 'services', wanted: 1, free: 0, size: ledger.sizes.services })
  }
  const published = isPublished(view, service, holding, change)
  const everything = change.all || change.created || !published
  const looked: ReadonlySet<string> | ReadonlyMap<string, unknown> = everything
    ? service.byKey
    : change.servers
  const isMissing = (key: string): boolean =>
    (everything || service.byKey.has(key)) && holding?.reals.has(key) !== true
  let wanted = 0
  for (const key of looked.keys()) if (isMissing(key)) wanted++
  const free = ledger.realsFree
  const lack: Lack | null =
    wanted <= free ? null : { what: 'real servers', wanted, free, size: ledger.sizes.reals }
  if (lack !== null && !partly) return lacks(lack)
  const fills = Math.min(wanted, free) > fillMax
  const indices = ledger.freeReals(Math.min(wanted, fills ? fillMax : free))
  const fresh = new Map<string, number>()
  const absent = new Set<string>()
  for (const key of wanted === 0 ? [] : looked.keys()) {
    if (!isMissing(key)) continue
    if (fresh.size < indices.length) fresh.set(key, indices[fresh.size]!)
    else if (fills) break
    else absent.add(key)
  }

  const draft: Draft = {
    view,
    service,
    change,
    holding,
    slot,
    servers: absent.size === 0 ? service.servers : service.servers.filter(({ key }) => !absent.has(key)),
    fresh,
    operations: [],
    claims: [],
  }
  if (holding === null) draft.claims.push({ claim: 'take-service', slot, key: service.key })
  if (fills) return planFilling(draft)
  const current = published ? maps.services.u32[slot * SERVICE_WORDS + SCHEDULE_WORD]! : 0
  const table = lookupTable(draft)
  let word = (current & PM_SCHEDULE_ACTIVE) | schedulerNumber(service.value.scheduler)
  let range: MemberRange | null = null
  let order = bracketOrder(service.value.scheduler, draft.servers.length)
  const reschedule =
    change.reschedule || !published || isTrackedOtherwise(draft) || (change.all && !isScheduled(draft, table))
  if (reschedule) {
    const count = draft.servers.length + table.length
    range = ledger.freeRange(count + bracketLength(order))
    if (range === null) {
      const waitMs = ledger.comingMs()
      if (waitMs !== null) return { kind: 'wait', waitMs }
      // Then packets walk over the members.
      order = 0
      range = ledger.freeRange(count)
    }
    if (range === null) {
      return lacks({ what: 'members', wanted: count, free: 0, size: ledger.sizes.members })
    }
  }

  for (const key of looked.keys()) {
    const server = service.byKey.get(key)
    if (server !== undefined && !absent.has(key)) planServer(draft, server)
  }
  if (range !== null) {
    const settling = settlingAfter(draft, published)
    word ^= PM_SCHEDULE_ACTIVE
    const idle = (word & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1
    const anew = everything || absent.size > 0
    const { operations, unmoved } = planMembers(draft, range.first, table, bracketLength(order), anew)
    draft.operations.push(...operations)
    planSeats(draft, range.first, order, unmoved)
    draft.operations.push({
      op: 'fill-schedule',
      schedule: slot * 2 + idle,
      image: scheduleImage(draft, range, order, settling),
    })
    draft.claims.push({ claim: 'switch', slot, schedule: idle, range, before: rangeBefore(draft, settling) })
  }
  const room = planRecord(draft, word, published)
  if (room !== null) return lacks(room)
  if (holding !== null && holding.state !== 'live') draft.claims.push({ claim: 'publish-service', slot })

  for (const key of everything ? (holding?.reals.keys() ?? []) : looked.keys()) {
    if (!service.byKey.has(key)) planRetirement(draft, holding, key)
  }
  return { kind: 'steps', operations: draft.operations, claims: draft.claims, lack }
}

/** Some of the new real servers, which nothing points at until all are there. */
function planFilling(draft: Draft): Steps {
  const { service, fresh, operations, claims } = draft
  for (const key of fresh.keys()) planServer(draft, service.byKey.get(key)!)
  return { kind: 'steps', operations, claims, lack: null, unfinished: true }
}

function lacks(lack: Lack): Plan {
  return { kind: 'lacks', lack }
}

/** Whether packets find the service, as what it is. */
function isPublished(
  { maps }: PlanView,
  service: ServiceEntry,
  holding: ServiceHolding | null,
  change: Change,
): boolean {
  if (holding === null || holding.state !== 'live') return false
  const base = holding.slot * SERVICE_WORDS
  if (maps.services.u32[base] !== Slot.Live) return false
  if (!change.all) return true
  const image = serviceImage(service.value, service.order, 0)
  for (let word = 0; word < IDENTITY_WORDS; word++) {
    if (maps.services.u32[base + word] !== image[word]) return false
  }
  return findEntries(maps.serviceIndex, maps.services, holding.slot).length > 0
}

/** Slot, family, protocol, port, address and mark: what a packet finds a service by. */
const IDENTITY_WORDS = ServiceRecord.offsets.flags / 4

/** Slots of the lookup table, as indices into the list of real servers; empty for most schedulers. */
function lookupTable({ service, servers }: Draft): Uint32Array {
  const { scheduler, id } = service.value
  if (scheduler !== 'dh' && scheduler !== 'sh' && scheduler !== 'mh') return new Uint32Array(0)
  const entries: TableEntry[] = servers.map(({ value, lastWeight }) => ({
    address: value.id.address,
    port: value.id.port,
    weight: value.weight,
    lastWeight,
  }))
  entries.reverse()
  if (scheduler === 'dh') return dhTable(entries)
  return scheduler === 'sh' ? shTable(entries) : mhTable(entries, id.family)
}

function planServer(draft: Draft, server: ServerEntry): void {
  const { view, slot, service, operations, claims } = draft
  const { maps, ledger } = view
  const real = indexOf(draft, server.key)
  const standing = { slot, anyPort: takesAnyPort(service.value.id) }
  const image = realImage(server.value, standing, view.place(server.value))
  if (draft.fresh.has(server.key)) {
    claims.push({ claim: 'take-real', real, slot, key: server.key })
    operations.push({ op: 'fill-real', real, image })
    return
  }
  if (ledger.goneReals.has(real)) claims.push({ claim: 'revive-real', real })
  const base = real * REAL_WORDS
  // Nobody frees an index that the ledger holds: somebody has written to the maps beside us.
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

/** What the service in force is as, by its record: flags of enum pm_service_flag. */
function flagsInForce({ view, slot }: Draft): number {
  return view.maps.services.u32[slot * SERVICE_WORDS + FLAGS_WORD]!
}

/**
 * Whether a service in force is to be tracked in another way, or, where connections are not remembered, to choose in
 * another way: that is a change of its table.
 */
function isTrackedOtherwise(draft: Draft): boolean {
  const flags = flagsInForce(draft)
  const { untracked, schedulerFlags } = draft.service.value
  if (isUntracked(flags) !== untracked) return true
  return untracked && (flags & SCHEDULER_FLAGS) !== (schedulerFlags & SCHEDULER_FLAGS)
}

/** What the next schedule of the service says of connections that it would move. */
function settlingAfter(draft: Draft, published: boolean): Settling {
  const { view, slot, service, holding } = draft
  const { maps } = view
  const { untracked, id } = service.value
  const schedule = slot * 2 + activeSchedule(draft)
  const inForce = published ? settlingOf(maps.schedules, schedule) : SETTLED
  const wasUntracked = published ? isUntracked(flagsInForce(draft)) : null
  // Most services are like this, and to ask whether they are unused comes by all of their real servers.
  if (!untracked && wasUntracked !== true && inForce.before === null) return SETTLED
  const settling = published && holding !== null && isUnused(maps, holding) ? SETTLED : inForce
  if (!untracked && wasUntracked !== true && settling.before === null) return SETTLED
  const how =
    maps.schedules.u32[schedule * SCHEDULE_WORDS + HOW_WORD]! ||
    howOf({ ...service.value, schedulerFlags: flagsInForce(draft) & SCHEDULER_FLAGS })
  return succeed({
    untracked,
    wasUntracked,
    settling,
    table: tableOf(maps.schedules, schedule, how),
    nowTicks: view.nowTicks(),
    longest: longestSilence(maps.settings, id.kind === 'address' && id.protocol === 'udp' ? 'udp' : 'tcp'),
    mayHaveLines: holding !== null,
  })
}

/** Where the table before stands, among what the service holds. */
function rangeBefore({ view, holding }: Draft, { before }: Settling): RangeBefore | null {
  if (before === null) return null
  if (holding?.before?.range.first === before.first - before.servers) return holding.before
  return rangeOfTable(view.maps.members.u32, before)
}

/** The range of a table and the real servers in front of it, and who those are. */
export function rangeOfTable(
  members: Uint32Array,
  { first, servers, slots }: NonNullable<Settling['before']>,
): RangeBefore {
  const range = { first: first - servers, count: servers + slots }
  const reals = new Set<number>()
  for (let at = range.first; at < first; at++) reals.add(members[at * 2]!)
  return { range, reals }
}

/** Whether no packet has ever come to any real server of a service: then it has no connections. */
function isUnused({ counters, cpus }: RuleMaps, { reals }: ServiceHolding): boolean {
  for (const real of reals.values()) {
    for (let row = real * cpus; row < (real + 1) * cpus; row++) {
      if (counters.u32[row * COUNTER_WORDS + IN_PACKETS] !== 0) return false
    }
  }
  return true
}

/** Steps that let go of tables before the ones in force, whose time is over. */
export function planSettled({ ledger, maps, nowTicks, quietMs }: PlanView): Steps {
  const operations: Operation[] = []
  const claims: Claim[] = []
  for (const holding of ledger.settling) {
    const { slot } = holding
    const word = maps.services.u32[slot * SERVICE_WORDS + SCHEDULE_WORD]!
    const schedule = slot * 2 + ((word & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1)
    const { before, settles } = settlingOf(maps.schedules, schedule)
    // Who went by the table before has been counted by then.
    const unused = holding.switchedAtMs < quietMs && isUnused(maps, holding)
    if (before !== null && !unused && !isPast(nowTicks(), settles)) continue
    operations.push({ op: 'settled', schedule, unused })
    claims.push({ claim: 'settled', slot })
  }
  return { kind: 'steps', operations, claims, lack: null }
}

/** Whether the schedule in force names these real servers with these weights, in this order. */
function isScheduled(draft: Draft, table: Uint32Array): boolean {
  const { view, holding, slot, service, servers } = draft
  const active = activeSchedule(draft)
  const range = holding?.ranges[active] ?? null
  if (range === null) return false
  const order = bracketWithin(service.value.scheduler, servers.length, range.count - servers.length)
  if (range.count !== servers.length + table.length + bracketLength(order)) return false
  const { services, schedules, members } = view.maps
  const word = services.u32[slot * SERVICE_WORDS + SCHEDULE_WORD]!
  if ((word & 0xff) !== schedulerNumber(service.value.scheduler)) return false
  const base = (slot * 2 + active) * SCHEDULE_WORDS
  const image = scheduleImage(draft, range, order, SETTLED)
  for (let at = 0; at < SCHEDULE_WORDS; at++) {
    if (OF_PACKETS.has(at) || SETTLING_WORDS.has(at)) continue
    // A director before this one may have left that to the service's record.
    if (at === HOW_WORD && schedules.u32[base + at] === 0) continue
    if (schedules.u32[base + at] !== image[at]) return false
  }
  if (servers.some(({ key }) => holding?.reals.has(key) !== true)) return false
  const words = memberWords(draft, table, 0)
  for (let at = 0; at < words.length; at++) {
    if (members.u32[range.first * 2 + at] !== words[at]) return false
  }
  return order === 0 || countSeated(draft) === servers.length
}

/** Where packets have left the cursor of the schedule in force. */
function readCursor(draft: Draft): Cursor {
  const { view, holding, slot } = draft
  if (holding === null || holding.state !== 'live') return START
  const active = activeSchedule(draft)
  const { schedules, members } = view.maps
  const at = (slot * 2 + active) * SCHEDULE_WORDS + CURSOR
  const cursor = Atomics.load(schedules.u64, at / 2)
  const weight = Number(BigInt.asIntN(32, cursor >> 32n))
  const position = Number(cursor & 0xffffffffn)
  const range = holding.ranges[active]
  if (position === 0 || range === null || position > range.count) return { last: null, weight }
  const real = members.u32[(range.first + position - 1) * 2]!
  return { last: view.ledger.real(real)?.key ?? null, weight }
}

function scheduleImage(draft: Draft, range: MemberRange, bracket: number, settling: Settling): Uint32Array {
  const image = new Uint32Array(SCHEDULE_WORDS)
  const { servers, service, change } = draft
  const count = servers.length
  const table = range.count - count
  let cursor = moved(change.created ? START : readCursor(draft), change.moves)
  let steps: WeightSteps | null = null
  if (service.weights !== null) {
    const whole = count === service.servers.length
    steps = weightSteps(whole ? service.weights : weightsOf(servers))
    // A part of the list has weights of its own, which no change of the rules has noted.
    if (!whole || change.all) cursor = moved(cursor, reweighted(draft, steps))
  }
  // Positions count from 1 in list order, newest first; 0 is the head.
  const last = cursor.last === null ? undefined : service.byKey.get(cursor.last)
  const at = last === undefined ? -1 : servers.indexOf(last)
  const position = at < 0 ? 0 : count - at
  const weight = steps === null ? 0 : cursor.weight
  ScheduleRecord.write(new DataView(image.buffer), 0, {
    first: range.first,
    count,
    tableFirst: table === 0 ? 0 : range.first + count,
    tableCount: table,
    weightMax: steps?.max ?? 0,
    weightStep: steps?.step ?? 0,
    bracket,
    how: table === 0 ? 0 : howOf(service.value),
    ...settlingFields(settling),
    unplayed: bracketMatches(bracket),
    released: 0,
    nobody: 0,
    cursor: BigInt(position) | (BigInt.asUintN(32, BigInt(weight)) << 32n),
  })
  return image
}

/** The move to these weights, unless the schedule in force has them already. */
function reweighted(draft: Draft, steps: WeightSteps): Parameters<typeof moved>[1] {
  const base = (draft.slot * 2 + activeSchedule(draft)) * SCHEDULE_WORDS
  const { u32 } = draft.view.maps.schedules
  const same =
    draft.holding?.state === 'live' &&
    u32[base + ScheduleRecord.offsets.weightMax / 4] === steps.max &&
    u32[base + ScheduleRecord.offsets.weightStep / 4] === steps.step
  return same ? [] : [{ move: 'reweighted', ...steps }]
}

/** The service's own record and its way to the packets; what there is no room for, if anything. */
function planRecord(draft: Draft, schedule: number, published: boolean): Lack | null {
  const { view, service, slot, holding, operations } = draft
  const { maps } = view
  const image = serviceImage(service.value, service.order, schedule)
  if (published) {
    const revisions: Operation[] = []
    for (const word of SERVICE_REVISIONS) {
      const at = ServiceRecord.offsets[word] / 4
      const value = image[at]!
      if (maps.services.u32[slot * SERVICE_WORDS + at] !== value) {
        revisions.push({ op: 'revise-service', slot, word, value })
      }
    }
    const switches: Operation[] =
      maps.services.u32[slot * SERVICE_WORDS + SCHEDULE_WORD] === schedule
        ? []
        : [{ op: 'switch', slot, value: schedule }]
    // Who is not remembered any more, or has been until now, is known by what the schedule says.
    const first = service.value.untracked || isUntracked(flagsInForce(draft))
    operations.push(...(first ? [...switches, ...revisions] : [...revisions, ...switches]))
    return null
  }
  const stores = planEntry(maps.serviceIndex, maps.services, slot, image)
  if (stores === null) {
    return { what: 'index entries', wanted: 1, free: 0, size: maps.serviceIndex.entries * 8 }
  }
  // What is in force and yet not found as what it is has been written to beside us: it leaves the index
  // while its record is put right.
  if (holding?.state === 'live') {
    for (const [at, entry] of maps.serviceIndex.u64.entries()) {
      if (entry !== 0n && entrySlot(entry) === slot) operations.push({ op: 'index', at, entry: 0n })
    }
  }
  operations.push({ op: 'fill-service', slot, image })
  for (const store of stores) operations.push({ op: 'index', ...store })
  return null
}

function planRetirement(
  { view, operations, claims }: Pick<Draft, 'view' | 'operations' | 'claims'>,
  holding: ServiceHolding | null,
  key: string,
): void {
  const real = holding?.reals.get(key)
  if (real === undefined || view.ledger.goneReals.has(real)) return
  operations.push({ op: 'retire-real', real })
  claims.push({ claim: 'retire-real', real })
}

/** The steps that take a service away from packets. Its slot stays while connections may refer to it. */
export function planRemoval(view: PlanView, holding: ServiceHolding): Steps {
  const { maps } = view
  const { slot } = holding
  const operations: Operation[] = findEntries(maps.serviceIndex, maps.services, slot).map((at) => ({
    op: 'index',
    at,
    entry: 0n,
  }))
  const claims: Claim[] = []
  for (const key of holding.reals.keys()) planRetirement({ view, operations, claims }, holding, key)
  if (holding.reals.size > 0) {
    operations.push({ op: 'retire-service', slot })
    claims.push({ claim: 'retire-service', slot })
  } else {
    operations.push({ op: 'free-service', slot })
    claims.push({ claim: 'free-service', slot })
  }
  return { kind: 'steps', operations, claims, lack: null }
}

/** Removed real servers that may go, and how long until more of them may; null if only connections know. */
export interface Reclaim extends Steps {
  readonly freed: number
  readonly waitMs: number | null
}

/**
 * The steps that free removed real servers without connections, for others that lack their indices: up to
 * `count`, those removed first. No earlier than a packet that has read an old schedule is done with it.
 * @param services only such whose service is gone, too: then its slot may follow
 * @returns also when more can be freed: 0 if that is so by now, null if nobody knows
 */
export function planReclaim(view: PlanView, count: number, services = false): Reclaim {
  const { ledger, maps, quietMs } = view
  const freed = new Map<ServiceHolding, number>()
  const operations: Operation[] = []
  const claims: Claim[] = []
  let done = 0
  let waitMs: number | null = null
  for (const [real, sinceMs] of ledger.goneReals) {
    if (done >= count && waitMs !== null) break
    const holding = ledger.real(real)?.service
    if (holding === undefined || (services && holding.state !== 'gone')) continue
    if (isPinned(maps.live, real) || ledger.isBefore(real)) continue
    if (sinceMs >= quietMs) {
      waitMs ??= QUIET_LOOK_MS
      continue
    }
    if (done >= count) {
      waitMs ??= 0
      continue
    }
    done++
    freeReal(holding, real, freed, operations, claims)
  }
  return { kind: 'steps', operations, claims, lack: null, freed: done, waitMs }
}

/** Frees an index, and behind the last of a gone service its slot. */
export function freeReal(
  holding: ServiceHolding,
  real: number,
  freed: Map<ServiceHolding, number>,
  operations: Operation[],
  claims: Claim[],
): void {
  operations.push({ op: 'free-real', real })
  claims.push({ claim: 'free-real', real })
  const gone = (freed.get(holding) ?? 0) + 1
  freed.set(holding, gone)
  if (holding.state !== 'gone' || gone < holding.reals.size) return
  operations.push({ op: 'free-service', slot: holding.slot })
  claims.push({ claim: 'free-service', slot: holding.slot })
}
