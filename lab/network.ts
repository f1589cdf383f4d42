/**
 * The lab's wires: one namespace per host of the topology, and one ("net") with a bridge for each
 * wire, in which the lab also counts who sends which answers.
 */
import { labPrograms } from './built.ts'
import { must } from './command.ts'
import { linksAndAddressesOf, natReturnRoutes, offloadsOff, parametersOf, wiresOf } from './host-network.ts'
import { createNamespace, destroyNamespace, inNamespace, ipBatch, setParameters } from './namespace.ts'
import { type Host, hostNamed, topology, WIRES, type WireName } from './topology.ts'

/** The namespace that holds the two bridges. */
const NETWORK = 'net'
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
        `link set ${portName(host.name, wire)} mtu ${topology.wires[wire].mtu}`,
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

/**
 * Takes a link of a host away altogether, and makes another of the same name and addresses whose cable is not
 * plugged in yet: `plugIn` does that.
 */
export async function remakeLink(prefix: string, name: string, wire: WireName): Promise<void> {
  const host = hostNamed(name)
  const { interface: device, mtu } = topology.wires[wire]
  const port = portName(name, wire)
  await ipBatch(prefix + name, [`link del ${device}`])
  await ipBatch(null, [
    `link add name ${device} address ${host[wire]?.mac} netns ${prefix + name}` +
      ` type veth peer name ${port} netns ${prefix + NETWORK}`,
  ])
  await must(inNamespace(prefix + NETWORK, ['sh', '-e', '-c', offloadsOff(port)]))
  await ipBatch(prefix + NETWORK, [
    `link set ${port} mtu ${mtu}`,
    `link set ${port} master br-${wire}`,
    ...(host.role === 'director' ? [`link set ${port} xdpdrv object ${labPrograms()} program pass`] : []),
  ])
  await must(inNamespace(prefix + name, ['sh', '-e', '-c', offloadsOff(device)]))
  const own = linksAndAddressesOf(host).filter((words) => words.split(' ').includes(device))
  await ipBatch(prefix + name, [...own, `link set ${device} up`])
}

export async function plugIn(prefix: string, name: string, wire: WireName): Promise<void> {
  await ipBatch(prefix + NETWORK, [`link set ${portName(name, wire)} up`])
}

export async function destroyNetwork(prefix: string): Promise<void> {
  // The hosts first: their processes may still be talking to each other.
  for (const name of namespaceNames(prefix)) await destroyNamespace(name)
}

async function configureHost(prefix: string, host: Host, object: string): Promise<void> {
  const name = prefix + host.name
  const devices = wiresOf(host).map((wire) => topology.wires[wire].interface)
  await must(inNamespace(name, ['sh', '-e', '-s']), { input: devices.map(offloadsOff).join('\n') })
  await ipBatch(name, [
    'link set lo up',
    ...linksAndAddressesOf(host),
    // Before the links come up: a program that arrives later would miss what is already on its way.
    ...(host.role === 'real-server'
      ? [`link set ${topology.wires.servers.interface} xdpdrv object ${object} program decap`]
      : []),
    ...devices.map((device) => `link set ${device} up`),
  ])
  await ipBatch(name, natReturnRoutes(host, 'ipv4'), ['-4'])
  await ipBatch(name, natReturnRoutes(host, 'ipv6'), ['-6'])
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
