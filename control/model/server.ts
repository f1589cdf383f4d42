/** Real servers: validated, plain, immutable. */
import type { Family, IpAddress } from '../../net/address.ts'
import type { Counters, Rates } from './counters.ts'
import type { Hold } from './hold.ts'

export interface ServerId {
  readonly address: IpAddress
  readonly family: Family
  readonly port: number
}

/** `full-nat` is ours: by NAT the client's address stays, here it becomes one of the director's (full-nat.ts). */
export type ForwardingMethod = 'nat' | 'full-nat' | 'direct-routing' | 'tunnel'

/** Methods by which packets get other addresses: a real server may have another port, and answers come back. */
export function translates(method: ForwardingMethod): boolean {
  return method === 'nat' || method === 'full-nat'
}

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

export interface ServerListing extends RealServer {
  /** As its source says it; `weight` is what is in force. */
  readonly saidWeight: number
  readonly hold: Hold | null
  readonly activeConns: number
  readonly inactiveConns: number
  readonly persistentConns: number
  readonly counters: Counters
  readonly rates: Rates
}
