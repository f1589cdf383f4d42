/**
 * Addresses of ours that full NAT gives connections for a source, each with its ports. Packets to one of them that
 * belong to no connection are the stack's; so that its own connections are never taken for ours, the ports are none
 * that it gives to sockets by itself.
 */
import { type Family, familyOf, type IpAddress } from '../../net/address.ts'
import { portsBeside } from '../../net/ports.ts'
import type { PortRange } from './mark.ts'
import { type Outcome, refuse, success } from './outcome.ts'

export interface FullNatAddress {
  readonly address: IpAddress
  readonly ports: PortRange
}

/** As it is asked for. */
export interface FullNatRequest {
  readonly address: IpAddress
  /** Left out: of those that no socket is given, the larger range. */
  readonly ports?: PortRange | undefined
}

/** All of it, or nothing. */
export interface FullNatChange {
  /** An address that is there gets other ports. */
  readonly add: readonly FullNatRequest[]
  readonly delete: readonly IpAddress[]
}

/** Of each family (PM_FULL_NATS). */
export const FULL_NAT_MAX = 64
/** Below are ports of services (RFC 6335 §6: system ports), which the host itself may have. */
const LOWEST = 1024
const HIGHEST = 65535

export const portsText = ({ from, to }: PortRange): string => `${from}-${to}`

const size = ({ from, to }: PortRange): number => to - from + 1

/**
 * The address with its ports, or why it cannot be one.
 * @param local ports that the host gives to sockets by itself
 */
export function fullNatAddress(
  { address, ports }: FullNatRequest,
  local: readonly PortRange[],
): Outcome<FullNatAddress> {
  const whole = isNoAddress(address)
  if (whole !== null) return refuse('EINVAL', `Cannot use ${address} for full NAT: it is ${whole}`)
  if (ports === undefined) {
    const [largest] = [...portsBeside({ from: LOWEST, to: HIGHEST }, local)].sort((a, b) => size(b) - size(a))
    if (largest !== undefined) return success({ address, ports: largest })
    return refuse(
      'EINVAL',
      `Cannot use ${address} for full NAT: the host gives all ports to its own sockets: sysctl -w net.ipv4.ip_local_port_range="32768 60999"`,
    )
  }
  const text = portsText(ports)
  if (ports.from < 1 || ports.to > HIGHEST || ports.from > ports.to)
    return refuse(
      'EINVAL',
      `Cannot use ports ${text} for full NAT: expected 1 to ${HIGHEST}, the lower one first`,
    )
  const shared = local.find(({ from, to }) => from <= ports.to && to >= ports.from)
  if (shared !== undefined)
    return refuse(
      'EINVAL',
      `Cannot use ports ${text} of ${address} for full NAT: the host gives ${portsText(shared)} to its own sockets: choose others, or sysctl -w net.ipv4.ip_local_reserved_ports=${text}`,
    )
  return success({ address, ports })
}

/** What an address is that nobody has for himself; null if somebody may. */
function isNoAddress(address: IpAddress): string | null {
  if (familyOf(address) === 4) {
    const first = Number(address.slice(0, address.indexOf('.')))
    if (first === 0 || first === 127) return 'for this host alone'
    return first >= 224 ? 'no address of one host' : null
  }
  if (address === '::' || address === '::1') return 'for this host alone'
  if (/^fe[89ab]/.test(address)) return 'for one link alone'
  return address.startsWith('ff') ? 'no address of one host' : null
}

/** The list after a change. */
export function changedFullNat(
  present: readonly FullNatAddress[],
  change: FullNatChange,
  local: readonly PortRange[],
): Outcome<readonly FullNatAddress[]> {
  const wanted = new Map(present.map((one) => [one.address, one]))
  for (const address of change.delete) {
    if (!wanted.delete(address))
      return refuse(
        'ENOENT',
        `Cannot delete ${address}: full NAT does not have it, see pointsman full-nat list`,
      )
  }
  for (const request of change.add) {
    const added = fullNatAddress(request, local)
    if (!added.ok) return added
    wanted.set(request.address, added.value)
  }
  for (const family of [4, 6] as const) {
    const count = [...wanted.keys()].filter((address) => familyOf(address) === family).length
    if (count > FULL_NAT_MAX)
      return refuse(
        'ENOSPC',
        `Cannot use ${count} IPv${family} addresses for full NAT: there is room for ${FULL_NAT_MAX}`,
      )
  }
  return success([...wanted.values()])
}

export function hasFullNat(addresses: readonly FullNatAddress[], family: Family): boolean {
  return addresses.some(({ address }) => familyOf(address) === family)
}
