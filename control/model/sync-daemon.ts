/** The synchronisation daemons as configuration: what IPVS fills in and clamps when one is started. */
import { type IpAddress, isMulticast, parseAddress } from '../../net/address.ts'
import type { Outcome } from './outcome.ts'
import { refuse, success } from './outcome.ts'

export interface SyncDaemon {
  readonly state: 'master' | 'backup'
  readonly interface: string
  readonly syncId: number
  readonly maxLength: number
  readonly group: IpAddress
  readonly port: number
  readonly ttl: number
}

/** What a client asks for; IPVS fills in the rest. */
export interface DaemonRequest {
  readonly state: 'master' | 'backup'
  readonly interface: string
  readonly syncId: number
  readonly maxLength?: number | undefined
  readonly group?: IpAddress | undefined
  readonly port?: number | undefined
  readonly ttl?: number | undefined
}

const GROUP = parseAddress('224.0.0.81')!
const PORT = 8848
const TTL = 1
/** IP and UDP headers in front of a message. */
const HEADERS_V4 = 28
const HEADERS_V6 = 48
const ETHERNET_MTU = 1500
const DATAGRAM_MAX = 65535
const BACKUP_MIN = 1024

/**
 * The daemon IPVS would run: default group, port and TTL, and the message size in force. A master's
 * default does not look at the device; a backup's receive buffer follows the device's MTU.
 */
export function completeDaemon(request: DaemonRequest, mtu: number): Outcome<SyncDaemon> {
  const group = request.group ?? GROUP
  if (!isMulticast(group)) {
    return refuse('EINVAL', `Cannot use "${group}" as group: expected a multicast address`)
  }
  if (!Number.isInteger(request.syncId) || request.syncId < 0 || request.syncId > 255) {
    return refuse('EINVAL', `Cannot use ${request.syncId} as sync id: expected 0 to 255`)
  }
  const headers = group.includes(':') ? HEADERS_V6 : HEADERS_V4
  const asked = request.maxLength ?? 0
  const limit = DATAGRAM_MAX - headers
  let maxLength: number
  if (request.state === 'master') {
    maxLength = asked > 0 ? Math.min(asked, limit) : ETHERNET_MTU - headers
  } else {
    const device = Math.min(Math.max(mtu, ETHERNET_MTU), DATAGRAM_MAX) - headers
    maxLength = asked > 0 ? Math.min(Math.max(asked, BACKUP_MIN), limit) : device
  }
  return success({
    state: request.state,
    interface: request.interface,
    syncId: request.syncId,
    maxLength,
    group,
    port: request.port || PORT,
    ttl: request.ttl || TTL,
  })
}
