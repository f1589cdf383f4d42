/**
 * The bracket of a schedule, a knock-out over its real servers' live counts or weights (bpf/bracket.h): which schedules
 * have one, how long it is, and how whoever changes what a real server is chosen by tells those that choose.
 */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import {
  LiveRecord,
  PM_BRACKET_CHALLENGES_SHIFT,
  PM_BRACKET_MAX,
  PM_SCHEDULE_ACTIVE,
  PM_SEAT_STEADY,
  RealRecord,
  ScheduleRecord,
  ServiceRecord,
} from '../../dataplane/layout/layout.gen.ts'
import type { SchedulerName } from '../model/scheduler.ts'

/** So few are walked over as fast. */
const WALKED = 32
/** Smallest bracket: a word of challenges. */
const ORDER_MIN = 6
const CHALLENGES_IN_WORD = 64

const CHOOSE_BY_COUNTS: ReadonlySet<SchedulerName> = new Set([
  'lc',
  'wlc',
  'lblc',
  'lblcr',
  'sed',
  'nq',
  'fo',
  'ovf',
])

/** The heaviest wins that can take a connection: who does is asked for whose turn it is (bpf/turn.h). */
const CHOOSE_BY_TURN: ReadonlySet<SchedulerName> = new Set(['rr', 'wrr'])

/** Order of the bracket that a schedule of so many real servers is to have; 0: none. */
export function bracketOrder(scheduler: SchedulerName, servers: number): number {
  if (servers <= WALKED || servers > 2 ** PM_BRACKET_MAX) return 0
  if (!CHOOSE_BY_COUNTS.has(scheduler) && !CHOOSE_BY_TURN.has(scheduler)) return 0
  return Math.max(ORDER_MIN, 32 - Math.clz32(servers - 1))
}

/**
 * Order of the bracket that a schedule has whose real servers are followed by so many entries: it has none where
 * `members` had no room for one, and with other schedulers what follows is a table.
 */
export function bracketWithin(scheduler: SchedulerName, servers: number, following: number): number {
  return following === 0 ? 0 : bracketOrder(scheduler, servers)
}

/** Entries of `members` that a bracket takes. */
export function bracketLength(order: number): number {
  if (order === 0) return 0
  return 2 ** order + 2 ** Math.min(order, PM_BRACKET_CHALLENGES_SHIFT) / CHALLENGES_IN_WORD
}

/** Matches of a bracket. */
export function bracketMatches(order: number): number {
  return order === 0 ? 0 : 2 ** order - 1
}

const LIVE_WORDS = LiveRecord.size / 4
const SEAT = LiveRecord.offsets.seat / 4
const OVERLOADED = LiveRecord.offsets.overloaded / 4
const REAL_WORDS = RealRecord.size / 4
const SERVICE_WORDS = ServiceRecord.size / 4
const SCHEDULE_WORDS = ScheduleRecord.size / 4
const RELEASED = ScheduleRecord.offsets.released / 4

/** Where brackets stand, and what leads there. */
export interface BracketMaps {
  readonly services: MapMemory
  readonly schedules: MapMemory
  readonly members: MapMemory
  readonly reals: MapMemory
  readonly live: MapMemory
}

/** Real servers to be seated: `members` as in the list, newest first, before so many that keep their seats. */
export interface Seating {
  readonly members: Uint32Array
  /** 0: they lose their seats. */
  readonly order: number
  readonly seated: number
  readonly scheduler: SchedulerName
}

/** What stands in the record of a real server that has this seat, counted from 1 at the list's end. */
export function seatWord(scheduler: SchedulerName, number: number): number {
  return CHOOSE_BY_TURN.has(scheduler) ? (number | PM_SEAT_STEADY) >>> 0 : number
}

/**
 * Seats real servers, before the schedule is in force: until then a seat of it leads to another's of the one that is,
 * which is played for in vain.
 */
export function seat(live: MapMemory, { members, order, seated, scheduler }: Seating): void {
  const count = members.length / 2
  for (let i = 0; i < count; i++) {
    const at = members[2 * i]! * LIVE_WORDS + SEAT
    Atomics.store(live.u32, at, order === 0 ? 0 : seatWord(scheduler, seated + count - i))
  }
}

/** What says which seat a real server has (`seatWord`); 0: none. */
export function seatOf(live: MapMemory, real: number): number {
  return Atomics.load(live.u32, real * LIVE_WORDS + SEAT)
}

/** Whether those who are said to have won two matches, that of this number and the next, could have got there. */
export function canBePlayed(members: MapMemory, table: number, order: number, match: number): boolean {
  for (let at = Math.max(match, 1); at < Math.min(match + 2, 2 ** order); at++) {
    const won = Atomics.load(members.u32, (table + at) * 2)
    const depth = 31 - Math.clz32(at)
    if (won !== 0 && (2 ** order + won - 1) >>> (order - depth) !== at) return false
  }
  return true
}

/**
 * What a real server is chosen by has changed: its seat, if it has one, is to be played for again (`pm_challenge`).
 * @param overload whether it is overloaded, not only counts
 */
export function challenge(maps: BracketMaps, real: number, overload: boolean): void {
  const { services, schedules, members, reals, live } = maps
  const word = Atomics.load(live.u32, real * LIVE_WORDS + SEAT)
  if (!overload && (word === 0 || word >= PM_SEAT_STEADY)) return
  const place = (word & ~PM_SEAT_STEADY) - 1
  const slot = reals.u32[real * REAL_WORDS + RealRecord.offsets.service / 4]!
  if (slot >= services.entries) return
  const choice = Atomics.load(services.u32, slot * SERVICE_WORDS + ServiceRecord.offsets.schedule / 4)
  const schedule = (slot * 2 + ((choice & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1)) * SCHEDULE_WORDS
  if (word === 0) {
    if (Atomics.load(live.u32, real * LIVE_WORDS + OVERLOADED) !== 0) return
    Atomics.add(schedules.u32, schedule + RELEASED, 1)
    return
  }
  const order = schedules.u32[schedule + ScheduleRecord.offsets.bracket / 4]!
  if (order === 0 || order > PM_BRACKET_MAX) return
  if (place >= schedules.u32[schedule + ScheduleRecord.offsets.count / 4]!) return
  const table = schedules.u32[schedule + ScheduleRecord.offsets.tableFirst / 4]!
  const number = place >>> Math.max(0, order - PM_BRACKET_CHALLENGES_SHIFT)
  const challenges = table + 2 ** order + Math.floor(number / CHALLENGES_IN_WORD)
  if (challenges >= members.entries) return
  setBit(members, challenges, number % CHALLENGES_IN_WORD)
  setBit(members, table, Math.floor(number / CHALLENGES_IN_WORD))
}

function setBit({ u32 }: MapMemory, entry: number, bit: number): void {
  Atomics.or(u32, entry * 2 + (bit >> 5), 1 << (bit & 31))
}
