/** Connections as clients see them. */
import type { Family, IpAddress } from '../../net/address.ts'
import type { Protocol } from '../../net/protocol.ts'

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
  /** By full NAT: what the real server sees for its client. */
  readonly seenAs?: { readonly address: IpAddress; readonly port: number }
  readonly template: boolean
  readonly engine: { readonly name: string; readonly data: string } | null
}

/** IPVS's default number of buckets, shown when no connection table exists. */
export const CONNECTION_TABLE_SIZE = 4096

/** By when they end, by one of their ends, by state; the other way round with a minus. */
export const CONNECTION_ORDERS = [
  ...(['ends', 'client', 'service', 'server', 'state'] as const),
  ...(['-ends', '-client', '-service', '-server', '-state'] as const),
] as const
export type ConnectionOrder = (typeof CONNECTION_ORDERS)[number]

export interface PageQuestion {
  /** Words that all have to fit; see control/connections/search.ts. */
  readonly search: string
  readonly order: ConnectionOrder
  readonly limit: number
  /** The `next` of the page before; null: the first. */
  readonly after: string | null
}

/** Some of the connections there are. */
export interface ConnectionPage {
  readonly connections: readonly ConnectionListing[]
  /** How many fit the search, on all pages. */
  readonly matched: number
  /** null: there are no more. */
  readonly next: string | null
}
