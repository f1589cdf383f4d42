/**
 * What is known to go wrong around a director, checked one by one. Every finding says the cause, what it
 * leads to and the command that mends it. Pure: facts in, findings out.
 */
import type { Offloads } from '../../../linux/ethtool.ts'
import { serviceTitle } from '../../front/api/names.ts'
import type { Status } from '../status.ts'

export interface Finding {
  /** failure: packets are lost or will be; warning: they may be; note: cannot be seen from here. */
  readonly severity: 'failure' | 'warning' | 'note'
  readonly cause: string
  readonly consequence: string
  /** A command, or what to do where there is none. */
  readonly remedy: string
}

export interface InterfaceFacts {
  readonly name: string
  readonly driver: string
  readonly up: boolean
  readonly mtu: number
  readonly mode: string
  readonly note: string | null
  readonly offloads: Offloads
  /** veth only: the other end, null while it is in another network namespace. */
  readonly peer: { readonly name: string; readonly offloads: Offloads; readonly hasXdp: boolean } | null
}

export interface ServerFacts {
  readonly address: string
  readonly methods: readonly string[]
  readonly route: 'ok' | 'none' | 'local' | 'unresolved'
  /** Bytes of IP packet on the way there; null while unknown. */
  readonly mtu: number | null
}

export interface DoctorFacts {
  /** null: no daemon answers. */
  readonly status: Status | null
  /** Why not. */
  readonly unreachable: string | null
  readonly verdicts: Readonly<Record<string, number>>
  readonly kernel: string
  readonly root: boolean
  /** Whether all of this was seen from the daemon's network namespace. */
  readonly together: boolean
  readonly interfaces: readonly InterfaceFacts[]
  readonly servers: readonly ServerFacts[]
  /** Virtual addresses, and whether this host owns them. */
  readonly virtual: readonly { readonly address: string; readonly local: boolean }[]
  readonly forwarding: { readonly ipv4: boolean | null; readonly ipv6: boolean | null }
}

type Check = (facts: DoctorFacts) => readonly Finding[]

const KERNEL_MIN = [6, 1] as const

const daemon: Check = ({ status, unreachable }) => {
  if (status === null) {
    return [
      {
        severity: 'failure',
        cause: unreachable ?? 'No daemon answers',
        consequence: 'rules cannot be changed, ended connections are not cleared away',
        remedy: 'pointsmand --interface NAME',
      },
    ]
  }
  if (status.forwarding) return []
  return [
    {
      severity: 'failure',
      cause: 'pointsmand takes packets from no interface, or not from all it was told',
      consequence: 'packets for virtual services go to the local stack',
      remedy: 'pointsmand --interface NAME',
    },
  ]
}

const warnings: Check = ({ status }) =>
  (status?.dataplane.warnings ?? []).map((cause) => ({
    severity: 'warning',
    cause,
    consequence: 'forwarding may end with the processes of this session',
    remedy: 'nsenter --net=/run/netns/NAME pointsmand ...',
  }))

const kernel: Check = ({ kernel: release }) => {
  const [major = 0, minor = 0] = release.split('.').map(Number)
  if (major > KERNEL_MIN[0] || (major === KERNEL_MIN[0] && minor >= KERNEL_MIN[1])) return []
  return [
    {
      severity: 'failure',
      cause: `The kernel is ${release}, older than ${KERNEL_MIN.join('.')}`,
      consequence: 'the packet program may not load',
      remedy: 'pointsmand --dataplane userspace',
    },
  ]
}

const privileges: Check = ({ root }) =>
  root
    ? []
    : [
        {
          severity: 'note',
          cause: 'Not run as root',
          consequence: 'offloads, routes and neighbours may not be readable: some traps go unseen',
          remedy: 'sudo pointsman doctor',
        },
      ]

const namespace: Check = ({ together, status }) =>
  together
    ? []
    : [
        {
          severity: 'warning',
          cause: 'The daemon is in another network namespace, which cannot be entered from here',
          consequence: 'interfaces, routes and addresses below are not the director’s',
          remedy: `nsenter --target ${status?.pid ?? 'PID'} --net pointsman doctor`,
        },
      ]

const attachment: Check = ({ interfaces }) =>
  interfaces.flatMap((nic): Finding[] => {
    const findings: Finding[] = []
    if (!nic.up) {
      findings.push({
        severity: 'failure',
        cause: `${nic.name} is down`,
        consequence: 'no packet arrives',
        remedy: `ip link set dev ${nic.name} up`,
      })
    }
    if (nic.mode === 'generic') {
      findings.push({
        severity: 'warning',
        cause: nic.note ?? `XDP runs in generic mode on ${nic.name}`,
        consequence: 'forwarding works, at a fraction of the speed',
        remedy: 'pointsmand --xdp-mode native, once the driver allows it',
      })
    }
    if (nic.offloads.lro === true) {
      findings.push({
        severity: 'failure',
        cause: `LRO is on at ${nic.name}`,
        consequence: 'received packets are merged beyond the MTU and cannot be forwarded',
        remedy: `ethtool -K ${nic.name} lro off`,
      })
    }
    return findings
  })

/** A frame sent into a veth is received by its other end: that one needs a program or GRO to take it. */
const veth: Check = ({ interfaces, status }) =>
  interfaces.flatMap((nic): Finding[] => {
    if (nic.driver !== 'veth' || status?.dataplane.kind !== 'xdp') return []
    if (nic.peer === null) {
      return [
        {
          severity: 'note',
          cause: `The other end of ${nic.name} (veth) is in another network namespace`,
          consequence:
            'without GRO or an XDP program there, forwarded packets are lost; with transmit checksum offload there, TCP and UDP checksums are unfinished',
          remedy: 'there: ethtool -K NAME gro on tx off',
        },
      ]
    }
    const findings: Finding[] = []
    const { peer } = nic
    if (peer.offloads.gro !== true && !peer.hasXdp) {
      findings.push({
        severity: 'failure',
        cause: `${peer.name}, the other end of ${nic.name} (veth), has neither GRO nor an XDP program`,
        consequence: 'packets forwarded out of that interface are lost, ping may still work',
        remedy: `ethtool -K ${peer.name} gro on`,
      })
    }
    if (peer.offloads.transmitChecksum === true) {
      findings.push({
        severity: 'failure',
        cause: `${peer.name}, the other end of ${nic.name} (veth), leaves checksums to an offload that does not exist`,
        consequence: 'packets through NAT carry wrong checksums: ping works, TCP does not',
        remedy: `ethtool -K ${peer.name} tx off`,
      })
    }
    return findings
  })

const virtio: Check = ({ interfaces, status }) =>
  interfaces.flatMap((nic): Finding[] => {
    if (nic.driver !== 'virtio_net' || status?.dataplane.kind !== 'xdp') return []
    if (nic.offloads.receiveChecksum !== true) return []
    return [
      {
        severity: 'warning',
        cause: `${nic.name} (virtio) may receive unfinished checksums from its host`,
        consequence: 'packets from guests on the same host pass NAT with wrong checksums',
        remedy: `ethtool -K ${nic.name} rx off, or guest_csum=off in the definition of the VM`,
      },
    ]
  })

const stacked: Check = ({ interfaces }) =>
  interfaces.flatMap((nic): Finding[] => {
    if (!/^(bonding|bridge|team)$|vlan/i.test(nic.driver)) return []
    return [
      {
        severity: 'warning',
        cause: `${nic.name} is a ${nic.driver} device`,
        consequence: 'only generic XDP works on it',
        remedy: 'pointsmand --interface with its parent or member interfaces',
      },
    ]
  })

const forwarding: Check = ({ forwarding: state, servers }) => {
  const nat = (version: 'ipv4' | 'ipv6'): boolean =>
    servers.some(
      ({ address, methods }) => methods.includes('nat') && address.includes(':') === (version === 'ipv6'),
    )
  const finding = (version: string, sysctl: string): Finding => ({
    severity: 'failure',
    cause: `${version} forwarding is off`,
    consequence: 'answers of NAT real servers are not forwarded to clients',
    remedy: `sysctl -w ${sysctl}=1`,
  })
  return [
    ...(state.ipv4 === false && nat('ipv4') ? [finding('IPv4', 'net.ipv4.ip_forward')] : []),
    ...(state.ipv6 === false && nat('ipv6') ? [finding('IPv6', 'net.ipv6.conf.all.forwarding')] : []),
  ]
}

const virtualAddresses: Check = ({ virtual, interfaces }) =>
  virtual
    .filter(({ local }) => !local)
    .map(({ address }) => ({
      severity: 'warning',
      cause: `Virtual address ${address} is not an address of this host`,
      consequence:
        'nobody answers ARP or neighbour discovery for it, nor ping: only a route can bring its packets here',
      remedy: `ip addr add ${address}/${address.includes(':') ? 128 : 32} dev ${interfaces[0]?.name ?? 'NAME'}`,
    }))

const routes: Check = ({ servers }) =>
  servers.flatMap(({ address, route }): Finding[] => {
    if (route === 'none') {
      return [
        {
          severity: 'failure',
          cause: `There is no route to real server ${address}`,
          consequence: 'its clients get ICMP host unreachable',
          remedy: `ip route add ${address} via GATEWAY`,
        },
      ]
    }
    if (route === 'unresolved') {
      return [
        {
          severity: 'warning',
          cause: `The next hop to real server ${address} does not answer ARP or neighbour discovery`,
          consequence: 'its packets are dropped until it does',
          remedy: `ping ${address}`,
        },
      ]
    }
    return []
  })

/** Bytes an outer header adds; the smallest case is enough to warn. */
const TUNNEL_OVERHEAD = { ipv4: 20, ipv6: 40 } as const

const tunnels: Check = ({ servers, interfaces }) => {
  // Which interface the clients are behind is not known; a larger MTU is usually the remedy, already taken
  // on the side of the real servers.
  const arriving = interfaces.length === 0 ? 0 : Math.min(...interfaces.map(({ mtu }) => mtu))
  return servers.flatMap(({ address, methods, mtu }): Finding[] => {
    if (!methods.includes('tunnel') || mtu === null) return []
    const overhead = address.includes(':') ? TUNNEL_OVERHEAD.ipv6 : TUNNEL_OVERHEAD.ipv4
    if (mtu - overhead >= arriving) return []
    return [
      {
        severity: 'warning',
        cause: `Packets of ${arriving} bytes do not fit into the tunnel to ${address} (${mtu} bytes less ${overhead})`,
        consequence: 'clients are told to send smaller packets; where ICMP is filtered, large transfers hang',
        remedy: `ip link set dev NAME mtu ${arriving + overhead} on the way to ${address}, or a lower MSS at the real servers`,
      },
    ]
  })
}

const unsupportedRules: Check = ({ status }) =>
  (status?.unsupported ?? []).map(({ service, reasons }) => ({
    severity: 'warning',
    cause: `A rule uses what the packet program cannot do yet: ${reasons.join(', ')} in ${serviceTitle(service)}`,
    consequence: 'its packets go to the local stack (verdict pass_unsupported)',
    remedy: 'change the rule with ipvsadm -E or ipvsadm -e',
  }))

/** Verdicts that should not occur, and what is behind them. */
const BAD_VERDICTS: Readonly<Record<string, { readonly consequence: string; readonly remedy: string }>> = {
  drop_table_full: {
    consequence: 'new connections are refused while the table has no room',
    remedy: 'pointsman detach, then pointsmand --connections with a larger number',
  },
  drop_next_hop_unresolved: {
    consequence: 'packets to a neighbour that does not answer are lost',
    remedy: 'ip neigh show; see that the real servers are up',
  },
  drop_forwarding_off: {
    consequence: 'packets are not forwarded from an interface on which forwarding is off',
    remedy: 'sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1',
  },
  drop_headroom: {
    consequence: 'tunnel headers find no room in the frames of this driver',
    remedy: 'pointsmand --xdp-mode generic, or --dataplane userspace',
  },
  drop_no_tunnel_source: {
    consequence: 'packets into a tunnel are lost while there is no route to choose a source address by',
    remedy: 'ip route get REAL_SERVER',
  },
  drop_map: {
    consequence: 'an inconsistency of the maps: a bug',
    remedy: 'report it, with pointsman status --json',
  },
  drop_tx: { consequence: 'the kernel refused frames of the userspace plane', remedy: 'ip -s link' },
  drop_ring: {
    consequence: 'the userspace plane is too slow for what arrives',
    remedy: 'pointsmand --workers with a larger number',
  },
}

const verdicts: Check = ({ verdicts: counts }) =>
  Object.entries(BAD_VERDICTS).flatMap(([name, { consequence, remedy }]): Finding[] => {
    const count = counts[name] ?? 0
    return count === 0
      ? []
      : [{ severity: 'warning', cause: `Verdict ${name}: ${count} packets`, consequence, remedy }]
  })

/** In the order they are shown. */
export const CHECKS: Readonly<Record<string, Check>> = {
  daemon,
  kernel,
  privileges,
  'network namespace': namespace,
  'state that outlives the daemon': warnings,
  'interfaces taken': attachment,
  'veth pairs': veth,
  virtio,
  'stacked devices': stacked,
  forwarding,
  'virtual addresses': virtualAddresses,
  'routes to real servers': routes,
  'tunnel MTU': tunnels,
  'rules in force': unsupportedRules,
  verdicts,
}

export interface Diagnosis {
  readonly checks: readonly { readonly name: string; readonly findings: readonly Finding[] }[]
  /** No failures and no warnings. */
  readonly healthy: boolean
}

export function diagnose(facts: DoctorFacts): Diagnosis {
  const checks = Object.entries(CHECKS).map(([name, check]) => ({ name, findings: check(facts) }))
  const healthy = checks.every(({ findings }) => findings.every(({ severity }) => severity === 'note'))
  return { checks, healthy }
}
