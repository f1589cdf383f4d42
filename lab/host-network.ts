/**
 * How one host of the lab is set up, as plain data: kernel parameters and `ip` commands that hold in
 * a network namespace and in a virtual machine alike.
 */
import { type AddressFamily, FAMILIES, type Host, topology, WIRES, type WireName } from './topology.ts'

/** A table of its own for packets that a real server sends from its own address (NAT). */
export const NAT_TABLE = 100

/** The wires a host has a link to. */
export function wiresOf(host: Host): WireName[] {
  return WIRES.filter((wire) => host[wire] !== undefined)
}

/** Kernel parameters by path below /proc/sys/net; to be set before the links come up. */
export function parametersOf(host: Host): Record<string, number> {
  const everywhere = {
    'ipv6/conf/default/accept_dad': 0, // addresses are usable at once
    'ipv6/conf/default/accept_ra': 0,
    'ipv6/conf/default/autoconf': 0,
    'ipv6/conf/default/router_solicitations': 0,
    'ipv4/conf/all/rp_filter': 0,
    'ipv4/conf/default/rp_filter': 0,
  }
  switch (host.role) {
    case 'client':
      return { ...everywhere, 'ipv4/tcp_syn_retries': 4 }
    case 'director':
      return {
        ...everywhere,
        'ipv4/ip_forward': 1,
        'ipv6/conf/all/forwarding': 1,
        'ipv6/conf/default/forwarding': 1,
        'ipv4/conf/all/send_redirects': 0,
        'ipv4/conf/default/send_redirects': 0,
      }
    case 'real-server':
      // The virtual addresses stand on lo: do not answer ARP for them, do not announce them.
      return {
        ...everywhere,
        'ipv4/conf/all/arp_ignore': 1,
        'ipv4/conf/default/arp_ignore': 1,
        'ipv4/conf/all/arp_announce': 2,
        'ipv4/conf/default/arp_announce': 2,
      }
    default:
      return host.role satisfies never
  }
}

/** `ip` commands that give a host its MTUs and addresses; before the links come up. */
export function linksAndAddressesOf(host: Host): string[] {
  const mtus = wiresOf(host).map(
    (wire) => `link set ${topology.wires[wire].interface} mtu ${topology.wires[wire].mtu}`,
  )
  const own = wiresOf(host).flatMap((wire) =>
    FAMILIES.map((family) => {
      const { interface: device, [family]: network } = topology.wires[wire]
      return `addr add ${host[wire]?.[family]}/${network.prefix} dev ${device}`
    }),
  )
  return [...mtus, ...own, ...virtualAddresses(host)]
}

/** The director answers ARP and ping for all; a real server accepts packets for those of DR and TUN. */
function virtualAddresses(host: Host): string[] {
  const { nat, 'direct-routing': direct, tunnel } = topology.virtual
  switch (host.role) {
    case 'client':
      return []
    case 'director':
      return [nat, direct, tunnel].flatMap((virtual) => [
        `addr add ${virtual.ipv4}/32 dev ${topology.wires.clients.interface}`,
        // Deprecated: never chosen as the source of the director's own packets.
        `addr add ${virtual.ipv6}/128 dev ${topology.wires.clients.interface} preferred_lft 0`,
      ])
    case 'real-server':
      return [direct, tunnel].flatMap((virtual) => [
        `addr add ${virtual.ipv4}/32 dev lo`,
        `addr add ${virtual.ipv6}/128 dev lo`,
      ])
    default:
      return host.role satisfies never
  }
}

/**
 * `ip` commands of one family, for when the links are up. What a real server sends from its own
 * address answers a NAT connection and has to go back through the director; what it sends from a
 * virtual address goes straight to the client.
 */
export function natReturnRoutes(host: Host, family: AddressFamily): string[] {
  const director = topology.hosts.find((other) => other.role === 'director')?.servers
  if (host.role !== 'real-server' || host.servers === undefined || director === undefined) return []
  return [
    `route add default via ${director[family]} dev ${topology.wires.servers.interface} table ${NAT_TABLE}`,
    `rule add from ${host.servers[family]} lookup ${NAT_TABLE}`,
  ]
}

/** Features that would hand over super-packets, or packets whose checksum nobody has computed. */
export function offloadsOff(device: string): string {
  return `ethtool -K ${device} tx off rx off tso off gso off gro off >/dev/null`
}
