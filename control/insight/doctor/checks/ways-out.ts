/** Where packets leave: routes, neighbours, and what the interfaces there take. */
import type { WayOut } from '../facts.ts'
import { at, type Check, type Finding } from '../finding.ts'

const SYSCTL = {
  ipv4: { name: 'IPv4', all: 'net.ipv4.ip_forward', of: (nic: string) => `net.ipv4.conf.${nic}.forwarding` },
  ipv6: {
    name: 'IPv6',
    all: 'net.ipv6.conf.all.forwarding',
    of: (nic: string) => `net.ipv6.conf.${nic}.forwarding`,
  },
} as const

/** Answers of NAT real servers are forwarded packets; packets to real servers find their way without. */
export const forwarding: Check = ({ forwarding: state, interfaces, servers }) =>
  (['ipv4', 'ipv6'] as const).flatMap((family): Finding[] => {
    const answers = servers.filter(({ methods }) => methods.includes('nat') || methods.includes('full-nat'))
    if (!answers.some(({ address }) => address.includes(':') === (family === 'ipv6'))) return []
    const { name, all, of } = SYSCTL[family]
    const consequence = 'answers of NAT real servers are dropped (verdict drop_forwarding_off)'
    if (state[family] === false) {
      return [
        {
          severity: 'failure',
          cause: `${name} forwarding is off`,
          consequence,
          remedy: `sysctl -w ${all}=1`,
        },
      ]
    }
    return interfaces
      .filter((nic) => nic.forwarding[family] === false)
      .map((nic) => ({
        severity: 'failure',
        cause: `${name} forwarding is off on ${nic.name}`,
        consequence,
        // A dot in the name of an interface (VLAN devices) would end it: sysctl takes slashes as well.
        remedy: nic.name.includes('.')
          ? `sysctl -w ${of('@').replaceAll('.', '/').replace('@', nic.name)}=1`
          : `sysctl -w ${of(nic.name)}=1`,
      }))
  })

export const virtualAddresses: Check = ({ virtual, interfaces }) =>
  virtual
    .filter(({ local }) => !local)
    .map(({ address }) => ({
      severity: 'warning',
      cause: `Virtual address ${address} is not an address of this host`,
      consequence:
        'nobody answers ARP or neighbour discovery for it, nor ping: only a route can bring its packets here',
      remedy: `ip addr add ${address}/${address.includes(':') ? 128 : 32} dev ${interfaces[0]?.name ?? 'lo'}`,
    }))

export const routes: Check = ({ servers }) =>
  servers.flatMap(({ address, route }): Finding[] => {
    if (route === 'none') {
      return [
        {
          severity: 'failure',
          cause: `There is no route to real server ${address}`,
          consequence: 'its clients get ICMP host unreachable',
          remedy: `ip route get ${address}`,
        },
      ]
    }
    if (route === 'unresolved') {
      return [
        {
          severity: 'warning',
          cause: `The next hop to real server ${address} does not answer ARP or neighbour discovery`,
          consequence: 'its packets are dropped until it does',
          remedy: `ping -c 3 ${address}`,
        },
      ]
    }
    return []
  })

/** Frames of XDP leave by interfaces whose driver takes them, and only as Ethernet. */
export const egress: Check = ({ waysOut, servers, status }) => {
  if (status?.dataplane.kind !== 'xdp') return []
  return waysOut.flatMap((way): Finding[] => {
    if (way.limit === null) return []
    const methods = new Set(
      servers.filter(({ wayOut }) => wayOut === way.name).flatMap((server) => server.methods),
    )
    const lost = [...methods].filter((method) => method !== 'nat')
    const clients = way.towardsClients && way.families.includes('ipv4')
    const consequences: string[] = []
    if (lost.length > 0)
      consequences.push(`packets by ${lost.join(' and ')} are dropped (verdict drop_egress)`)
    if (clients) consequences.push('answers to IPv4 clients there are dropped (verdict drop_egress)')
    if (methods.has('nat'))
      consequences.push('packets by NAT go through the stack, slowly (verdict pass_egress)')
    if (consequences.length === 0) return []
    return [
      {
        severity: lost.length > 0 || clients ? 'failure' : 'warning',
        cause:
          way.limit === 'no Ethernet'
            ? `${way.name}${kindOf(way)}, a way out, has no Ethernet frames`
            : `${way.name}${kindOf(way)}, a way out, takes no frames of XDP${sleeping(way)}`,
        consequence: consequences.join('; '),
        remedy: remedyFor(way),
      },
    ]
  })
}

/** What the kernel took and lost all the same: told by its tracepoints. */
export const sendFailures: Check = ({ status }) => {
  const counting = status?.dataplane.sendFailures ?? null
  if (counting === null) return []
  if (!counting.counted) {
    return [
      {
        severity: 'note',
        cause: `Frames that the kernel fails to send are not counted: ${counting.why ?? ''}`,
        consequence: 'losses behind the packet program show in the counters of interfaces only',
        remedy: 'ip -s link',
      },
    ]
  }
  return counting.ways.map(({ interface: name, error, frames }) => ({
    severity: 'warning',
    cause: `The kernel did not send ${frames} frames that were handed to ${name} (${error})`,
    consequence: 'they are counted as forwarded, and lost',
    remedy: 'ip -s link',
  }))
}

function kindOf({ kind }: WayOut): string {
  return kind === '' ? '' : ` (${kind})`
}

function sleeping({ kind, peer }: WayOut): string {
  if (kind !== 'veth') return ''
  return `: ${peer === null ? 'its other end' : `${peer.name}, its other end,`} has neither GRO nor an XDP program`
}

function remedyFor({ name, kind, limit, peer }: WayOut): string {
  // No plane has frames for it: only the stack sends there, which is NAT's way.
  if (limit === 'no Ethernet') return `ip -d link show dev ${name}`
  if (kind === 'veth' && limit === 'takes no frames') {
    return peer === null ? 'lsns --type net' : at(peer.namespace, `ethtool -K ${peer.name} gro on`)
  }
  return 'pointsman dataplane userspace'
}

/** Bytes an outer header adds; the smallest case is enough to warn. */
const TUNNEL_OVERHEAD = { ipv4: 20, ipv6: 40 } as const

export const tunnels: Check = ({ servers, interfaces }) => {
  // Which interface the clients are behind is not known; a larger MTU is usually the remedy, already taken
  // on the side of the real servers.
  const arriving = interfaces.length === 0 ? 0 : Math.min(...interfaces.map(({ mtu }) => mtu))
  return servers.flatMap(({ address, methods, mtu, wayOut }): Finding[] => {
    if (!methods.includes('tunnel') || mtu === null) return []
    const overhead = address.includes(':') ? TUNNEL_OVERHEAD.ipv6 : TUNNEL_OVERHEAD.ipv4
    if (mtu - overhead >= arriving) return []
    return [
      {
        severity: 'warning',
        cause: `Packets of ${arriving} bytes do not fit into the tunnel to ${address} (${mtu} bytes less ${overhead})`,
        consequence:
          'clients are told to send smaller packets; where ICMP is filtered, large transfers hang: a larger MTU all the way, or a lower MSS at the real servers',
        remedy:
          wayOut === null
            ? `ip route get ${address}`
            : `ip link set dev ${wayOut} mtu ${arriving + overhead}`,
      },
    ]
  })
}

/** More neighbours than the daemon keeps resolved (NEIGHBOURS_MAX of the reconciler). */
const NEIGHBOURS_KEPT = 512

export const neighbours: Check = ({ serverCount, servers }) => {
  if (serverCount <= NEIGHBOURS_KEPT) return []
  const family = servers.some(({ address }) => address.includes(':')) ? 'ipv6' : 'ipv4'
  return [
    {
      severity: 'note',
      cause: `There are ${serverCount} real servers, and the daemon keeps ${NEIGHBOURS_KEPT} next hops resolved`,
      consequence: 'the first packet of a connection to one of the others may be lost after a pause',
      remedy: `sysctl -w net.${family}.neigh.default.gc_thresh1=${2 * serverCount}`,
    },
  ]
}

/** What real servers by full NAT answer to has to come here, and to no socket of this host. */
export const fullNat: Check = ({ fullNat: addresses, interfaces }) =>
  addresses.flatMap(({ address, local, shared, realServer, sockets }): Finding[] => [
    ...(local
      ? []
      : [
          {
            severity: 'warning' as const,
            cause: `Address ${address} of full NAT is not an address of this host`,
            consequence:
              'nobody answers ARP or neighbour discovery for it: only a route can bring answers here',
            remedy: `ip addr add ${address}/${address.includes(':') ? 128 : 32} dev ${interfaces[0]?.name ?? 'lo'}`,
          },
        ]),
    ...(shared === null
      ? []
      : [
          {
            severity: 'warning' as const,
            cause: `The kernel gives ports ${shared} to sockets of this host, and full NAT has some of them on ${address}`,
            consequence: 'an own connection to a real server may be taken for one of a client',
            remedy: `sysctl -w net.ipv4.ip_local_reserved_ports=${shared}`,
          },
        ]),
    ...(!realServer
      ? []
      : [
          {
            severity: 'failure' as const,
            cause: `Address ${address} of full NAT is a real server's own`,
            consequence: 'connections that come from there are answered by that real server to itself',
            remedy: `pointsman full-nat delete ${address}`,
          },
        ]),
    ...sockets.map((socket) => ({
      severity: 'warning' as const,
      cause: `A socket of this host has a port of full NAT: ${socket}`,
      consequence:
        'what the real server answers goes to it, or to a client that has the same port, not to both',
      remedy: 'pointsman full-nat list',
    })),
  ])
