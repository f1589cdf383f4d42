/**
 * The steps a change of the maps consists of: plain data, in an order in which no packet meets a
 * half-made service. `execute` does one step; `describe` prints it.
 */
import type { Dataplane, MapMemory } from '../../dataplane/dataplane.ts'
import {
  CountersRecord,
  LiveRecord,
  Method,
  methodNames,
  PM_BUCKET,
  PM_SCHEDULE_ACTIVE,
  RealRecord,
  ScheduleRecord,
  ServiceRecord,
  Slot,
  schedulerNames,
} from '../../dataplane/layout/layout.gen.ts'
import { endpointText } from '../../net/endpoint.ts'
import { challenge, type Seating, seat } from '../compile/bracket.ts'
import { REAL_WORDS, SERVICE_WORDS, serverIdOfImage } from '../compile/images.ts'
import { markReal, markService, markUntracked } from '../compile/interest.ts'
import { isUntracked } from '../compile/untracked.ts'

export type Operation =
  /** Fills a free index of `reals`, its counts and counters zeroed; packets do not see it yet. */
  | { readonly op: 'fill-real'; readonly real: number; readonly image: Uint32Array }
  /** Brings a real server in use (or removed before) to another record, word by word. */
  | { readonly op: 'revise-real'; readonly real: number; readonly image: Uint32Array }
  | { readonly op: 'mark-overload'; readonly real: number; readonly overloaded: boolean }
  /** Fills a range of members that no active schedule names. */
  | { readonly op: 'fill-members'; readonly first: number; readonly words: Uint32Array }
  /** The same, with what stands in another range. */
  | { readonly op: 'copy-members'; readonly from: number; readonly count: number; readonly first: number }
  | { readonly op: 'clear-members'; readonly first: number; readonly count: number }
  /** Seats so many members in the bracket of a schedule that is filled, behind those that sit there; without: none. */
  | ({ readonly op: 'seat'; readonly first: number; readonly count: number } & Omit<Seating, 'members'>)
  /** Fills the idle schedule of a service. */
  | { readonly op: 'fill-schedule'; readonly schedule: number; readonly image: Uint32Array }
  /** Fills a service that no index entry names. */
  | { readonly op: 'fill-service'; readonly slot: number; readonly image: Uint32Array }
  /**
   * The table before a schedule's counts no more: what had to show itself has done so. Or there has not been anything,
   * nor a line.
   */
  | { readonly op: 'settled'; readonly schedule: number; readonly unused: boolean }
  /** Changes one word of a service in use. */
  | {
      readonly op: 'revise-service'
      readonly slot: number
      readonly word: ServiceWord
      readonly value: number
    }
  /** Makes the filled schedule and its scheduler the ones in force. */
  | { readonly op: 'switch'; readonly slot: number; readonly value: number }
  /** Publishes (or moves, or with 0n withdraws) an index entry. */
  | { readonly op: 'index'; readonly at: number; readonly entry: bigint }
  /** No new connections; existing ones know that their real server is gone. */
  | { readonly op: 'retire-real'; readonly real: number }
  | { readonly op: 'retire-service'; readonly slot: number }
  | { readonly op: 'free-real'; readonly real: number }
  | { readonly op: 'free-service'; readonly slot: number }

export const SERVICE_REVISIONS = ['flags', 'timeoutS', 'netmask', 'pe', 'order'] as const
export type ServiceWord = (typeof SERVICE_REVISIONS)[number]

export const SCHEDULE_WORDS = ScheduleRecord.size / 4
const LIVE_WORDS = LiveRecord.size / 4
const COUNTER_WORDS = CountersRecord.size / 4
const LINES_WORD = ScheduleRecord.offsets.lines / 4
const BEFORE_WORD = ScheduleRecord.offsets.beforeCount / 4
const SLOT_WORD = RealRecord.offsets.slot / 4
/** Port, family and method share a word: it decides how the others are read. */
const METHOD_WORD = RealRecord.offsets.port / 4
const METHOD_SHIFT = (RealRecord.offsets.method % 4) * 8

/** The maps that rules are written to. */
export interface RuleMaps {
  readonly services: MapMemory
  readonly serviceIndex: MapMemory
  readonly natIndex: MapMemory
  readonly schedules: MapMemory
  readonly members: MapMemory
  readonly reals: MapMemory
  readonly live: MapMemory
  readonly counters: MapMemory
  readonly interest: MapMemory
  readonly settings: MapMemory
  readonly cpus: number
}

export function ruleMaps(dataplane: Dataplane): RuleMaps {
  return {
    services: dataplane.map('services'),
    serviceIndex: dataplane.map('service_index'),
    natIndex: dataplane.map('nat_index'),
    schedules: dataplane.map('schedules'),
    members: dataplane.map('members'),
    reals: dataplane.map('reals'),
    live: dataplane.map('live'),
    counters: dataplane.map('counters'),
    interest: dataplane.map('interest'),
    settings: dataplane.map('settings'),
    cpus: dataplane.sizes.cpus,
  }
}

/** Stores one 32-bit word for packets on other CPUs to see, after everything stored before it. */
function publish(map: MapMemory, word: number, value: number): void {
  Atomics.store(map.u32, word, value)
}

export function execute(maps: RuleMaps, operation: Operation): void {
  switch (operation.op) {
    case 'fill-real': {
      const { real, image } = operation
      const base = real * REAL_WORDS
      maps.live.u32.fill(0, real * LIVE_WORDS, (real + 1) * LIVE_WORDS)
      maps.counters.u32.fill(0, real * maps.cpus * COUNTER_WORDS, (real + 1) * maps.cpus * COUNTER_WORDS)
      markReal(maps.interest, image)
      maps.reals.u32.set(image.subarray(SLOT_WORD + 1), base + SLOT_WORD + 1)
      publish(maps.reals, base + SLOT_WORD, image[SLOT_WORD]!)
      return
    }
    case 'revise-real':
      markReal(maps.interest, operation.image)
      reviseReal(maps.reals, operation.real, operation.image)
      return
    case 'mark-overload':
      publish(
        maps.live,
        operation.real * LIVE_WORDS + LiveRecord.offsets.overloaded / 4,
        operation.overloaded ? 1 : 0,
      )
      challenge(maps, operation.real, true)
      return
    case 'fill-members':
      maps.members.u32.set(operation.words, operation.first * 2)
      return
    case 'copy-members': {
      const { from, count, first } = operation
      maps.members.u32.copyWithin(first * 2, from * 2, (from + count) * 2)
      return
    }
    case 'clear-members':
      maps.members.u32.fill(0, operation.first * 2, (operation.first + operation.count) * 2)
      return
    case 'seat': {
      const { first, count } = operation
      seat(maps.live, { ...operation, members: maps.members.u32.subarray(first * 2, (first + count) * 2) })
      return
    }
    case 'fill-schedule':
      maps.schedules.u32.set(operation.image, operation.schedule * SCHEDULE_WORDS)
      return
    case 'fill-service': {
      const base = operation.slot * SERVICE_WORDS
      markService(maps.interest, operation.image)
      maps.services.u32.set(operation.image.subarray(1), base + 1)
      publish(maps.services, base, operation.image[0]!)
      return
    }
    case 'settled':
      publish(maps.schedules, operation.schedule * SCHEDULE_WORDS + BEFORE_WORD, 0)
      if (operation.unused) publish(maps.schedules, operation.schedule * SCHEDULE_WORDS + LINES_WORD, 0)
      return
    case 'revise-service':
      // Packets look at the service for itself only where the filter says so.
      if (operation.word === 'flags' && isUntracked(operation.value))
        markUntracked(maps.interest, maps.services.u32, operation.slot * SERVICE_WORDS)
      publish(maps.services, serviceWord(operation.slot, operation.word), operation.value)
      return
    case 'switch':
      publish(maps.services, serviceWord(operation.slot, 'schedule'), operation.value)
      return
    case 'index':
      Atomics.store(maps.serviceIndex.u64, operation.at, operation.entry)
      return
    case 'retire-real':
      publish(maps.reals, operation.real * REAL_WORDS + SLOT_WORD, Slot.Gone)
      return
    case 'retire-service':
      publish(maps.services, serviceWord(operation.slot, 'slot'), Slot.Gone)
      return
    case 'free-real':
      publish(maps.reals, operation.real * REAL_WORDS + SLOT_WORD, Slot.Free)
      return
    case 'free-service':
      publish(maps.services, serviceWord(operation.slot, 'slot'), Slot.Free)
      return
    default:
      operation satisfies never
  }
}

function serviceWord(slot: number, field: keyof typeof ServiceRecord.offsets): number {
  return slot * SERVICE_WORDS + ServiceRecord.offsets[field] / 4
}

/**
 * A tunnel needs its parameters before it is one, and must not lose them while it is: towards a tunnel
 * the method comes last, away from it first. The slot word is the very last: it revives what was gone.
 */
function reviseReal(reals: MapMemory, real: number, image: Uint32Array): void {
  const base = real * REAL_WORDS
  const toTunnel = ((image[METHOD_WORD]! >>> METHOD_SHIFT) & 0xff) === Method.Tun
  if (!toTunnel) publish(reals, base + METHOD_WORD, image[METHOD_WORD]!)
  for (let word = SLOT_WORD + 1; word < REAL_WORDS; word++) {
    if (word !== METHOD_WORD) publish(reals, base + word, image[word]!)
  }
  if (toTunnel) publish(reals, base + METHOD_WORD, image[METHOD_WORD]!)
  publish(reals, base + SLOT_WORD, image[SLOT_WORD]!)
}

/** One line for people. */
export function describe(operation: Operation): string {
  switch (operation.op) {
    case 'fill-real':
    case 'revise-real': {
      const view = new DataView(operation.image.buffer, operation.image.byteOffset)
      const method = methodNames[RealRecord.getMethod(view, 0)] ?? 'unknown'
      const what = operation.op === 'fill-real' ? 'fill' : 'revise'
      const weight = RealRecord.getWeight(view, 0)
      return `${what} real server ${operation.real}: ${endpointText(serverIdOfImage(view, 0))} ${method} weight ${weight}`
    }
    case 'mark-overload':
      return `mark real server ${operation.real} ${operation.overloaded ? 'overloaded' : 'not overloaded'}`
    case 'fill-members':
      return `fill members ${operation.first} to ${operation.first + operation.words.length / 2 - 1}`
    case 'copy-members':
      return `copy members ${operation.from} to ${operation.from + operation.count - 1} to ${operation.first}`
    case 'clear-members':
      return `clear members ${operation.first} to ${operation.first + operation.count - 1}`
    case 'seat':
      return operation.order === 0
        ? `seat no real server of ${operation.count}`
        : `seat ${operation.count} real servers in a bracket of ${2 ** operation.order}`
    case 'fill-schedule': {
      const [first, count, , table] = operation.image
      return `fill schedule ${operation.schedule}: ${count} real servers from member ${first}, table of ${table}`
    }
    case 'settled':
      return `settle schedule ${operation.schedule}`
    case 'fill-service':
      return `fill service ${operation.slot}`
    case 'revise-service':
      return `revise service ${operation.slot}: ${operation.word} ${operation.value}`
    case 'switch': {
      const active = (operation.value & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1
      return `switch service ${operation.slot} to schedule ${operation.slot * 2 + active}, scheduler ${schedulerNames[operation.value & 0xff]}`
    }
    case 'index': {
      const where = `bucket ${Math.floor(operation.at / PM_BUCKET)}, entry ${operation.at % PM_BUCKET}`
      if (operation.entry === 0n) return `withdraw ${where}`
      return `publish service ${Number(operation.entry >> 32n) - 1} in ${where}`
    }
    case 'retire-real':
      return `retire real server ${operation.real}`
    case 'retire-service':
      return `retire service ${operation.slot}`
    case 'free-real':
      return `free real server ${operation.real}`
    case 'free-service':
      return `free service ${operation.slot}`
    default:
      return operation satisfies never
  }
}
