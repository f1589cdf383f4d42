/** The director as its clients see it. */
import type { IpAddress } from '../../net/address.ts'
import type { ConnectionListing, ConnectionPage, PageQuestion } from './connection.ts'
import type { Counters, Rates } from './counters.ts'
import type { FilterChange, FilterListing } from './filter.ts'
import type { FullNatAddress, FullNatChange } from './full-nat.ts'
import type { Hold } from './hold.ts'
import type { LimitChange, LimitListing } from './limit.ts'
import type { MarkChange, MarkListing } from './mark.ts'
import type { Outcome } from './outcome.ts'
import type { Pace } from './pace.ts'
import type { PortsTaken } from './ports-taken.ts'
import type { RealServer, ServerId, ServerListing } from './server.ts'
import type { ServiceId, ServiceListing, ServiceRequest, ServiceState, VirtualService } from './service.ts'
import type { SourceName } from './source.ts'
import type { DaemonRequest, SyncDaemon } from './sync-daemon.ts'
import type { Timeouts } from './timeouts.ts'

/**
 * The director as its clients see it (ipvsadm, pointsman, the API): the state the operator wants,
 * with IPVS's refusals. Every change is complete or has not happened. Changes are in force for
 * packets when `settle` returns (a restore makes thousands of changes, then settles once).
 */
export interface Director {
  addService(service: ServiceRequest): Outcome
  editService(service: ServiceRequest): Outcome
  deleteService(id: ServiceId): Outcome
  /** Deletes all services that nobody but commands states; how many others state and are left. */
  flush(): Outcome<number>
  /** Zeroes the counters and rates of one service and its real servers, or of everything. */
  zero(id?: ServiceId): Outcome

  addServer(id: ServiceId, server: RealServer): Outcome
  editServer(id: ServiceId, server: RealServer): Outcome
  deleteServer(id: ServiceId, server: ServerId): Outcome

  /**
   * Holds the weight of a real server, whoever states it, or ends that (null). A changed weight that
   * `editServer` asks for where a source states the service is such a hold, too.
   */
  hold(id: ServiceId, server: ServerId, hold: Hold | null): Outcome

  /**
   * What is in force, in IPVS's unsorted order: newest service first, port services before firewall marks.
   */
  services(): readonly ServiceListing[]
  service(id: ServiceId): Outcome<ServiceListing>
  /** One real server, at the price of one: its service may have 100,000. */
  server(id: ServiceId, server: ServerId): Outcome<ServerListing>
  /** What was said, to be saved, in the same order; without looking at counters. */
  rules(): readonly {
    readonly service: VirtualService
    readonly source: SourceName
    readonly servers: readonly RealServer[]
  }[]
  /** What of a service is kept and not in force, and why; empty if all of it is. */
  unsupported(service: VirtualService, servers: readonly RealServer[]): readonly string[]
  connections(): Iterable<ConnectionListing>
  /** Some of them; what is wrong with the question, in words; null if it was called off. */
  connectionPage(
    question: PageQuestion,
    pace: Pace,
    isOver: () => boolean,
  ): Promise<ConnectionPage | string | null>
  /** How many connections each real server has, counted in the table; by identities. */
  countConnections(pace: Pace): Promise<(service: string, server: string) => number>
  /** Number of buckets/lines shown by `IP Virtual Server version 1.2.1 (size=N)`. */
  connectionTableSize(): number
  totals(): { readonly counters: Counters; readonly rates: Rates }

  timeouts(): Timeouts
  /** 0 keeps a value. Seconds, each at most 2678400 (checked by the caller's grammar too). */
  setTimeouts(timeouts: Timeouts): Outcome

  daemons(): readonly SyncDaemon[]
  startDaemon(daemon: DaemonRequest): Outcome
  stopDaemon(state: 'master' | 'backup'): Outcome

  /** `net.ipv4.vs.*` by short name (`sloppy_tcp`); values as numbers. */
  sysctls(): Readonly<Record<string, number>>
  setSysctl(name: string, value: number): Outcome

  /** Addresses that full NAT gives connections for a source. */
  fullNat(): readonly FullNatAddress[]
  /** What of them was in use when this was last counted. */
  portsTaken(): ReadonlyMap<IpAddress, PortsTaken>
  /** All of the change, or nothing; connections keep what they have. */
  changeFullNat(change: FullNatChange): Outcome

  /** Marking rules, the most specific first. */
  marks(): readonly MarkListing[]
  /** All of the change, or nothing. */
  changeMarks(change: MarkChange): Outcome

  /** Sources that are denied or allowed, in no particular order. */
  filters(): Iterable<FilterListing>
  /** All of the change, or nothing; in force for packets at once, but for the first filter of all. */
  changeFilters(change: FilterChange): Outcome

  /** What services let each source do. */
  limits(): readonly LimitListing[]
  /** All of the change, or nothing; in force for packets at once, but for the first limit of all. */
  changeLimits(change: LimitChange): Outcome

  /**
   * Returns when all changes so far are in force in the packet path; rejects if those of `own` cannot be
   * (left out: any). What others have asked for and cannot be goes on by itself.
   */
  settle(own?: Iterable<ServiceId>): Promise<void>
  /**
   * One change of many parts. `body` works on a director of its own, for as long as it takes; everybody else
   * goes on with the old rules, and may change them. When it is done, its rules become the rules at once,
   * with what others have changed meanwhile on top. If it throws, nothing has happened.
   */
  transact<T>(body: (draft: Director) => Promise<T>): Promise<T>
  /** Services that are not in force as they are wanted, by identity (`serviceKey`). */
  states(): ReadonlyMap<string, ServiceState>
}
