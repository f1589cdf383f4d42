/** Virtual services: validated, plain, immutable. Text is parsed in one place (net/address.ts for
 * addresses); whoever holds one of these types may rely on it. */
import type { Family, IpAddress } from '../../net/address.ts'
import type { Protocol } from '../../net/protocol.ts'
import type { Counters, Rates } from './counters.ts'
import type { SchedulerName } from './scheduler.ts'
import type { ServerListing } from './server.ts'
import type { SourceName } from './source.ts'

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
  /** Just enough tracking, ours: connections have lines of the table only where a change would move them. */
  readonly untracked: boolean
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

/** Whether packets meet a service as it is wanted; if not, why, and whether it comes by itself. */
export type ServiceState =
  | { readonly state: 'in force' }
  | { readonly state: 'waiting' | 'refused'; readonly why: string }

export const IN_FORCE: ServiceState = { state: 'in force' }

export interface ServiceListing extends VirtualService {
  readonly source: SourceName
  readonly state: ServiceState
  /** In IPVS's list order: newest first. */
  readonly servers: readonly ServerListing[]
  readonly counters: Counters
  readonly rates: Rates
}
