/**
 * The links of a network namespace as they stand at one moment, and what follows from how they are
 * stacked: whose frames arrive at which, and which a frame may be for. Kept up to date by `Network`.
 */
import { decodeLink, HARDWARE_ETHERNET, type Link, linkQuery } from './netlink/rtnetlink.ts'
import { RequestSocket } from './netlink/socket.ts'

/** Masters under whose address the host itself receives what arrives at their slaves. */
const SPEAKING_MASTERS: readonly string[] = ['bond', 'team', 'bridge']
/** Links cannot be stacked deeper than this (MAX_NEST_DEV). */
const DEPTH_MAX = 8

export type { Link }

export class Links {
  readonly #byIndex: ReadonlyMap<number, Link>
  readonly #byName = new Map<string, Link>()

  constructor(links: Iterable<Link>) {
    const sorted = [...links].sort((a, b) => a.ifindex - b.ifindex)
    this.#byIndex = new Map(sorted.map((link) => [link.ifindex, link]))
    for (const link of sorted) for (const name of link.otherNames) this.#byName.set(name, link)
    for (const link of sorted) this.#byName.set(link.name, link)
  }

  /** In order of ifindex. */
  all(): readonly Link[] {
    return [...this.#byIndex.values()]
  }

  at(ifindex: number): Link | null {
    return this.#byIndex.get(ifindex) ?? null
  }

  /** By its name or another that it answers to. */
  named(name: string): Link | null {
    return this.#byName.get(name) ?? null
  }

  /** What is part of a bond, team or bridge. */
  slavesOf(ifindex: number): readonly Link[] {
    return this.all().filter((link) => link.master === ifindex)
  }

  /** What is stacked on it in this namespace: VLAN devices, macvlans. A veth is beside its peer, not above. */
  upperOf(ifindex: number): readonly Link[] {
    return this.all().filter(
      (link) =>
        link.lower === ifindex && !link.lowerElsewhere && link.ifindex !== ifindex && link.kind !== 'veth',
    )
  }

  /** The other end of a veth pair, null where it is in another namespace. */
  peerOf(link: Link): Link | null {
    return link.kind === 'veth' && !link.lowerElsewhere ? this.at(link.lower) : null
  }

  /**
   * Every address under which a frame that arrives there is for this host: the link's own first, then
   * those of macvlans on top (VRRP's virtual MAC, RFC 5798 §7.3), then those of its master. A macvlan
   * that was given to another namespace is another host.
   */
  addressesOf(ifindex: number): readonly Uint8Array[] {
    const found = new Map<string, Uint8Array>()
    let link = this.at(ifindex)
    for (let depth = 0; link !== null && depth < DEPTH_MAX; depth++) {
      for (const { mac } of [link, ...this.upperOf(link.ifindex).filter(isMacvlan)]) {
        if (mac.some((byte) => byte !== 0)) found.set(Buffer.from(mac).toString('hex'), mac)
      }
      const master: Link | null = link.master === 0 ? null : this.at(link.master)
      link = master !== null && SPEAKING_MASTERS.includes(master.kind) ? master : null
    }
    return [...found.values()]
  }

  /**
   * Interfaces that frames for a link come in by as the packet program sees it: itself, and the slaves of
   * a master (since kernel 5.15 a bond's program runs in its slaves, which are `ingress_ifindex` then).
   */
  receivingFor(ifindex: number): readonly Link[] {
    const found = new Map<number, Link>()
    const visit = (link: Link | null): void => {
      if (link === null || found.has(link.ifindex)) return
      found.set(link.ifindex, link)
      if (link.kind === 'bond' || link.kind === 'team') this.slavesOf(link.ifindex).forEach(visit)
    }
    visit(this.at(ifindex))
    return [...found.values()]
  }
}

function isMacvlan(link: Link): boolean {
  return link.kind === 'macvlan' && link.up
}

/** Whether two readings of a link say the same. */
export function sameLink(a: Link, b: Link): boolean {
  return (
    a.ifindex === b.ifindex &&
    a.name === b.name &&
    a.mtu === b.mtu &&
    a.up === b.up &&
    a.carrier === b.carrier &&
    a.noArp === b.noArp &&
    a.kind === b.kind &&
    a.master === b.master &&
    a.lower === b.lower &&
    a.lowerElsewhere === b.lowerElsewhere &&
    a.otherNames.join() === b.otherNames.join() &&
    Buffer.compare(a.mac, b.mac) === 0
  )
}

/** Reads the links of the calling thread's network namespace, now. */
export function readLinks(): Links {
  const socket = new RequestSocket()
  try {
    const messages = socket.dump(linkQuery(null), 'read the interfaces')
    return new Links(messages.map(decodeLink).filter((link) => link !== null))
  } finally {
    socket.close()
  }
}

/**
 * Why packets cannot be taken from a link at all, whatever the plane, with what mends it; null if they
 * can.
 */
export function whyNotTaken(link: Link): string | null {
  const said = `Cannot take packets from ${link.name}: `
  if (link.loopback) {
    return `${said}it is the loopback interface, where clients' packets never arrive; name the one they arrive at: ip -br link`
  }
  if (link.hardware !== HARDWARE_ETHERNET) {
    const kind = link.kind === '' ? '' : ` (${link.kind})`
    return `${said}it is a layer-3 device${kind}, its packets have no Ethernet header; name an Ethernet interface: ip -br link`
  }
  if (link.mac.every((byte) => byte === 0)) {
    return `${said}it has no MAC address; give it one: ip link set dev ${link.name} address 02:00:00:00:00:01`
  }
  return null
}
