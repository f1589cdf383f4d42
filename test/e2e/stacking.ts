/** Devices on top of the director's links of the lab, which XDP can neither see nor send to. */
import type { Lab } from '../../lab/lab.ts'
import { ipBatch, setParameters } from '../../lab/namespace.ts'
import { hostNamed, METHODS, topology, type WireName } from '../../lab/topology.ts'

export const STACKS = ['bridge', 'macvlan'] as const
export type Stack = (typeof STACKS)[number]

/** What the director's own link of the wire is called meanwhile. */
const BELOW = 'below'
const BELOW_MAC = '02:00:00:00:0b:e1'

/**
 * The director's link of a wire gets something on top, by the name and with the addresses that it had. Those it gets
 * when it is `taken`: until then the stack would answer for them.
 */
export async function stackOnWire(
  lab: Lab,
  wire: WireName,
  kind: Stack,
  taken: () => Promise<void> = async () => {},
): Promise<void> {
  const { namespace } = lab.director
  const { interface: device, mtu } = topology.wires[wire]
  const { mac } = hostNamed('director')[wire]!
  // The interface below has none of the addresses, and answers for none.
  await setParameters(namespace, { 'ipv4/conf/all/arp_ignore': 1 })
  await ipBatch(namespace, [
    `addr flush dev ${device}`,
    `link set ${device} down`,
    `link set ${device} name ${BELOW} address ${BELOW_MAC}`,
    ...(kind === 'bridge'
      ? [
          `link add ${device} address ${mac} mtu ${mtu} type bridge forward_delay 0 mcast_snooping 0`,
          `link set ${BELOW} master ${device}`,
        ]
      : [`link add ${device} link ${BELOW} address ${mac} mtu ${mtu} type macvlan mode private`]),
    `link set ${BELOW} up`,
    `link set ${device} up`,
  ])
  await taken()
  await ipBatch(namespace, addresses(wire))
}

/** The link is itself again. */
export async function unstackWire(lab: Lab, wire: WireName, taken: () => Promise<void>): Promise<void> {
  const { interface: device } = topology.wires[wire]
  const { mac } = hostNamed('director')[wire]!
  await ipBatch(lab.director.namespace, [
    `link del ${device}`,
    `link set ${BELOW} down`,
    `link set ${BELOW} name ${device} address ${mac}`,
    `link set ${device} up`,
  ])
  await taken()
  await ipBatch(lab.director.namespace, addresses(wire))
}

function addresses(wire: WireName): string[] {
  const { interface: device, ipv4, ipv6 } = topology.wires[wire]
  const own = hostNamed('director')[wire]!
  const virtual = wire === 'clients' ? METHODS.map((method) => topology.virtual[method]) : []
  return [
    `addr add ${own.ipv4}/${ipv4.prefix} dev ${device}`,
    `addr add ${own.ipv6}/${ipv6.prefix} dev ${device} nodad`,
    ...virtual.flatMap((address) => [
      `addr add ${address.ipv4}/32 dev ${device}`,
      `addr add ${address.ipv6}/128 dev ${device} nodad preferred_lft 0`,
    ]),
  ]
}
