/**
 * Interfaces that the kernel would attach a program to, and where it would then do harm without a word:
 * what stands beside the frame (a VLAN tag) or has been made of several (GRO) XDP cannot see.
 */
import { type Offloads, readOffloads } from '../../linux/ethtool.ts'
import type { Link, Links } from '../../linux/links.ts'

/** What is asked of an interface by name; null where it does not say. */
export type Switches = (name: string) => Pick<Offloads, 'receiveVlan' | 'gro' | 'lro'>

export interface VlanTrap {
  readonly cause: string
  /** With what mends it. */
  readonly refusal: string
}

/** Why no XDP program should be attached, whatever the mode; null if nothing speaks against it. */
export function vlanTrap(link: Link, links: Links, switches: Switches = readOffloads): VlanTrap | null {
  const above = links.receivingFor(link.ifindex).flatMap(({ ifindex }) => links.upperOf(ifindex))
  const vlans = above.filter(({ kind }) => kind === 'vlan').map(({ name }) => name)
  if (vlans.length === 0) return null
  const taking = links.receivingFor(link.ifindex).find(({ name }) => switches(name).receiveVlan === true)
  if (taking === undefined) return null
  const cause = `${taking.name} takes VLAN tags off in hardware, so that packets of ${vlans.join(', ')} look untagged to XDP and would be sent into another network`
  return {
    cause,
    refusal: `Cannot take packets from ${link.name}: ${cause}; switch that off: ethtool -K ${taking.name} rxvlan off, or use --dataplane tc, which sees the tags`,
  }
}

/** An interface that makes one packet of several that it received, and by which switches. */
export interface Merging {
  readonly name: string
  readonly by: readonly ('gro' | 'lro')[]
}

/** They hand on what others have received: their own switches change nothing, and some cannot be changed. */
const HANDING_ON: ReadonlySet<string> = new Set([
  'bond',
  'bridge',
  'ipvlan',
  'macvlan',
  'team',
  'vlan',
  'vrf',
])

/**
 * What does so below a link. In generic mode the kernel switches merging off on the interface itself, but not
 * on those below, whose super-packets would be answered as too big: uploads crawl.
 */
export function mergingBelow(
  link: Link,
  links: Links,
  switches: Switches = readOffloads,
): readonly Merging[] {
  return below(link, links).flatMap(({ name, kind }) => {
    if (HANDING_ON.has(kind)) return []
    const offloads = switches(name)
    const by = (['gro', 'lro'] as const).filter((each) => offloads[each] === true)
    return by.length === 0 ? [] : [{ name, by }]
  })
}

/** Why generic XDP would do harm there, with what mends it; null if it would not. */
export function mergingTrap(link: Link, links: Links, switches?: Switches): string | null {
  const [merging] = mergingBelow(link, links, switches)
  if (merging === undefined) return null
  return `Cannot attach to ${link.name} in generic XDP mode: ${merging.name} below it makes one packet of several (${merging.by.join(', ').toUpperCase()}), too large for the next link; switch that off: ${mergingOff(merging)}, or use --dataplane tc`
}

/** The command that ends it. */
export function mergingOff({ name, by }: Merging): string {
  return `ethtool -K ${name} ${by.map((each) => `${each} off`).join(' ')}`
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
