/** What a soak says about itself, while it runs and at its end. */
import { dropsIn, total, type Verdicts } from './drops.ts'
import { type Growth, mib, type Size } from './process-size.ts'
import type { TransferReport } from './transfers.ts'

/** Over all phases that have ended. */
export interface Totals {
  sent: number
  answered: number
  sinkSent: number
  sinkArrived: number
  socketDrops: number
  unseen: number
  events: number
}

export function lostOf({ sent, answered, sinkSent, sinkArrived }: Totals): number {
  return sent - answered + sinkSent - sinkArrived
}

export interface Progress {
  readonly clock: string
  readonly doing: string
  readonly totals: Totals
  /** Null while it cannot be asked. */
  readonly transfers: TransferReport | null
  readonly verdicts: Verdicts | null
  readonly size: Size | null
  readonly problems: number
}

export function progressLine(progress: Progress): string {
  const { clock, doing, totals, transfers, verdicts, size, problems } = progress
  const parts = [
    transfers === null
      ? 'http -'
      : `http ${transfers.requests} on ${transfers.connections} connections, ${mib(transfers.bytes)}`,
    `udp ${totals.sent + totals.sinkSent}, lost ${lostOf(totals)}`,
    verdicts === null ? 'packets -' : `packets ${total(verdicts)}, dropped ${total(dropsIn(verdicts))}`,
    size === null
      ? 'memory -'
      : `memory ${mib(size.own)} + maps ${mib(size.maps)}, ${size.descriptors} descriptors`,
    ...(problems > 0 ? [`PROBLEMS ${problems}`] : []),
  ]
  return `${clock} ${doing.padEnd(20)} ${parts.join('   ')}`
}

export interface Outcome {
  readonly minutes: number
  readonly totals: Totals
  readonly transfers: TransferReport
  readonly verdicts: Verdicts
  readonly lives: readonly Growth[]
  /** Connections that had not expired at the end. */
  readonly left: number
  readonly warnings: readonly string[]
}

export function summary(outcome: Outcome): string[] {
  const { totals, transfers, verdicts, lives, left, warnings } = outcome
  const list = (counts: Verdicts): string =>
    Object.entries(counts)
      .sort(([, a], [, b]) => b - a)
      .map(([name, packets]) => `${name} ${packets}`)
      .join(', ') || 'none'
  const drops = dropsIn(verdicts)
  return [
    `${outcome.minutes.toFixed(1)} minutes, ${totals.events} events and a restart`,
    `http: ${transfers.requests} requests on ${transfers.connections} connections, ${transfers.long} of them from begin to end;` +
      ` ${transfers.bulk} bulk transfers; ${mib(transfers.bytes)}; ${transfers.failures.length} failed`,
    `udp: ${totals.sent} asked, ${totals.answered} answered; ${totals.sinkSent} without answer, ${totals.sinkArrived} arrived; lost ${lostOf(totals)}`,
    `drops by verdict: ${list(drops)}; at the lab's sockets ${totals.socketDrops}; frames that came while no daemon ran: ${totals.unseen}`,
    `verdicts: ${list(Object.fromEntries(Object.entries(verdicts).filter(([name]) => !(name in drops))))}`,
    ...lives.map(
      ({ first, last, mostOwn, ownBytes }, i) =>
        `memory in life ${i + 1} of the daemon: first ${mib(first.own)}, last ${mib(last.own)}, most ${mib(mostOwn)},` +
        ` growth after the warm-up ${mib(ownBytes)}; maps and rings ${mib(first.maps)} to ${mib(last.maps)};` +
        ` descriptors ${first.descriptors} to ${last.descriptors}`,
    ),
    `connections left: ${left}`,
    ...warnings.map((line) => `warning in the daemon's log: ${line}`),
  ]
}
