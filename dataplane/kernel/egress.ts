/**
 * What interfaces can do with frames that the packet program hands to them: known before it counts one as
 * forwarded. The kernel takes a redirected frame for any interface and drops it later without a word where the
 * driver has no transmit function for XDP.
 */
import { driverOf } from '../../linux/device.ts'
import { readOffloads } from '../../linux/ethtool.ts'
import type { Links } from '../../linux/links.ts'
import { readXdpFeatures, XdpFeature, type XdpFeatures } from '../../linux/netlink/netdev.ts'
import { HARDWARE_ETHERNET, type Link } from '../../linux/netlink/rtnetlink.ts'
import { EgressFlag } from '../layout/layout.gen.ts'
import { queryXdp, type XdpMode } from './xdp.ts'

/** What the answer hangs on besides the link itself. */
export interface EgressFacts {
  /** `XdpFeature` bits as the kernel tells them, null before Linux 6.3. */
  readonly features: number | null
  readonly driver: string
  /** How our program is attached, null where it is not. */
  readonly attached: XdpMode | null
  /** Traffic control beside our program sends what that cannot. */
  readonly relayed: boolean
  /** veth: the other end runs NAPI (GRO or a program) and so takes frames; null while it cannot be seen. */
  readonly peerWakes: boolean | null
}

/** Kinds of link without a transmit function for XDP in any kernel (ndo_xdp_xmit). */
const NEVER: ReadonlySet<string> = new Set([
  ...['bridge', 'vlan', 'macvlan', 'macvtap', 'ipvlan', 'ipvtap', 'team', 'vrf', 'dummy', 'ifb', 'macsec'],
  ...['vxlan', 'geneve', 'gretap', 'ip6gretap', 'erspan', 'ip6erspan', 'hsr', 'batadv', 'nlmon'],
])
/** Drivers whose transmit queues for XDP exist only while a program is attached. */
const WHILE_ATTACHED: ReadonlySet<string> = new Set(['virtio_net', 'i40e', 'ice', 'ixgbe', 'mlx5_core'])

/** `EgressFlag` bits of one interface. */
export function egressFlags(link: Link, facts: EgressFacts): number {
  if (link.loopback) return 0
  let flags = 0
  if (link.hardware !== HARDWARE_ETHERNET) flags |= EgressFlag.NoEthernet
  if (!takesRedirected(link, facts)) flags |= EgressFlag.NoRedirect
  // veth_xdp_flush looks for a program at the other end before it wakes it up, redirecting looks for NAPI.
  if (link.kind === 'veth') flags |= EgressFlag.NoTurn
  if (facts.attached === 'generic') flags |= EgressFlag.Generic
  if (facts.relayed) flags |= EgressFlag.Relay
  return flags
}

function takesRedirected(link: Link, { features, driver, attached, peerWakes }: EgressFacts): boolean {
  if (features !== null) return (features & XdpFeature.TRANSMIT) !== 0
  if (NEVER.has(link.kind)) return false
  if (link.kind === 'veth') return peerWakes !== false
  return !WHILE_ATTACHED.has(driver) || attached === 'native'
}

/**
 * Flags of all interfaces that may be a way out, by ifindex. `attached`: how our program runs, by ifindex; `relayed`:
 * beside which of them traffic control sends.
 */
export function readEgress(
  links: Links,
  attached: ReadonlyMap<number, XdpMode>,
  relayed: ReadonlySet<number>,
  known: XdpFeatures = readXdpFeatures(),
): Map<number, number> {
  const flags = new Map<number, number>()
  for (const link of links.all()) {
    const mode = attached.get(link.ifindex) ?? null
    // No route leads out by a part of a bond or bridge.
    if (link.master !== 0 && mode === null && links.at(link.master)?.kind !== 'vrf') continue
    // An interface that came between the two readings: it announces itself, and we come again.
    const features = known === null ? null : (known.get(link.ifindex) ?? null)
    flags.set(
      link.ifindex,
      egressFlags(link, {
        features,
        driver: features === null && link.kind === '' ? driverOf(link.name) : '',
        attached: mode,
        relayed: relayed.has(link.ifindex),
        peerWakes: features === null ? peerWakes(links, link) : null,
      }),
    )
  }
  return flags
}

function peerWakes(links: Links, link: Link): boolean | null {
  const peer = links.peerOf(link)
  if (peer === null) return null
  return readOffloads(peer.name).gro === true || queryXdp(peer.ifindex).mode === 'native'
}
