/** What stands between the rules and the packets: implemented over maps, or absent. */

import type { ConnectionListing } from '../model/connection.ts'
import type { Counters, Rates } from '../model/counters.ts'
import type { Timeouts } from '../model/timeouts.ts'
import type { ServerEntry, ServiceEntry } from './entries.ts'
import type { RuleWatcher } from './rules.ts'

export interface Tally {
  readonly counters: Counters
  readonly rates: Rates
}

export interface ServerTally extends Tally {
  readonly activeConns: number
  readonly inactiveConns: number
  readonly persistentConns: number
}

export interface Engine extends RuleWatcher {
  serverTally(server: ServerEntry): ServerTally
  serviceTally(service: ServiceEntry): Tally
  totals(): Tally
  /** Zeroes one service and its real servers, or everything. */
  zero(service: ServiceEntry | null): void
  connections(): Iterable<ConnectionListing>
  connectionTableSize(): number
  /** Timeouts or sysctls are to be published with the next `settle`. */
  settingsChanged(timeouts: Timeouts, sysctls: Readonly<Record<string, number>>): void
  /** Something that only the state file keeps has changed. */
  stateChanged(): void
  settle(): Promise<void>
}

export const NO_COUNTERS: Counters = {
  conns: 0n,
  inPackets: 0n,
  outPackets: 0n,
  inBytes: 0n,
  outBytes: 0n,
}
export const NO_RATES: Rates = { cps: 0, inPps: 0, outPps: 0, inBps: 0, outBps: 0 }
export const NO_TALLY: ServerTally = {
  counters: NO_COUNTERS,
  rates: NO_RATES,
  activeConns: 0,
  inactiveConns: 0,
  persistentConns: 0,
}
