/**
 * Takes over what the maps hold: identities, slots and ranges of an earlier director, which may have died
 * at any step of a plan. In force is what packets see (published services and their active schedules);
 * everything else is a leftover and is retired.
 */
import {
  PM_SCHEDULE_ACTIVE,
  RealFlag,
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
import { refreshInterest } from '../compile/interest.ts'
import { entrySlot, findEntries } from '../compile/service-index.ts'
import { settlingOf } from '../compile/untracked.ts'
import type { Hold } from '../model/hold.ts'
import { serverKey, serviceKey } from '../model/identity.ts'
import type { RealServer } from '../model/server.ts'
import type { VirtualService } from '../model/service.ts'
import { type SourceName, STATING_SOURCES } from '../model/source.ts'
import type { Rules } from '../rules/rules.ts'
import type { Ledger, ServiceHolding } from './ledger.ts'
import { execute, type RuleMaps, SCHEDULE_WORDS } from './operations.ts'
import { rangeOfTable } from './plan.ts'

/** The maps contradict themselves in a way no plan leaves behind. */
export class AdoptionError extends Error {
  override readonly name = 'AdoptionError'
}

/** A service in force, as the maps tell it. */
export interface Held {
  readonly service: VirtualService
  readonly order: number
  /** Oldest first. */
  readonly servers: readonly { readonly real: number; readonly value: RealServer }[]
}

export interface Adoption {
  /** Oldest first. */
  readonly held: readonly Held[]
  readonly services: number
  readonly servers: number
  /** Real servers that only connections may refer to. */
  readonly gone: number
}

/** Fills an empty ledger. */
export function adopt(maps: RuleMaps, ledger: Ledger, nowMs: number): Adoption {
  const published = publishedSlots(maps)
  const inUse = new Set<number>()
  const held: Held[] = []
  for (const { holding, service, order } of adoptServices(maps, ledger, published)) {
    if (holding.state === 'gone') continue
    const servers = activeMembers(maps, ledger, holding).map((real) => {
      inUse.add(real)
      return { real, value: adoptMember(maps, ledger, holding, real) }
    })
    held.push({ service, order, servers })
  }
  const gone = retireRest(maps, ledger, inUse, nowMs)
  freeEmpty(maps, ledger, nowMs)
  // The filter forgets what it collected, and says the same whichever version began it.
  refreshInterest(maps.interest, maps.services, maps.reals)
  return { held, services: held.length, servers: inUse.size, gone }
}

/** What the maps have no place for. */
export interface Kept {
  /** Of drained real servers, by index. */
  readonly lastWeights: ReadonlyMap<number, number>
  /** Of real servers that have another weight in force, by index. */
  readonly saidWeights: ReadonlyMap<number, number>
  /** Services by identity; all others are those of commands. */
  readonly owners: Readonly<Partial<Record<SourceName, readonly string[]>>>
  /** By identities of service and real server. */
  readonly holds: readonly (readonly [service: string, server: string, hold: Hold])[]
}

/**
 * What is in force becomes what is wanted: for a director that knows no rules yet.
 * @param kept what the maps have no place for
 */
export function adoptRules(
  held: readonly Held[],
  rules: Rules,
  { lastWeights, saidWeights, owners, holds }: Kept,
): void {
  const owner = new Map(
    STATING_SOURCES.flatMap((source) => (owners[source] ?? []).map((key) => [key, source] as const)),
  )
  for (const { service, order, servers } of held) {
    const entry = rules.adopt(service, order, owner.get(serviceKey(service.id)) ?? 'manual')
    for (const { real, value } of servers) {
      const server = rules.adoptServer(entry, value)
      if (value.weight === 0) server.lastWeight = lastWeights.get(real) ?? 0
      const weight = saidWeights.get(real)
      if (weight !== undefined) server.said = { ...value, weight }
    }
    rules.adopted(entry)
  }
  for (const [service, server, hold] of holds) rules.adoptHold(service, server, hold)
}

function publishedSlots(maps: RuleMaps): Set<number> {
  const slots = new Set<number>()
  for (const entry of maps.serviceIndex.u64) if (entry !== 0n) slots.add(entrySlot(entry))
  return slots
}

interface Found {
  readonly holding: ServiceHolding
  readonly service: VirtualService
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
    found.push({ holding, ...record })
  }
  return found.sort((a, b) => a.order - b.order)
}

/** The indices in the active schedule, oldest real server first; its range is noted as taken. */
function activeMembers(maps: RuleMaps, ledger: Ledger, { slot, key }: ServiceHolding): number[] {
  const word = maps.services.u32[slot * SERVICE_WORDS + ServiceRecord.offsets.schedule / 4]!
  const active = (word & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1
  const base = (slot * 2 + active) * SCHEDULE_WORDS
  const first = maps.schedules.u32[base + ScheduleRecord.offsets.first / 4]!
  const count = maps.schedules.u32[base + ScheduleRecord.offsets.count / 4]!
  const table = maps.schedules.u32[base + ScheduleRecord.offsets.tableCount / 4]!
  const range = { first, count: count + table }
  if (first + range.count > maps.members.entries || !ledger.adoptRange(slot, active, range)) {
    throw new AdoptionError(
      `Cannot take over service "${key}": its members ${first} to ${first + range.count - 1} are not its own`,
    )
  }
  adoptBefore(maps, ledger, slot, slot * 2 + active)
  const reals: number[] = []
  for (let i = count - 1; i >= 0; i--) reals.push(maps.members.u32[(first + i) * 2]!)
  return reals
}

/** A change is settling: packets may go by the table before it. */
function adoptBefore(maps: RuleMaps, ledger: Ledger, slot: number, schedule: number): void {
  const { before } = settlingOf(maps.schedules, schedule)
  if (before === null) return
  const isThere = before.servers <= before.first && before.first + before.slots <= maps.members.entries
  if (!isThere || !ledger.adoptBefore(slot, rangeOfTable(maps.members.u32, before))) {
    throw new AdoptionError(
      `Cannot take over service slot ${slot}: members ${before.first} to ${before.first + before.slots - 1} are not its own`,
    )
  }
}

function adoptMember(maps: RuleMaps, ledger: Ledger, holding: ServiceHolding, real: number): RealServer {
  const value = real < maps.reals.entries ? serverOfImage(maps.reals.view, real * RealRecord.size) : null
  if (value === null || maps.reals.u32[real * REAL_WORDS] === Slot.Free) {
    throw new AdoptionError(
      `Cannot take over service "${holding.key}": its real server ${real} is none of ours`,
    )
  }
  const key = serverKey(value.id)
  if (ledger.real(real) !== undefined || holding.reals.has(key)) {
    throw new AdoptionError(
      `Cannot take over service "${holding.key}": its real server ${real} is there twice`,
    )
  }
  ledger.adoptReal(real, holding.slot, key)
  return value
}

/** Whatever else is in use belongs to no schedule: connections may refer to it, nothing else. */
function retireRest(maps: RuleMaps, ledger: Ledger, inUse: ReadonlySet<number>, nowMs: number): number {
  let gone = 0
  for (let real = 0; real < maps.reals.entries; real++) {
    const life = maps.reals.u32[real * REAL_WORDS]
    if (life === Slot.Free || inUse.has(real)) continue
    if ((RealRecord.getFlags(maps.reals.view, real * RealRecord.size) & RealFlag.Bypass) !== 0) {
      ledger.borrowFound(real)
      continue
    }
    if (life === Slot.Live) execute(maps, { op: 'retire-real', real })
    const slot = RealRecord.getService(maps.reals.view, real * RealRecord.size)
    const holding = ledger.service(slot) ?? null
    const key = serverKey(serverIdOfImage(maps.reals.view, real * RealRecord.size))
    if (holding === null || holding.reals.has(key)) {
      // Its service is not even a leftover: a plan was cut short before anything pointed here.
      execute(maps, { op: 'free-real', real })
      continue
    }
    ledger.adoptReal(real, holding.slot, key, nowMs)
    gone++
  }
  return gone
}

/** Services that are gone and have no real servers left. */
function freeEmpty(maps: RuleMaps, ledger: Ledger, nowMs: number): void {
  for (const { slot, state, reals } of [...ledger.holdings()]) {
    if (state === 'live' || reals.size > 0) continue
    execute(maps, { op: 'free-service', slot })
    ledger.commit([{ claim: 'free-service', slot }], nowMs)
  }
}
