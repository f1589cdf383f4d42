/**
 * Interfaces that the kernel would attach a program to, and where it would then do harm without a word:
 * what stands beside the frame (a VLAN tag) or has been made of several (GRO) XDP cannot see.
 */
import { mergesReceived, takesVlanTags } from '../../linux/device.ts'
import type { Link, Links } from '../../linux/links.ts'

export interface Switches {
  /** The interface takes VLAN tags off received frames; null where it does not say. */
  takesVlanTags(name: string): boolean | null
  /** The interface makes one packet of several that it received; null where it does not say. */
  mergesReceived(name: string): boolean | null
}

const REAL: Switches = { takesVlanTags, mergesReceived }

/** Why no program should be attached, whatever the mode, with what mends it; null if nothing speaks against it. */
export function vlanTrap(link: Link, links: Links, switches: Switches = REAL): string | null {
  const above = links.receivingFor(link.ifindex).flatMap(({ ifindex }) => links.upperOf(ifindex))
  const vlans = above.filter(({ kind }) => kind === 'vlan').map(({ name }) => name)
  if (vlans.length === 0) return null
  const taking = links.receivingFor(link.ifindex).find(({ name }) => switches.takesVlanTags(name) === true)
  if (taking === undefined) return null
  return `Cannot take packets from ${link.name}: ${taking.name} takes VLAN tags off in hardware, so that packets of ${vlans.join(', ')} look untagged to XDP and would be sent into another network; switch that off: ethtool -K ${taking.name} rxvlan off, or use --dataplane userspace, which sees the tags`
}

/**
 * In generic mode the kernel switches merging off on the interface itself, but not on those below, whose
 * super-packets would be answered as too big: uploads crawl.
 */
export function mergingTrap(link: Link, links: Links, switches: Switches = REAL): string | null {
  const merging = below(link, links).find(({ name }) => switches.mergesReceived(name) === true)
  if (merging === undefined) return null
  return `Cannot attach to ${link.name} in generic XDP mode: ${merging.name} below it makes one packet of several (GRO), too large for the next link; switch that off: ethtool -K ${merging.name} gro off lro off, or use --dataplane userspace`
}

/** Everything that frames have come through before they are this link's. */
function below(link: Link, links: Links): readonly Link[] {
  const found = new Map<number, Link>()
  const visit = (one: Link): void => {
    const lower = one.kind === 'veth' || one.lowerElsewhere ? null : links.at(one.lower)
    for (const next of [...links.slavesOf(one.ifindex), ...(lower === null ? [] : [lower])]) {
      if (next.ifindex === link.ifindex || found.has(next.ifindex)) continue
      found.set(next.ifindex, next)
      visit(next)
    }
  }
  visit(link)
  return [...found.values()]
}
