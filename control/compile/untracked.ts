/**
 * Just enough tracking (bpf/untracked.h): what a schedule says of the table before it, and for how long that counts.
 */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import {
  PM_TIMEOUT_UDP,
  ScheduleRecord,
  ServiceFlag,
  SettingsRecord,
  TcpState,
} from '../../dataplane/layout/layout.gen.ts'
import type { SchedulerName } from '../model/scheduler.ts'
import type { VirtualService } from '../model/service.ts'
import { schedulerNumber } from './images.ts'
import { ticksOfSeconds } from './settings.ts'

const SCHEDULE_WORDS = ScheduleRecord.size / 4
const word = (field: keyof typeof ScheduleRecord.offsets): number => ScheduleRecord.offsets[field] / 4
const FLAGS_SHIFT = 8

/** Schedulers whose choice depends on a packet and a table alone. */
const BY_TABLE: ReadonlySet<SchedulerName> = new Set(['sh', 'dh', 'mh'])

export function choosesByTable(scheduler: SchedulerName): boolean {
  return BY_TABLE.has(scheduler)
}

/** How a table is looked at: `how` of its schedule; 0 where there is none. */
export function howOf(service: VirtualService): number {
  if (!choosesByTable(service.scheduler)) return 0
  return schedulerNumber(service.scheduler) | (service.schedulerFlags << FLAGS_SHIFT)
}

/** A table that packets went by before the one in force, and the real servers in front of it. */
export interface TableBefore {
  readonly first: number
  readonly slots: number
  readonly servers: number
  readonly how: number
}

/** What a schedule says of connections without lines, and of those that have one. */
export interface Settling {
  readonly before: TableBefore | null
  /** Ticks. */
  readonly settles: number
  /** Ticks; 0: there are no lines. */
  readonly lines: number
}

export const SETTLED: Settling = { before: null, settles: 0, lines: 0 }

/** Of the schedule with this number. */
export function settlingOf({ u32 }: MapMemory, schedule: number): Settling {
  const at = schedule * SCHEDULE_WORDS
  const slots = u32[at + word('beforeCount')]!
  const lines = Atomics.load(u32, at + word('lines'))
  const before =
    slots === 0
      ? null
      : {
          first: u32[at + word('beforeFirst')]!,
          slots,
          servers: u32[at + word('beforeMembers')]!,
          how: u32[at + word('beforeHow')]!,
        }
  return { before, settles: Atomics.load(u32, at + word('settles')), lines }
}

/** The table of the schedule with this number, as one that comes before another; null if it never chose anybody. */
export function tableOf({ u32 }: MapMemory, schedule: number, how: number): TableBefore | null {
  const at = schedule * SCHEDULE_WORDS
  const slots = u32[at + word('tableCount')]!
  if (slots === 0 || how === 0) return null
  return { first: u32[at + word('tableFirst')]!, slots, servers: u32[at + word('count')]!, how }
}

/** Whether a time is over (bpf/connection.h, `pm_past`). */
export function isPast(nowTicks: number, then: number): boolean {
  return ((nowTicks - then) | 0) > 0
}

/** The fields of a schedule's record that say so. */
export function settlingFields({ before, settles, lines }: Settling) {
  return {
    beforeFirst: before?.first ?? 0,
    beforeCount: before?.slots ?? 0,
    beforeMembers: before?.servers ?? 0,
    beforeHow: before?.how ?? 0,
    settles,
    lines,
  }
}

/** Words of a schedule that say nothing of who is chosen, and that packets write, too. */
export const SETTLING_WORDS: ReadonlySet<number> = new Set(
  (['beforeFirst', 'beforeCount', 'beforeMembers', 'beforeHow', 'settles', 'lines'] as const).map(word),
)
export const HOW_WORD = word('how')

/** Closing and opening states of TCP last no longer (`PM_UNTRACKED_STATES`). */
const STATES_S = 120

/** For how many ticks a connection of this protocol may be silent, by the timeouts in force. */
export function longestSilence({ u32 }: MapMemory, protocol: 'tcp' | 'udp'): number {
  const timeout = (index: number): number => u32[SettingsRecord.offsets.timeouts / 4 + index]!
  if (protocol === 'udp') return timeout(PM_TIMEOUT_UDP)
  return Math.max(timeout(TcpState.Established), timeout(TcpState.FinWait), ticksOfSeconds(STATES_S))
}

/** Whether a service's record says that it is tracked just enough. */
export function isUntracked(flags: number): boolean {
  return (flags & ServiceFlag.Untracked) !== 0
}

/**
 * What is further ahead is in the past (`isPast`). The longest timeouts that there are (99 days) are over twice before
 * this, which is what a line of a change may need.
 */
const AHEAD_MAX = 0x7fff_0000

/** What is asked of a schedule that takes the place of another. */
export interface Succession {
  /** Of the service that is wanted, and of the one in force; null: none is. */
  readonly untracked: boolean
  readonly wasUntracked: boolean | null
  /** What the schedule in force says, and the table that it has. */
  readonly settling: Settling
  readonly table: TableBefore | null
  readonly nowTicks: number
  readonly longest: number
  /** Connections with lines may be left of an earlier life. */
  readonly mayHaveLines: boolean
}

/**
 * What the next schedule says. A change while another one settles keeps the table before both: whoever would have had
 * another answer by the one between has a line.
 */
export function succeed(of: Succession): Settling {
  const { untracked, wasUntracked, settling, table, nowTicks, longest } = of
  const after = (ticks: number): number => (nowTicks + Math.min(ticks, AHEAD_MAX)) >>> 0 || 1
  /** Beyond what the last line of that time can live (`pm_keep_lines`). */
  const linesAfter = (ticks: number): number => after(ticks + longest + (longest >>> 2))
  if (wasUntracked === null) {
    return untracked && of.mayHaveLines ? { ...SETTLED, lines: linesAfter(0) } : SETTLED
  }
  const isSettling = settling.before !== null && settling.lines !== 0 && !isPast(nowTicks, settling.settles)
  const before = isSettling ? settling.before : wasUntracked ? table : null
  if (before !== null) return { before, settles: after(longest), lines: linesAfter(longest) }
  if (!untracked) return SETTLED
  if (!wasUntracked) return { ...SETTLED, lines: linesAfter(0) }
  return { ...SETTLED, lines: settling.lines !== 0 && !isPast(nowTicks, settling.lines) ? settling.lines : 0 }
}
