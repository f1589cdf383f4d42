/** What stands between the rules and the packets: implemented over maps, or absent. */

import type { IpAddress } from '../../net/address.ts'
import type { ConnectionListing, ConnectionPage, PageQuestion } from '../model/connection.ts'
import type { Counters, Rates } from '../model/counters.ts'
import type { ComparedFilters, FilterChange, FilterListing, StatedFilters } from '../model/filter.ts'
import type { FullNatAddress } from '../model/full-nat.ts'
import type { ComparedLimits, LimitChange, LimitListing, StatedLimits } from '../model/limit.ts'
import type { MarkListing } from '../model/mark.ts'
import type { Outcome } from '../model/outcome.ts'
import type { Pace } from '../model/pace.ts'
import type { PortsTaken } from '../model/ports-taken.ts'
import type { ServiceState } from '../model/service.ts'
import type { Origin, SourceName, StatingSource } from '../model/source.ts'
import type { Timeouts } from '../model/timeouts.ts'
import type { ServiceEntry } from './entries.ts'
import type { Room } from './room.ts'

export interface Tally {
  readonly counters: Counters
  readonly rates: Rates
}

export interface ServerTally extends Tally {
  readonly activeConns: number
  readonly inactiveConns: number
  readonly persistentConns: number
}

/** Summed up when it is asked for: a service may have 100,000 real servers. */
export interface ServiceTally extends Tally {
  /** By identity. */
  server(key: string): ServerTally
}

/** Filters stand in the maps alone: they are changed there, at once. */
export interface Filters {
  readonly count: number
  /** Who the sources are, in words. */
  origins: (owner: SourceName) => Origin
  list(): Iterable<FilterListing>
  /** All of the change, or nothing. */
  change(change: FilterChange, owner: SourceName): Outcome
  /** What `state` would change, or be refused for. */
  compare(stated: StatedFilters, owner: StatingSource): ComparedFilters
  /**
   * All of it, or nothing. The list of a service that is not in force yet is in force before packets find that.
   */
  state(stated: StatedFilters, owner: StatingSource): ComparedFilters
}

/** Limits stand there, too. */
export interface Limits {
  list(): readonly LimitListing[]
  /** All of the change, or nothing. */
  change(change: LimitChange, owner: SourceName): Outcome
  /** What `state` would change, and what is in its way. */
  compare(stated: StatedLimits, owner: StatingSource): ComparedLimits
  /** Once nothing is in its way; of services that are not in force yet before packets find them. */
  state(stated: StatedLimits, owner: StatingSource): void
}

export interface Applier {
  readonly filters: Filters
  readonly limits: Limits
  readonly room: Room
  /** Nothing, while the maps hold no service of this identity, or an earlier one. */
  tally(service: ServiceEntry): ServiceTally
  totals(): Tally
  /** Zeroes one service and its real servers, or everything. */
  zero(service: ServiceEntry | null): void
  connections(): Iterable<ConnectionListing>
  /** Some of them; what is wrong with the question, in words; null if it was called off. */
  connectionPage(
    question: PageQuestion,
    pace: Pace,
    isOver: () => boolean,
  ): Promise<ConnectionPage | string | null>
  /** How many connections each real server has at this moment, from the table itself. */
  countConnections(pace: Pace): Promise<(service: string, server: string) => number>
  connectionTableSize(): number
  /** Timeouts or sysctls are to be published with the next `settle`. */
  settingsChanged(timeouts: Timeouts, sysctls: Readonly<Record<string, number>>): void
  /** The same of the addresses of full NAT. */
  fullNatChanged(addresses: readonly FullNatAddress[]): void
  /** What the last sweep over the tables has counted of it, by address. */
  portsTaken(): ReadonlyMap<IpAddress, PortsTaken>
  /** Marking rules are to be brought in force with the next `settle`: these, and no others. */
  marksChanged(rules: readonly MarkListing[]): void
  /** Something that only the state file keeps has changed. */
  stateChanged(): void
  /**
   * Brings everything that has changed in force, and waits for it. Rejects if one of the services in `own`
   * cannot be; what else cannot be goes on in the background.
   */
  settle(own?: Iterable<string>): Promise<void>
  /** Services that are not in force as they are wanted, by identity. */
  states(): ReadonlyMap<string, ServiceState>
  /** Why nobody can translate what a real server on this host answers, as half a sentence; null if somebody can. */
  whyNoAnswers(): string | null
}

export const NO_COUNTERS: Counters = {
  conns: 0n,
  inPackets: 0n,
  outPackets: 0n,
  inBytes: 0n,
  outBytes: 0n,
}
export const NO_RATES: Rates = { cps: 0, inPps: 0, outPps: 0, inBps: 0, outBps: 0 }
const NO_SERVER_TALLY: ServerTally = {
  counters: NO_COUNTERS,
  rates: NO_RATES,
  activeConns: 0,
  inactiveConns: 0,
  persistentConns: 0,
}
export const NO_TALLY: ServiceTally & ServerTally = { ...NO_SERVER_TALLY, server: () => NO_SERVER_TALLY }
