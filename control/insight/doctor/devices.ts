/** What the doctor must know of interfaces: asked of the kernel, in this thread’s network namespace. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { knownAddresses } from '../../../dataplane/interface-table.ts'
import { readEgress } from '../../../dataplane/kernel/egress.ts'
import { readPinnedMap } from '../../../dataplane/kernel/pinned-map.ts'
import { mergingBelow } from '../../../dataplane/kernel/traps.ts'
import { queryXdp, type XdpMode } from '../../../dataplane/kernel/xdp.ts'
import { EgressFlag } from '../../../dataplane/layout/layout.gen.ts'
import { driverOf } from '../../../linux/device.ts'
import { type Offloads, readOffloads } from '../../../linux/ethtool.ts'
import { type Link, type Links, readLinks } from '../../../linux/links.ts'
import { inNetns } from '../../../linux/netns.ts'
import type { Status } from '../status.ts'
import type { InterfaceFacts, NeighbourDevice, ServerFacts, WayOut } from './facts.ts'

const UNKNOWN: Offloads = {
  receiveChecksum: null,
  transmitChecksum: null,
  gro: null,
  lro: null,
  segmentation: null,
  receiveVlan: null,
}
/** Where `ip netns` keeps the namespaces that have names. */
const NAMED = '/run/netns'

/** The answer, or `otherwise` where the system does not let one look. */
export function attempt<T>(action: () => T, otherwise: T): T {
  try {
    return action()
  } catch {
    return otherwise
  }
}

/** A switch below /proc/sys/net; null where it cannot be read. */
export function isOn(path: string): boolean | null {
  return attempt(() => readFileSync(`/proc/sys/net/${path}`, 'utf8').trim() !== '0', null)
}

function neighbour(link: Link, namespace: string | null): NeighbourDevice {
  return {
    name: link.name,
    namespace,
    offloads: attempt(() => readOffloads(link.name), UNKNOWN),
    hasXdp: attempt(() => queryXdp(link.ifindex).programId !== 0, false),
  }
}

const shownLinks = z.array(z.object({ link_netnsid: z.int().optional() }))
const namespaceIds = z.array(z.object({ nsid: z.int(), name: z.string().optional() }))

/** What iproute2 says in JSON; null where it does not. */
function iproute<T>(words: readonly string[], schema: z.ZodType<T>): T | null {
  const { status, stdout } = spawnSync('ip', ['-json', ...words], { encoding: 'utf8' })
  const parsed = status === 0 ? schema.safeParse(attempt(() => JSON.parse(stdout), null)) : null
  return parsed?.success ? parsed.data : null
}

/** Name of the namespace that the kernel says the other end of a link is in; null where it has none. */
function namespaceBelow(link: Link): string | null {
  const nsid = iproute(['link', 'show', 'dev', link.name], shownLinks)?.[0]?.link_netnsid
  const named = iproute(['netns', 'list-id'], namespaceIds)?.find((one) => one.nsid === nsid)
  return nsid === undefined ? null : (named?.name ?? null)
}

/** The other end of a veth pair, here or in a namespace that has a name. */
function peerOf(link: Link, links: Links): NeighbourDevice | null {
  if (link.kind !== 'veth') return null
  const here = links.peerOf(link)
  if (here !== null) return neighbour(here, null)
  const namespace = link.lowerElsewhere ? namespaceBelow(link) : null
  if (namespace === null) return null
  return attempt(
    () =>
      inNetns(`${NAMED}/${namespace}`, () => {
        const other = readLinks().at(link.lower)
        return other?.kind === 'veth' && other.lower === link.ifindex ? neighbour(other, namespace) : null
      }),
    null,
  )
}

/** What received packets pass before they come to a stacked device. */
function belowOf(link: Link, links: Links): string[] {
  if (link.kind === 'veth') return []
  const lower = link.lower !== 0 && !link.lowerElsewhere ? links.at(link.lower) : null
  const members = links.slavesOf(link.ifindex).filter(() => link.kind !== 'vrf')
  return [...(lower === null ? [] : [lower]), ...members].map(({ name }) => name)
}

function text(mac: Uint8Array): string {
  return Buffer.from(mac)
    .toString('hex')
    .replace(/..(?!$)/g, '$&:')
}

const pinnedMap = (name: 'interfaces' | 'macs') => attempt(() => readPinnedMap(name), null)

/** Addresses of the host that frames there may be for, and that the program's table does not have. */
function unknownMacs(link: Link, links: Links): string[] {
  const [interfaces, macs] = [pinnedMap('interfaces'), pinnedMap('macs')]
  if (interfaces === null || macs === null) return []
  const known = knownAddresses({ map: (name) => (name === 'macs' ? macs : interfaces) }, link.ifindex)
  // A bond's program runs in its members, whose records it looks at.
  if (known === null) return []
  const have = new Set(known.map(text))
  return links
    .addressesOf(link.ifindex)
    .map(text)
    .filter((mac) => !have.has(mac))
}

/** With arp_ignore 0 a device answers for any address of the host (Linux: Documentation/networking/ip-sysctl.rst). */
function answersBelow(
  link: Link,
  links: Links,
  taken: readonly { readonly ifindex: number }[],
): string | null {
  if (link.kind !== 'macvlan' || link.lower === 0 || link.lowerElsewhere) return null
  const lower = links.at(link.lower)
  if (lower === null || taken.some(({ ifindex }) => ifindex === lower.ifindex)) return null
  const ignores = ['all', lower.name].some((name) => isOn(`ipv4/conf/${name}/arp_ignore`) !== false)
  return ignores ? null : lower.name
}

export function interfaceFacts(status: Status, links: Links): InterfaceFacts[] {
  const { kind: plane, interfaces, program } = status.dataplane
  return interfaces.map(({ name, ifindex, mode, note }) => {
    const link = links.named(name)
    return {
      name,
      driver: attempt(() => driverOf(name), ''),
      kind: link?.kind ?? '',
      up: link?.up ?? false,
      mtu: link?.mtu ?? 0,
      mode,
      note: note ?? null,
      offloads: attempt(() => readOffloads(name), UNKNOWN),
      peer: link === null ? null : peerOf(link, links),
      below: link === null ? [] : belowOf(link, links),
      mergingBelow: link === null ? [] : attempt(() => mergingBelow(link, links), []),
      answersBelow: link === null ? null : answersBelow(link, links, interfaces),
      vlans: link === null ? [] : vlansOn(link, links),
      hasProgram:
        plane !== 'xdp' || mode === 'tc' || program === null || program.id === null
          ? null
          : attempt(() => queryXdp(ifindex).programId === program.id, null),
      unknownMacs: (plane !== 'xdp' && plane !== 'tc') || link === null ? [] : unknownMacs(link, links),
      forwarding: {
        ipv4: isOn(`ipv4/conf/${name}/forwarding`),
        ipv6: isOn(`ipv6/conf/${name}/forwarding`),
      },
    }
  })
}

function vlansOn(link: Link, links: Links): string[] {
  return links
    .upperOf(link.ifindex)
    .filter(({ kind }) => kind === 'vlan')
    .map(({ name }) => name)
}

/** Interfaces that packets leave by, and what they take. */
export function waysOut(
  status: Status,
  links: Links,
  servers: readonly ServerFacts[],
  defaults: { readonly ipv4: string | null; readonly ipv6: string | null },
): WayOut[] {
  const families = new Map<string, Set<'ipv4' | 'ipv6'>>()
  const note = (name: string | null, family: 'ipv4' | 'ipv6'): void => {
    if (name !== null) families.set(name, (families.get(name) ?? new Set()).add(family))
  }
  for (const { wayOut, address } of servers) note(wayOut, address.includes(':') ? 'ipv6' : 'ipv4')
  note(defaults.ipv4, 'ipv4')
  note(defaults.ipv6, 'ipv6')
  const { interfaces } = status.dataplane
  const modes = new Map(
    interfaces.flatMap(({ ifindex, mode }) => (mode === 'tc' ? [] : [[ifindex, mode as XdpMode] as const])),
  )
  const flags = attempt(() => readEgress(links, modes, new Set()), new Map<number, number>())
  // What comes in where the program is generic can leave anywhere, as long as it is Ethernet.
  const generic = interfaces.length > 0 && interfaces.every(({ mode }) => mode === 'generic' || mode === 'tc')
  const anywhere = interfaces.length > 0 && interfaces.every(({ mode, relayed }) => relayed || mode === 'tc')
  return [...families].flatMap(([name, used]): WayOut[] => {
    const link = links.named(name)
    if (link === null) return []
    const flag = flags.get(link.ifindex) ?? 0
    let limit: WayOut['limit'] = null
    if (anywhere) limit = null
    else if ((flag & EgressFlag.NoEthernet) !== 0) limit = 'no Ethernet'
    else if ((flag & EgressFlag.NoRedirect) !== 0 && !generic) limit = 'takes no frames'
    return [
      {
        name,
        kind: link.kind,
        families: [...used],
        towardsClients: name === defaults.ipv4 || name === defaults.ipv6,
        limit,
        peer: peerOf(link, links),
      },
    ]
  })
}
