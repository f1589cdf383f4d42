/** Real servers as attributes. */
import type { NetlinkAttribute } from '../../../linux/netlink/message.ts'
import type { Family } from '../../../net/address.ts'
import { INT_MAX } from '../../model/limits.ts'
import { type Outcome, refuse, success } from '../../model/outcome.ts'
import type { ForwardingMethod, RealServer, ServerId, ServerListing, Tunnel } from '../../model/server.ts'
import { type Attributes, address, u8, u16, u16BigEndian, u32 } from './attributes.ts'
import { DEST } from './family.ts'
import { stats } from './numbers.ts'
import { familyNumber, familyOfNumber } from './service.ts'

/** Full NAT is shown as NAT: who asks the kernel's IPVS knows no other that is like it. */
const METHODS: readonly (ForwardingMethod | null)[] = ['nat', null, 'tunnel', 'direct-routing']
const METHOD_BITS = 0x07
const TUNNELS = ['ipip', 'gue', 'gre'] as const
const CHECKSUMS = ['none', 'csum', 'remcsum'] as const

const incomplete = (what: string) => refuse('EINVAL', `Cannot read the request: ${what}`)

/** @param family the service's, for requests that name none */
export function readServerId(server: Attributes | null, family: Family): Outcome<ServerId> {
  const port = server?.u16BigEndian(DEST.port) ?? null
  if (server === null || port === null || !server.has(DEST.address)) {
    return incomplete('a real server needs address and port')
  }
  const number = server.u16(DEST.family) ?? 0
  const own = number === 0 ? family : familyOfNumber(number)
  if (own === null) return refuse('EAFNOSUPPORT', `Cannot use address family ${number} for a real server`)
  return success({ address: server.address(DEST.address, own)!, family: own, port })
}

export function readServer(server: Attributes, id: ServerId): Outcome<RealServer> {
  const methodNumber = server.u32(DEST.method)
  const weight = server.u32(DEST.weight)
  const upperThreshold = server.u32(DEST.upperThreshold)
  const lowerThreshold = server.u32(DEST.lowerThreshold)
  if (methodNumber === null || weight === null || upperThreshold === null || lowerThreshold === null) {
    return incomplete('a real server needs forwarding method, weight and thresholds')
  }
  const method = METHODS[methodNumber & METHOD_BITS] ?? null
  if (method === null) {
    return refuse('EINVAL', `Cannot use forwarding method ${methodNumber}: expected 0, 2 or 3`)
  }
  if (weight > INT_MAX) return refuse('ERANGE', `Cannot use weight ${weight | 0}: expected 0 to ${INT_MAX}`)
  const tunnel = readTunnel(server)
  if (!tunnel.ok) return tunnel
  return success({ id, method, tunnel: tunnel.value, weight, upperThreshold, lowerThreshold })
}

function readTunnel(server: Attributes): Outcome<Tunnel> {
  const number = server.u8(DEST.tunnelType) ?? 0
  const type = TUNNELS[number]
  const flags = server.u16(DEST.tunnelFlags) ?? 0
  const checksum = CHECKSUMS[flags]
  if (type === undefined) return refuse('EINVAL', `Cannot use tunnel type ${number}: expected 0, 1 or 2`)
  if (type === 'ipip') return success({ type })
  if (checksum === undefined) return refuse('EINVAL', `Cannot use tunnel flags ${flags}: expected 0 to 2`)
  if (type === 'gue') {
    const port = server.u16BigEndian(DEST.tunnelPort) ?? 0
    return port === 0
      ? refuse('EINVAL', 'Cannot use port 0 for a GUE tunnel')
      : success({ type, port, checksum })
  }
  return checksum === 'remcsum'
    ? refuse('EINVAL', 'Cannot use remote checksum offload for a GRE tunnel')
    : success({ type, checksum })
}

export function serverAttributes(server: ServerListing): readonly NetlinkAttribute[] {
  const { id, tunnel } = server
  return [
    address(DEST.address, id.address),
    u16BigEndian(DEST.port, id.port),
    u32(DEST.method, METHODS.indexOf(server.method === 'full-nat' ? 'nat' : server.method)),
    u32(DEST.weight, server.weight),
    u8(DEST.tunnelType, TUNNELS.indexOf(tunnel.type)),
    u16BigEndian(DEST.tunnelPort, tunnel.type === 'gue' ? tunnel.port : 0),
    u16(DEST.tunnelFlags, tunnel.type === 'ipip' ? 0 : CHECKSUMS.indexOf(tunnel.checksum)),
    u32(DEST.upperThreshold, server.upperThreshold),
    u32(DEST.lowerThreshold, server.lowerThreshold),
    u32(DEST.activeConns, server.activeConns),
    u32(DEST.inactiveConns, server.inactiveConns),
    u32(DEST.persistentConns, server.persistentConns),
    u16(DEST.family, familyNumber(id.family)),
    ...stats({ narrow: DEST.stats, wide: DEST.stats64 }, server.counters, server.rates),
  ]
}
