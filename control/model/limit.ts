/** Limits: what a service lets each source do. A source is what a prefix length leaves of a client's address. */
import type { Family } from '../../net/address.ts'
import type { ServiceId } from './service.ts'
import type { SourceName } from './source.ts'

export interface LimitSettings {
  /** New connections in a second; 0: any number. */
  readonly rate: number
  /** Connections at a time; 0: any number. */
  readonly connections: number
  /** Addresses that have so many bits in common are one source. */
  readonly length: number
}

export interface SourceLimit extends LimitSettings {
  readonly service: ServiceId
}

export interface LimitListing extends SourceLimit {
  /** Who states it. */
  readonly owner: SourceName
}

/** A change of limits: all of it, or nothing. */
export interface LimitChange {
  readonly delete: readonly ServiceId[]
  /** Instead of what the service had. */
  readonly add: readonly SourceLimit[]
}

/** Limits that a source states: all that it has said of them before is over. */
export interface StatedLimits {
  readonly limits: readonly SourceLimit[]
  /** Identities of the services that it states: the limit of another one goes when that goes. */
  readonly services: ReadonlySet<string>
  /** What commands state otherwise becomes the source's, instead of being refused. */
  readonly takeOver: boolean
}

export interface ComparedLimits {
  readonly differences: readonly {
    readonly difference: 'added' | 'deleted'
    readonly limit: SourceLimit
  }[]
  /** Any: then nothing has changed. */
  readonly refused: readonly { readonly limit: SourceLimit; readonly message: string }[]
}

/** A connection is told from the next by a millionth of a second. */
export const RATE_MAX = 1_000_000
/** More than any table has lines. */
export const CONNECTIONS_MAX = 100_000_000

/** In words: `10 new connections/s, 4 connections at a time per /24`. */
export function limitText({ rate, connections, length }: LimitSettings): string {
  const parts = [
    ...(rate === 0 ? [] : [`${rate} new connections/s`]),
    ...(connections === 0 ? [] : [`${connections} connections at a time`]),
  ]
  return `${parts.join(', ')} per /${length}`
}

/** What one client has, unless somebody says otherwise: an address; of IPv6 the network that it draws them from. */
export const SOURCE_LENGTH: Readonly<Record<Family, number>> = { 4: 32, 6: 64 }
