/**
 * The lab's wires: one namespace per host of the topology, and one ("net") with a bridge for each
 * wire, in which the lab also counts who sends which answers.
 */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { must } from './command.ts'
import { createNamespace, destroyNamespace, inNamespace, ipBatch, setParameters } from './namespace.ts'
import { type AddressFamily, FAMILIES, type Host, topology, type WireName } from './topology.ts'

/** The namespace that holds the two bridges. */
const NETWORK = 'net'
const WIRES: readonly WireName[] = ['clients', 'servers']

/** A table of its own for packets that a real server sends from its own address (NAT). */
const NAT_TABLE = 100

/** Name of a host's end at the bridge; at most 15 bytes. */
export function portName(host: string, wire: WireName): string {
  return `${host}-${topology.wires[wire].interface}`
}

export function namespaceNames(prefix: string): string[] {
  return [...topology.hosts.map((host) => prefix + host.name), prefix + NETWORK]
}

export async function createNetwork(prefix: string): Promise<void> {
  const object = labPrograms()
  await Promise.all(namespaceNames(prefix).map(createNamespace))
  await Promise.all([
    ...topology.hosts.map((host) => setParameters(prefix + host.name, parametersOf(host))),
    setParameters(prefix + NETWORK, { 'ipv6/conf/default/disable_ipv6': 1, 'ipv6/conf/all/disable_ipv6': 1 }),
  ])
  await ipBatch(prefix + NETWORK, [
    'link set lo up',
    ...WIRES.flatMap((wire) => [
      `link add br-${wire} type bridge forward_delay 0 mcast_snooping 0`,
      `link set br-${wire} up`,
    ]),
  ])
  await ipBatch(
    null,
    topology.hosts.flatMap((host) =>
      wiresOf(host).map(
        (wire) =>
          `link add name ${topology.wires[wire].interface} address ${host[wire]?.mac} netns ${prefix + host.name}` +
          ` type veth peer name ${portName(host.name, wire)} netns ${prefix + NETWORK}`,
      ),
    ),
  )
  await must(inNamespace(prefix + NETWORK, ['sh', '-e', '-s']), {
    input: topology.hosts
      .flatMap((host) => wiresOf(host).map((wire) => offloadsOff(portName(host.name, wire))))
      .join('\n'),
  })
  await ipBatch(
    prefix + NETWORK,
    topology.hosts.flatMap((host) =>
      wiresOf(host).flatMap((wire) => [
        `link set ${portName(host.name, wire)} master br-${wire}`,
        `link set ${portName(host.name, wire)} up`,
        ...(host.role === 'director'
          ? [`link set ${portName(host.name, wire)} xdpdrv object ${object} program pass`]
          : []),
      ]),
    ),
  )
  await Promise.all(topology.hosts.map((host) => configureHost(prefix, host, object)))
  await must(inNamespace(prefix + NETWORK, ['nft', '-f', '-']), { input: ANSWER_COUNTERS })
}

export async function destroyNetwork(prefix: string): Promise<void> {
  // The hosts first: their processes may still be talking to each other.
  for (const name of namespaceNames(prefix)) await destroyNamespace(name)
}

function wiresOf(host: Host): WireName[] {
  return WIRES.filter((wire) => host[wire] !== undefined)
}

/** veth would otherwise hand over super-packets, and packets whose checksum nobody has computed. */
function offloadsOff(device: string): string {
  return `ethtool -K ${device} tx off rx off tso off gso off gro off >/dev/null`
}

function parametersOf(host: Host): Record<string, number> {
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

async function configureHost(prefix: string, host: Host, object: string): Promise<void> {
  const name = prefix + host.name
  const lines = ['link set lo up']
  for (const wire of wiresOf(host)) {
    const device = topology.wires[wire].interface
    for (const family of FAMILIES)
      lines.push(`addr add ${host[wire]?.[family]}/${topology.wires[wire][family].prefix} dev ${device}`)
  }
  lines.push(...virtualAddresses(host))
  // Before the links come up: a program that arrives later would miss what is already on its way.
  if (host.role === 'real-server')
    lines.push(`link set ${topology.wires.servers.interface} xdpdrv object ${object} program decap`)
  for (const wire of wiresOf(host)) lines.push(`link set ${topology.wires[wire].interface} up`)
  await must(inNamespace(name, ['sh', '-e', '-s']), {
    input: wiresOf(host)
      .map((wire) => offloadsOff(topology.wires[wire].interface))
      .join('\n'),
  })
  await ipBatch(name, lines)
  await ipBatch(name, natReturnRoutes(host, 'ipv4'), ['-4'])
  await ipBatch(name, natReturnRoutes(host, 'ipv6'), ['-6'])
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
 * What a real server sends from its own address answers a NAT connection and has to go back through
 * the director; what it sends from a virtual address goes straight to the client.
 */
function natReturnRoutes(host: Host, family: AddressFamily): string[] {
  const director = topology.hosts.find((other) => other.role === 'director')?.servers
  if (host.role !== 'real-server' || host.servers === undefined || director === undefined) return []
  const device = topology.wires.servers.interface
  return [
    `route add default via ${director[family]} dev ${device} table ${NAT_TABLE}`,
    `rule add from ${host.servers[family]} lookup ${NAT_TABLE}`,
  ]
}

/** Counts TCP and UDP on the bridges by port it came in, source address and source port. */
const ANSWER_COUNTERS = `
table bridge lab {
  set sent4 { typeof iifname . ip saddr . th sport; flags dynamic; counter; size 65535; }
  set sent6 { typeof iifname . ip6 saddr . th sport; flags dynamic; counter; size 65535; }
  chain forward {
    type filter hook forward priority 0;
    meta l4proto { tcp, udp } th sport < 32768 update @sent4 { iifname . ip saddr . th sport }
    meta l4proto { tcp, udp } th sport < 32768 update @sent6 { iifname . ip6 saddr . th sport }
  }
}
`

/** The object of `lab.bpf.c`. */
function labPrograms(): string {
  const object = fileURLToPath(new URL('../dist/lab.bpf.o', import.meta.url))
  if (!existsSync(object)) throw new Error(`${object} is missing: run "npm run build"`)
  return object
}
