/**
 * This host's network as the kernel sees it, followed live: interfaces, addresses, routes and
 * neighbours. Reading asks the kernel itself wherever its answer is more than a table.
 */
import type { IpAddress } from '../../net/address.ts'
import { Links, sameLink } from '../links.ts'
import type { NetlinkMessage } from './message.ts'
import { type NextHop, NextHopResolver, neighbourOf } from './next-hop.ts'
import {
  addressesQuery,
  decodeAddress,
  decodeLink,
  decodeNeighbour,
  decodeRoute,
  Group,
  type Link,
  type LinkAddress,
  linkQuery,
  manageNeighbour,
  type Neighbour,
  Nud,
  neighbourQuery,
  neighboursQuery,
  RouteKind,
  Rtm,
  routeQuery,
  useNeighbour,
} from './rtnetlink.ts'
import { EventSocket, NetlinkError, RequestSocket } from './socket.ts'

/** What changed since the last notice. */
export interface NetworkChange {
  readonly links: boolean
  readonly addresses: boolean
  /** Routes, rules or forwarding. */
  readonly routes: boolean
  /** A neighbour in use has another link-layer address or is gone. */
  readonly neighbours: boolean
}

export type NetworkListener = (change: NetworkChange) => void

/** An interface with the addresses in use on it. */
export interface NetworkInterface {
  readonly name: string
  readonly ifindex: number
  /** Six bytes, or null for an interface without a link-layer address. */
  readonly mac: Uint8Array | null
  readonly mtu: number
  readonly up: boolean
  readonly addresses: readonly Pick<LinkAddress, 'address' | 'family' | 'prefixLength'>[]
}

/** Where the kernel would send a packet of ours. */
export type RouteAnswer =
  | { readonly kind: 'none' }
  | { readonly kind: 'local' }
  | {
      readonly kind: 'unicast'
      readonly ifindex: number
      readonly gateway: IpAddress | null
      /** The source address the kernel would choose. */
      readonly source: IpAddress | null
      /** Bytes of IP packet. */
      readonly mtu: number
    }

/** Marks the managed neighbour entries that are ours, also after a crash (NDA_PROTOCOL). */
const OWNER = 0x70
/** Events come in bursts: wait for silence, but not for long. */
const QUIET_MS = 20
const WAIT_MAX_MS = 200
/** Link-layer addresses remembered after their entries went away, to notice another one. */
const REMEMBERED_MAX = 65_536

const GROUPS = [
  Group.LINK,
  Group.NEIGH,
  Group.IPV4_IFADDR,
  Group.IPV6_IFADDR,
  Group.IPV4_ROUTE,
  Group.IPV6_ROUTE,
  Group.IPV4_RULE,
  Group.IPV6_RULE,
  Group.IPV4_NETCONF,
  Group.IPV6_NETCONF,
]

interface Kept {
  readonly address: IpAddress
  readonly ifindex: number
}

export class Network {
  readonly #requests = new RequestSocket()
  readonly #events: EventSocket
  readonly #resolver: NextHopResolver
  readonly #listeners = new Set<NetworkListener>()
  readonly #byIndex = new Map<number, Link>()
  #links: Links | null = null
  #addresses = new Map<string, LinkAddress>()
  /** Last usable link-layer address by neighbour. */
  readonly #macs = new Map<string, string>()
  #interfaces: readonly NetworkInterface[] | null = null
  #wanted: readonly IpAddress[] = []
  readonly #kept = new Map<string, Kept>()
  #generation = 0
  #pending: { links: boolean; addresses: boolean; routes: boolean; neighbours: boolean } | null = null
  #timer: NodeJS.Timeout | null = null
  #firstEventMs = 0

  constructor() {
    // Listen first, read then: nothing that happens in between is missed.
    this.#events = new EventSocket(
      GROUPS,
      (messages) => this.#handle(messages),
      () => this.#resync(),
    )
    this.#resolver = new NextHopResolver(this.#requests, () => this.#generation)
    this.#readAll()
    for (const entry of this.#dumpNeighbours()) {
      if (entry.managed && entry.protocol === OWNER) this.#kept.set(keyOf(entry), entry)
    }
  }

  /** In order of ifindex; the same list as long as nothing changed. */
  interfaces(): readonly NetworkInterface[] {
    this.#interfaces ??= this.links()
      .all()
      .map((link) => ({
        name: link.name,
        ifindex: link.ifindex,
        mac: link.mac.some((byte) => byte !== 0) ? link.mac : null,
        mtu: link.mtu,
        up: link.up,
        addresses: [...this.#addresses.values()].filter(
          (entry) => entry.ifindex === link.ifindex && !entry.tentative,
        ),
      }))
    return this.#interfaces
  }

  /** The same object as long as nothing changed. */
  links(): Links {
    this.#links ??= new Links(this.#byIndex.values())
    return this.#links
  }

  /** Read from the kernel now, not from what events have told so far. */
  freshLinks(): readonly Link[] {
    const messages = this.#requests.dump(linkQuery(null), 'read the interfaces')
    return messages.map(decodeLink).filter((link) => link !== null)
  }

  /** Addresses of this host that are in use, on any interface, without duplicates. */
  localAddresses(): readonly IpAddress[] {
    const addresses = new Set<IpAddress>()
    for (const entry of this.#addresses.values()) if (!entry.tentative) addresses.add(entry.address)
    return [...addresses]
  }

  isLocal(address: IpAddress): boolean {
    return this.lookup(address).kind === 'local'
  }

  /** The kernel's routing decision for a packet of this host's own. `source` must be local. */
  lookup(destination: IpAddress, source: IpAddress | null = null): RouteAnswer {
    const message = this.#requests.get(routeQuery(destination, source, 0))
    const route = message === null ? null : decodeRoute(message)
    if (route === null) return { kind: 'none' }
    if (route.kind === RouteKind.LOCAL) return { kind: 'local' }
    if (route.kind !== RouteKind.UNICAST) return { kind: 'none' }
    return {
      kind: 'unicast',
      ifindex: route.ifindex,
      gateway: route.gateway,
      source: route.preferredSource,
      mtu: route.mtu || (this.#byIndex.get(route.ifindex)?.mtu ?? 0),
    }
  }

  /** The source address for packets to `destination` (outer headers of tunnels), null without route. */
  resolveSource(destination: IpAddress): IpAddress | null {
    const answer = this.lookup(destination)
    return answer.kind === 'unicast' ? answer.source : null
  }

  /** Next hop with link-layer addresses; asks for resolution where it is missing. */
  nextHop(destination: IpAddress): NextHop {
    return this.#resolver.nextHop(destination)
  }

  neighbours(): readonly Neighbour[] {
    return this.#dumpNeighbours()
  }

  /** Calls back after changes, some milliseconds later and once for a burst. Returns the way out. */
  onChange(listener: NetworkListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * Has the kernel keep the next hops to these addresses resolved, and no longer those asked for
   * before. Entries set by hand (permanent) are left alone. Follows changes of routes by itself.
   */
  keepResolved(addresses: Iterable<IpAddress>): void {
    this.#wanted = [...new Set(addresses)]
    this.#renewKept()
  }

  /** Lets go of the sockets. Neighbours stay managed unless `keepResolved([])` came before. */
  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#listeners.clear()
    this.#events.close()
    this.#requests.close()
  }

  #readAll(): void {
    this.#byIndex.clear()
    for (const message of this.#requests.dump(linkQuery(null), 'read the interfaces')) {
      const link = decodeLink(message)
      if (link !== null) this.#byIndex.set(link.ifindex, link)
    }
    this.#addresses = new Map()
    for (const message of this.#requests.dump(addressesQuery(), 'read the addresses')) {
      const entry = decodeAddress(message)
      if (entry !== null) this.#addresses.set(keyOf(entry), entry)
    }
    for (const entry of this.#dumpNeighbours()) this.#noteNeighbour(entry)
  }

  #dumpNeighbours(): Neighbour[] {
    const messages = this.#requests.dump(neighboursQuery(), 'read the neighbours')
    return messages.map(decodeNeighbour).filter((entry) => entry !== null)
  }

  #handle(messages: readonly NetlinkMessage[]): void {
    for (const message of messages) this.#handleOne(message)
  }

  #handleOne(message: NetlinkMessage): void {
    switch (message.type) {
      case Rtm.NEWLINK:
      case Rtm.DELLINK: {
        const link = decodeLink(message)
        if (link === null) return
        const before = this.#byIndex.get(link.ifindex)
        if (message.type === Rtm.DELLINK) this.#byIndex.delete(link.ifindex)
        else this.#byIndex.set(link.ifindex, link)
        // Links announce much that does not matter here, wireless state for example.
        if (message.type === Rtm.DELLINK || before === undefined || !sameLink(before, link))
          this.#note('links')
        return
      }
      case Rtm.NEWADDR:
      case Rtm.DELADDR: {
        const entry = decodeAddress(message)
        if (entry === null) return
        if (message.type === Rtm.DELADDR) this.#addresses.delete(keyOf(entry))
        else this.#addresses.set(keyOf(entry), entry)
        this.#note('addresses')
        return
      }
      case Rtm.NEWNEIGH:
      case Rtm.DELNEIGH: {
        const entry = decodeNeighbour(message)
        if (entry === null || message.type === Rtm.DELNEIGH) return
        if (this.#noteNeighbour(entry)) this.#note('neighbours')
        return
      }
      default:
        this.#note('routes')
    }
  }

  /** Remembers a usable address; true if it takes one away that was in use. */
  #noteNeighbour(entry: Neighbour): boolean {
    const key = keyOf(entry)
    const before = this.#macs.get(key)
    if (!entry.valid || entry.mac === null) {
      // An entry that is merely being resolved anew, or was collected, keeps its address.
      return before !== undefined && (entry.state & Nud.FAILED) !== 0 && this.#macs.delete(key)
    }
    const mac = Buffer.from(entry.mac).toString('hex')
    if (before === mac) return false
    if (this.#macs.size >= REMEMBERED_MAX) this.#macs.clear()
    this.#macs.set(key, mac)
    return before !== undefined
  }

  #resync(): void {
    this.#readAll()
    for (const kind of ['links', 'addresses', 'routes', 'neighbours'] as const) this.#note(kind)
  }

  #note(kind: keyof NetworkChange): void {
    this.#generation += 1
    this.#interfaces = null
    if (kind === 'links') this.#links = null
    this.#pending ??= { links: false, addresses: false, routes: false, neighbours: false }
    this.#pending[kind] = true
    const now = performance.now()
    if (this.#timer === null) this.#firstEventMs = now
    else clearTimeout(this.#timer)
    const waitMs = Math.max(0, Math.min(QUIET_MS, this.#firstEventMs + WAIT_MAX_MS - now))
    this.#timer = setTimeout(() => this.#announce(), waitMs)
    this.#timer.unref()
  }

  #announce(): void {
    const change = this.#pending
    this.#pending = null
    this.#timer = null
    if (change === null) return
    if (change.links || change.addresses || change.routes || change.neighbours) this.#renewKept()
    for (const listener of this.#listeners) listener(change)
  }

  #renewKept(): void {
    const wanted = new Map<string, Kept>()
    for (const address of this.#wanted) {
      const hop = neighbourOf(this.#requests, address)
      if (hop === null) continue
      const link = this.#byIndex.get(hop.ifindex)
      if (link === undefined || link.noArp || link.loopback || !link.up) continue
      wanted.set(keyOf(hop), hop)
    }
    for (const [key, hop] of this.#kept) if (!wanted.has(key)) this.#release(key, hop)
    for (const [key, hop] of wanted) this.#keep(key, hop)
  }

  #entry(hop: Kept): Neighbour | null {
    const message = this.#requests.get(neighbourQuery(hop.address, hop.ifindex))
    return message === null ? null : decodeNeighbour(message)
  }

  #keep(key: string, hop: Kept): void {
    const entry = this.#entry(hop)
    if (entry?.permanent === true || (entry?.managed === true && entry.protocol === OWNER)) {
      if (entry.managed) this.#kept.set(key, hop)
      return
    }
    const action = `keep ${hop.address} resolved`
    if (this.#try(() => this.#requests.change(manageNeighbour(hop.address, hop.ifindex, OWNER), action))) {
      this.#kept.set(key, hop)
    }
  }

  #release(key: string, hop: Kept): void {
    this.#kept.delete(key)
    const entry = this.#entry(hop)
    if (entry === null || entry.permanent || !entry.managed || entry.protocol !== OWNER) return
    // Asking without the flag makes it an ordinary entry again.
    this.#try(() => this.#requests.change(useNeighbour(hop.address, hop.ifindex), `release ${hop.address}`))
  }

  /** An interface may go between two calls, and privileges may be missing: neither is fatal here. */
  #try(change: () => void): boolean {
    try {
      change()
      return true
    } catch (error) {
      if (error instanceof NetlinkError) return false
      throw error
    }
  }
}

function keyOf(entry: { readonly address: IpAddress; readonly ifindex: number }): string {
  return `${entry.ifindex} ${entry.address}`
}
