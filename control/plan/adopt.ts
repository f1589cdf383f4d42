/**
 * Takes over what the maps hold: rules, slots and positions of an earlier director, which may have died
 * at any step of a plan. Rules are what packets see (published services and their active schedules);
 * everything else is a leftover and is retired.
 */
import {
  PM_SCHEDULE_ACTIVE,
  RealRecord,
  ScheduleRecord,
  ServiceRecord,
  Slot,
} from '../../dataplane/layout/layout.gen.ts'
import {
  REAL_WORDS,
  SERVICE_WORDS,
  serverIdOfImage,
  serverOfImage,
  serviceOfImage,
} from '../compile/images.ts'
import { entrySlot, findEntries } from '../compile/service-index.ts'
import { serverKey, serviceKey } from '../model/identity.ts'
import type { ServiceId } from '../model/service.ts'
import type { ServiceEntry } from '../rules/entries.ts'
import type { Rules } from '../rules/rules.ts'
import { restoreState } from '../rules/scheduler-state.ts'
import type { Ledger, ServiceHolding } from './ledger.ts'
import { execute, type RuleMaps, SCHEDULE_WORDS } from './operations.ts'

/** The maps contradict themselves in a way no plan leaves behind. */
export class AdoptionError extends Error {
  override readonly name = 'AdoptionError'
}

export interface Adoption {
  readonly services: number
  readonly servers: number
  /** Real servers that only connections may refer to. */
  readonly gone: number
}

/** @param lastWeights of drained real servers, by index */
export function adopt(
  maps: RuleMaps,
  ledger: Ledger,
  rules: Rules,
  lastWeights: ReadonlyMap<number, number>,
  nowMs: number,
): Adoption {
  const published = publishedSlots(maps)
  const found = adoptServices(maps, ledger, published)
  const inUse = new Set<number>()
  let servers = 0
  for (const { holding, id, order } of found) {
    const record = serviceOfImage(maps.services.view, holding.slot * ServiceRecord.size)
    if (record === null || holding.state === 'gone') continue
    const entry = rules.adopt(record.service, order)
    entry.slot = holding.slot
    for (const real of activeMembers(maps, ledger, holding, id)) {
      adoptMember(maps, ledger, rules, entry, holding, real, lastWeights)
      inUse.add(real)
      servers++
    }
    adoptState(maps, entry)
  }
  const gone = retireRest(maps, ledger, inUse, nowMs)
  freeEmpty(maps, ledger)
  // Nothing left that a packet could be about: the filter may forget what it collected.
  if (rules.serviceCount === 0 && gone === 0) maps.interest.u32.fill(0)
  return { services: rules.serviceCount, servers, gone }
}

function publishedSlots(maps: RuleMaps): Set<number> {
  const slots = new Set<number>()
  for (const entry of maps.serviceIndex.u64) if (entry !== 0n) slots.add(entrySlot(entry))
  return slots
}

interface Found {
  readonly holding: ServiceHolding
  readonly id: ServiceId
  readonly order: number
}

/** Every service slot in use, oldest rule first. A record that no index entry names is not in force. */
function adoptServices(maps: RuleMaps, ledger: Ledger, published: ReadonlySet<number>): Found[] {
  const found: Found[] = []
  for (let slot = 0; slot < maps.services.entries; slot++) {
    const life = maps.services.u32[slot * SERVICE_WORDS]
    if (life === Slot.Free) continue
    const record = serviceOfImage(maps.services.view, slot * ServiceRecord.size)
    if (record === null) {
      throw new AdoptionError(`Cannot take over service slot ${slot}: its record is none of ours`)
    }
    const key = serviceKey(record.service.id)
    const live = life === Slot.Live && published.has(slot)
    if (!live) {
      for (const at of findEntries(maps.serviceIndex, maps.services, slot)) {
        execute(maps, { op: 'index', at, entry: 0n })
      }
      if (life === Slot.Live) execute(maps, { op: 'retire-service', slot })
    }
    const other = ledger.serviceOfKey(key)
    if (other !== undefined)
      throw new AdoptionError(`Service slots ${other.slot} and ${slot} are the same service`)
    const holding = ledger.adoptService(slot, key, live ? 'live' : 'gone')
    found.push({ holding, id: record.service.id, order: record.order })
  }
  return found.sort((a, b) => a.order - b.order)
}

/** The indices in the active schedule, oldest real server first; its range is noted as taken. */
function activeMembers(maps: RuleMaps, ledger: Ledger, holding: ServiceHolding, id: ServiceId): number[] {
  const { slot } = holding
  const word = maps.services.u32[slot * SERVICE_WORDS + ServiceRecord.offsets.schedule / 4]!
  const active = (word & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1
  const base = (slot * 2 + active) * SCHEDULE_WORDS
  const first = maps.schedules.u32[base + ScheduleRecord.offsets.first / 4]!
  const count = maps.schedules.u32[base + ScheduleRecord.offsets.count / 4]!
  const table = maps.schedules.u32[base + ScheduleRecord.offsets.tableCount / 4]!
  const range = { first, count: count + table }
  if (first + range.count > maps.members.entries || !ledger.adoptRange(range)) {
    throw new AdoptionError(
      `Cannot take over service "${serviceKey(id)}": its members ${first} to ${first + range.count - 1} are not its own`,
    )
  }
  holding.ranges[active] = range
  const reals: number[] = []
  for (let i = count - 1; i >= 0; i--) reals.push(maps.members.u32[(first + i) * 2]!)
  return reals
}

function adoptMember(
  maps: RuleMaps,
  ledger: Ledger,
  rules: Rules,
  entry: ServiceEntry,
  holding: ServiceHolding,
  real: number,
  lastWeights: ReadonlyMap<number, number>,
): void {
  const value = real < maps.reals.entries ? serverOfImage(maps.reals.view, real * RealRecord.size) : null
  if (value === null || maps.reals.u32[real * REAL_WORDS] === Slot.Free) {
    throw new AdoptionError(
      `Cannot take over service "${entry.key}": its real server ${real} is none of ours`,
    )
  }
  const server = rules.adoptServer(entry, value)
  server.real = real
  if (value.weight === 0) server.lastWeight = lastWeights.get(real) ?? 0
  ledger.adoptReal(real, holding, server.key)
}

function adoptState(maps: RuleMaps, entry: ServiceEntry): void {
  const { last, weight } = readCursor(maps, entry)
  restoreState(entry, last, weight)
}

/** Where the active schedule of a service in force stands, in terms of its list. */
export function readCursor(
  maps: RuleMaps,
  entry: ServiceEntry,
): { position: number; weight: number; last: ServiceEntry['servers'][number] | null } {
  const word = maps.services.u32[entry.slot * SERVICE_WORDS + ServiceRecord.offsets.schedule / 4]!
  const active = (word & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1
  const at = (entry.slot * 2 + active) * SCHEDULE_WORDS + ScheduleRecord.offsets.cursor / 4
  const cursor = Atomics.load(maps.schedules.u64, at / 2)
  const position = Number(cursor & 0xffffffffn)
  const weight = Number(BigInt.asIntN(32, cursor >> 32n))
  const last = position === 0 ? null : (entry.servers[entry.servers.length - position] ?? null)
  return { position, weight, last }
}

/** Whatever else is in use belongs to no schedule: connections may refer to it, nothing else. */
function retireRest(maps: RuleMaps, ledger: Ledger, inUse: ReadonlySet<number>, nowMs: number): number {
  let gone = 0
  for (let real = 0; real < maps.reals.entries; real++) {
    const life = maps.reals.u32[real * REAL_WORDS]
    if (life === Slot.Free || inUse.has(real)) continue
    if (life === Slot.Live) execute(maps, { op: 'retire-real', real })
    const slot = RealRecord.getService(maps.reals.view, real * RealRecord.size)
    const holding = ledger.service(slot) ?? null
    const key = serverKey(serverIdOfImage(maps.reals.view, real * RealRecord.size))
    if (holding === null || holding.reals.has(key)) {
      // Its service is not even a leftover: a plan was cut short before anything pointed here.
      execute(maps, { op: 'free-real', real })
      continue
    }
    ledger.adoptReal(real, holding, key)
    ledger.goneReals.set(real, nowMs)
    gone++
  }
  return gone
}

/** Services that are gone and have no real servers left. */
function freeEmpty(maps: RuleMaps, ledger: Ledger): void {
  for (const holding of [...ledger.holdings()]) {
    if (holding.state === 'live' || holding.reals.size > 0) continue
    execute(maps, { op: 'free-service', slot: holding.slot })
    ledger.dropService(holding)
  }
}
