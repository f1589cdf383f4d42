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
  readonly template: boolean
  readonly engine: { readonly name: string; readonly data: string } | null
}

/** IPVS's default number of buckets, shown when no connection table exists. */
export const CONNECTION_TABLE_SIZE = 4096
