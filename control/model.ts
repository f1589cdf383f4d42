/**
 * The words of the rules: virtual services, real servers, schedulers, forwarding methods.
 *
 * Everything here is validated, plain and immutable. Text is parsed in one place
 * (`control/address.ts` for addresses); whoever holds one of these types may rely on it.
 */

declare const brand: unique symbol
type Brand<T, Name extends string> = T & { readonly [brand]: Name }

/** Canonical text of an IPv4 or IPv6 address (RFC 5952), made by `parseAddress`. */
export type IpAddress = Brand<string, 'IpAddress'>

export type Family = 4 | 6
export type Protocol = 'tcp' | 'udp' | 'sctp'

/** All names IPVS's schedulers go by; `none` is IPVS's word for "no scheduler". */
export const SCHEDULERS = [
  'none',
  'rr',
  'wrr',
  'lc',
  'wlc',
  'lblc',
  'lblcr',
  'dh',
  'sh',
  'sed',
  'nq',
  'fo',
  'ovf',
  'mh',
  'twos',
] as const
export type SchedulerName = (typeof SCHEDULERS)[number]

export type ServiceId =
  | {
      readonly kind: 'address'
      readonly protocol: Protocol
      readonly address: IpAddress
      readonly family: Family
      readonly port: number
    }
  | { readonly kind: 'fwmark'; readonly mark: number; readonly family: Family }

/** Flag bits of the scheduler (`-b`): 0x08, 0x10, 0x20 as in IPVS's netlink interface. */
export interface ServiceSettings {
  readonly scheduler: SchedulerName
  /** 0x08 | 0x10 | 0x20 */
  readonly schedulerFlags: number
  readonly onePacket: boolean
  /** Seconds, 0 = not persistent. */
  readonly persistenceTimeoutS: number
  /** IPv4: mask as an unsigned number in host order; IPv6: prefix length. Kept without persistence too. */
  readonly netmask: number
  readonly persistenceEngine: 'sip' | null
}

export interface VirtualService extends ServiceSettings {
  readonly id: ServiceId
}

/** A service as a client asks for it: the director knows which names exist (else ENOENT). */
export interface ServiceRequest extends Omit<VirtualService, 'scheduler' | 'persistenceEngine'> {
  readonly scheduler: string
  readonly persistenceEngine: string | null
}

export interface ServerId {
  readonly address: IpAddress
  readonly family: Family
  readonly port: number
}

export type ForwardingMethod = 'nat' | 'direct-routing' | 'tunnel'
export type Tunnel =
  | { readonly type: 'ipip' }
  | { readonly type: 'gue'; readonly port: number; readonly checksum: 'none' | 'csum' | 'remcsum' }
  | { readonly type: 'gre'; readonly checksum: 'none' | 'csum' }

export interface ServerSettings {
  readonly method: ForwardingMethod
  /** What `-i` would use; ipip unless said otherwise, kept for every method as IPVS does. */
  readonly tunnel: Tunnel
  /** 0 to 2147483647; 0 drains. */
  readonly weight: number
  /** Connections, 0 = unset. */
  readonly upperThreshold: number
  readonly lowerThreshold: number
}

export interface RealServer extends ServerSettings {
  readonly id: ServerId
}

/** Seconds. */
export interface Timeouts {
  readonly tcp: number
  readonly tcpFin: number
  readonly udp: number
}

export interface SyncDaemon {
  readonly state: 'master' | 'backup'
  readonly interface: string
  readonly syncId: number
  readonly maxLength: number
  readonly group: IpAddress
  readonly port: number
  readonly ttl: number
}

/** Totals since the start or the last `-Z`. */
export interface Counters {
  readonly conns: bigint
  readonly inPackets: bigint
  readonly outPackets: bigint
  readonly inBytes: bigint
  readonly outBytes: bigint
}

/** Per second, as IPVS's estimator would show them (spec dataplane.md §11), rounded for display. */
export interface Rates {
  readonly cps: number
  readonly inPps: number
  readonly outPps: number
  readonly inBps: number
  readonly outBps: number
}

export interface ServerListing extends RealServer {
  readonly activeConns: number
  readonly inactiveConns: number
  readonly persistentConns: number
  readonly counters: Counters
  readonly rates: Rates
}

export interface ServiceListing extends VirtualService {
  /** In IPVS's list order: newest first. */
  readonly servers: readonly ServerListing[]
  readonly counters: Counters
  readonly rates: Rates
}

/** One row of `ipvsadm -Lc`. */
export interface ConnectionListing {
  readonly protocol: Protocol | 'ip'
  readonly family: Family
  readonly remainingMs: number
  /** `ESTABLISHED`, `UDP`, `NONE`, ... as ipvsadm prints it. */
  readonly state: string
  readonly client: IpAddress
  readonly clientPort: number
  readonly virtual: IpAddress
  readonly virtualPort: number
  readonly destination: IpAddress
  readonly destinationPort: number
  readonly template: boolean
  readonly engine: { readonly name: string; readonly data: string } | null
}

/** The refusals of IPVS's netlink interface, in its words (spec netlink.md §7). */
export type Errno =
  | 'EPERM'
  | 'ENOENT'
  | 'ESRCH'
  | 'EEXIST'
  | 'EINVAL'
  | 'ERANGE'
  | 'ENOMEM'
  | 'ENODEV'
  | 'ENOSPC'
  | 'ENOPROTOOPT'
  | 'EOPNOTSUPP'
  | 'EAFNOSUPPORT'
  | 'EMSGSIZE'

export type Outcome<T = void> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly errno: Errno; readonly message: string }

/**
 * The director as its clients see it (ipvsadm, pointsman, the API): the state the operator wants,
 * with IPVS's refusals. Every change is complete or has not happened. Changes are in force for
 * packets when `settle` returns (a restore makes thousands of changes, then settles once).
 */
export interface Director {
  addService(service: ServiceRequest): Outcome
  editService(service: ServiceRequest): Outcome
  deleteService(id: ServiceId): Outcome
  /** Deletes all services. */
  flush(): Outcome
  /** Zeroes the counters and rates of one service and its real servers, or of everything. */
  zero(id?: ServiceId): Outcome

  addServer(id: ServiceId, server: RealServer): Outcome
  editServer(id: ServiceId, server: RealServer): Outcome
  deleteServer(id: ServiceId, server: ServerId): Outcome

  /** In IPVS's unsorted order: newest service first, port services before firewall marks. */
  services(): readonly ServiceListing[]
  service(id: ServiceId): Outcome<ServiceListing>
  /** The rules alone, in the same order, without looking at counters. */
  rules(): readonly { readonly service: VirtualService; readonly servers: readonly RealServer[] }[]
  connections(): Iterable<ConnectionListing>
  /** Number of buckets/lines shown by `IP Virtual Server version 1.2.1 (size=N)`. */
  connectionTableSize(): number
  totals(): { readonly counters: Counters; readonly rates: Rates }

  timeouts(): Timeouts
  /** 0 keeps a value. Seconds, each at most 2678400 (checked by the caller's grammar too). */
  setTimeouts(timeouts: Timeouts): Outcome

  daemons(): readonly SyncDaemon[]
  startDaemon(daemon: {
    readonly state: 'master' | 'backup'
    readonly interface: string
    readonly syncId: number
    readonly maxLength?: number | undefined
    readonly group?: IpAddress | undefined
    readonly port?: number | undefined
    readonly ttl?: number | undefined
  }): Outcome
  stopDaemon(state: 'master' | 'backup'): Outcome

  /** `net.ipv4.vs.*` by short name (`sloppy_tcp`); values as numbers. */
  sysctls(): Readonly<Record<string, number>>
  setSysctl(name: string, value: number): Outcome

  /** Returns when all changes so far are in force in the packet path; rejects if they cannot be. */
  settle(): Promise<void>
}
