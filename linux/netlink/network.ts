/**
 * This host's network as the kernel sees it, followed live: interfaces, addresses, routes and
 * neighbours. Read as a whole once, when it is opened, and that waits for the kernel; from then on every
 * fact has its event and is compared now and then, and nobody waits: what the kernel has not answered yet
 * is asked again.
 */
import { type IpAddress, isIpv6LinkLocal } from '../../net/address.ts'
import { Links, sameLink } from '../links.ts'
import { type Hop, hopKey, KeptNeighbours } from './kept-neighbours.ts'
import type { NetlinkMessage } from './message.ts'
import { type NextHop, NextHopResolver } from './next-hop.ts'
import { QuestionSocket, type Questions } from './questions.ts'
import {
  addressesQuery,
  decodeAddress,
  decodeLink,
  decodeNeighbour,
  decodeNetConf,
  decodePrefix,
  decodeRoute,
  Group,
  type Link,
  type LinkAddress,
  linkQuery,
  type Neighbour,
  Nud,
  neighbourQuery,
  neighboursQuery,
  Rtm,
  routeQuery,
  useNeighbour,
} from './rtnetlink.ts'
import { EventSocket, RequestSocket } from './socket.ts'
import { type Way, Ways, wayOfRoute } from './ways.ts'

/** What changed since the last notice. */
export interface NetworkChange {
  readonly links: boolean
  readonly addresses: boolean
  /** Routes, rules or forwarding. */
  readonly routes: boolean
  /** A neighbour in use has another link-layer address or is gone. */
  readonly neighbours: boolean
  /**
   * Whose next hops may be others now: `kept`, among them those of addresses that are kept resolved, or
   * anybody's; `others`, those of other addresses at most; `none`.
   */
  readonly nextHops: 'kept' | 'others' | 'none'
  /** Addresses that are kept resolved and have another way, source address included. */
  readonly ways: ReadonlySet<IpAddress>
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

export type RouteAnswer = Way

/** Events come in bursts: wait for silence, but not for long. */
const QUIET_MS = 20
const WAIT_MAX_MS = 200
/** Link-layer addresses remembered after their entries went away, to notice another one. */
const REMEMBERED_MAX = 65_536
/** So often what is known is compared with the kernel without any event. */
const COMPARE_MS = 10_000
/** Neighbours, of which there may be many, every so many times. */
const NEIGHBOURS_EVERY = 6
/** Ways looked at again at every comparison, by turns. */
const WAYS_AT_ONCE = 500
/** What the kernel has not answered is asked again after this. */
const RETRY_MS = 1000

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

export interface NetworkOptions {
  /** Who is asked once everything has been read. */
  readonly questions?: Questions
  readonly compareMs?: number
}

interface Pending {
  links: boolean
  addresses: boolean
  routes: boolean
  neighbours: boolean
  nextHops: NetworkChange['nextHops']
}

export class Network {
  readonly #requests = new RequestSocket()
  readonly #questions: Questions
  readonly #events: EventSocket
  readonly #resolver: NextHopResolver
  readonly #ways: Ways
  readonly #kept: KeptNeighbours
  readonly #listeners = new Set<NetworkListener>()
  readonly #comparing: NodeJS.Timeout
  #byIndex = new Map<number, Link>()
  #links: Links | null = null
  #addresses = new Map<string, LinkAddress>()
  /** Last usable link-layer address by neighbour. */
  readonly #macs = new Map<string, string>()
  #interfaces: readonly NetworkInterface[] | null = null
  /** Interfaces that are not what they were when the ways were asked. */
  readonly #changedLinks = new Set<number>()
  /** Routes may lead out by one of them. */
  #routable = false
  #generation = 0
  /** Links and neighbours by which addresses were reached are others. */
  #hopsChanged = 0
  #pending: Pending | null = null
  #timer: NodeJS.Timeout | null = null
  #firstEventMs = 0
  /** Events while everything is being read again: what was read may be older. */
  #meanwhile: NetlinkMessage[] | null = null
  #reading = false
  #readAgain: { readonly neighbours: boolean } | null = null
  #comparisons = 0
  #renewing = false
  #renewAgain = false
  #renewTimer: NodeJS.Timeout | null = null
  #keepWanted = false
  #closed = false

  constructor(options: NetworkOptions = {}) {
    this.#questions = options.questions ?? new QuestionSocket()
    this.#ways = new Ways(this.#questions)
    this.#kept = new KeptNeighbours(this.#questions)
    // Listen first, read then: nothing that happens in between is missed.
    this.#events = new EventSocket(
      GROUPS,
      (messages) => this.#handle(messages),
      () => this.#lostEvents(),
    )
    this.#resolver = new NextHopResolver(this.#requests, () => this.#generation)
    for (const message of this.#requests.dump(linkQuery(null), 'read the interfaces')) {
      const link = decodeLink(message)
      if (link !== null) this.#byIndex.set(link.ifindex, link)
    }
    for (const message of this.#requests.dump(addressesQuery(), 'read the addresses')) {
      const entry = decodeAddress(message)
      if (entry !== null) this.#addresses.set(keyOf(entry), entry)
    }
    for (const entry of this.neighbours()) {
      this.#noteNeighbour(entry)
      this.#kept.saw(entry, false)
    }
    this.#comparing = setInterval(() => this.#compare(), options.compareMs ?? COMPARE_MS).unref()
  }

  /** In order of ifindex; the same list as long as nothing changed. */
  interfaces(): readonly NetworkInterface[] {
    if (this.#interfaces !== null) return this.#interfaces
    const byLink = new Map<number, LinkAddress[]>()
    for (const entry of this.#addresses.values()) {
      if (entry.tentative) continue
      const known = byLink.get(entry.ifindex)
      if (known === undefined) byLink.set(entry.ifindex, [entry])
      else known.push(entry)
    }
    this.#interfaces = this.links()
      .all()
      .map((link) => ({
        name: link.name,
        ifindex: link.ifindex,
        mac: link.mac.some((byte) => byte !== 0) ? link.mac : null,
        mtu: link.mtu,
        up: link.up,
        addresses: byLink.get(link.ifindex) ?? [],
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

  /**
   * The kernel's routing decision for a packet of this host's own, asked now: for routes it takes no lock.
   * `source` must be local.
   */
  lookup(destination: IpAddress, source: IpAddress | null = null): Way {
    const message = this.#requests.get(routeQuery(destination, source, 0))
    return wayOfRoute(message === null ? null : decodeRoute(message))
  }

  /** The source address for packets to `destination` (outer headers of tunnels), null without route. */
  resolveSource(destination: IpAddress): IpAddress | null {
    let way = this.#ways.to(destination)
    if (way === undefined) {
      way = this.lookup(destination)
      this.#ways.learn(destination, way)
    }
    return way.kind === 'unicast' ? way.source : null
  }

  /** Another number whenever `hopTo` may have another answer for an address for which it had one. */
  get hopGeneration(): number {
    return this.#hopsChanged + this.#ways.changes
  }

  /** For which addresses `hopTo` may have an answer now and had none when this was asked; null: for any. */
  takeHopsLearnt(): ReadonlySet<IpAddress> | null {
    return this.#ways.takeLearnt()
  }

  /** Next hop of an address that is kept resolved, from memory; null while it is not known. */
  hopTo(destination: IpAddress): (NextHop & { readonly result: 'ok' }) | null {
    const way = this.#ways.to(destination)
    if (way?.kind !== 'unicast') return null
    const link = this.#byIndex.get(way.ifindex)
    if (link === undefined || !link.up) return null
    const mac = this.#macs.get(keyOf({ address: way.gateway ?? destination, ifindex: way.ifindex }))
    if (mac === undefined && !link.noArp) return null
    const dmac = mac === undefined ? new Uint8Array(6) : Uint8Array.from(Buffer.from(mac, 'hex'))
    return { result: 'ok', ifindex: link.ifindex, smac: link.mac, dmac, mtu: way.mtu || link.mtu }
  }

  /** Next hop with link-layer addresses; asks for resolution where it is missing. */
  nextHop(destination: IpAddress): NextHop {
    return this.#resolver.nextHop(destination)
  }

  /** Asks for resolution of the next hop to an address where it is missing; nobody waits for it. */
  async resolve(destination: IpAddress): Promise<void> {
    const [route] = await this.#questions.ask([routeQuery(destination, null, 0)])
    const way = route?.kind === 'message' ? wayOfRoute(decodeRoute(route.message)) : null
    if (way?.kind !== 'unicast') return
    const hop = { address: way.gateway ?? destination, ifindex: way.ifindex }
    const [entry] = await this.#questions.ask([neighbourQuery(hop.address, hop.ifindex)])
    if (entry === undefined || entry === null) return
    const known = entry.kind === 'message' ? decodeNeighbour(entry.message) : null
    // Asking would end the permanence of an entry that somebody set by hand.
    if (known?.permanent === true || (known?.valid === true && (known.state & Nud.STALE) === 0)) return
    await this.#questions.change([useNeighbour(hop.address, hop.ifindex)])
  }

  neighbours(): readonly Neighbour[] {
    const messages = this.#requests.dump(neighboursQuery(), 'read the neighbours')
    return messages.map(decodeNeighbour).filter((entry) => entry !== null)
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
    this.#ways.want(addresses)
    this.#keepWanted = true
    this.#renewSoon(0)
  }

  /** The same for some more addresses, and no longer for others. */
  keepAlso(added: Iterable<IpAddress>, dropped: Iterable<IpAddress>): void {
    this.#ways.wantAlso(added, dropped)
    this.#keepWanted = true
    this.#renewSoon(0)
  }

  /** Next hops that the kernel keeps resolved for us. */
  get neighboursKept(): number {
    return this.#kept.size
  }

  /** Lets go of the sockets. Neighbours stay managed unless `keepResolved([])` came before. */
  close(): void {
    this.#closed = true
    for (const timer of [this.#timer, this.#renewTimer]) if (timer !== null) clearTimeout(timer)
    clearInterval(this.#comparing)
    this.#timer = null
    this.#listeners.clear()
    this.#events.close()
    this.#questions.close()
    this.#requests.close()
  }

  #handle(messages: readonly NetlinkMessage[]): void {
    this.#meanwhile?.push(...messages)
    for (const message of messages) this.#handleOne(message)
  }

  #handleOne(message: NetlinkMessage): void {
    switch (message.type) {
      case Rtm.NEWLINK:
      case Rtm.DELLINK: {
        const link = decodeLink(message)
        if (link !== null) this.#setLink(link, message.type === Rtm.DELLINK)
        return
      }
      case Rtm.NEWADDR:
      case Rtm.DELADDR: {
        const entry = decodeAddress(message)
        if (entry !== null) this.#setAddress(entry, message.type === Rtm.DELADDR)
        return
      }
      case Rtm.NEWNEIGH:
      case Rtm.DELNEIGH: {
        const entry = decodeNeighbour(message)
        if (entry === null) return
        const gone = message.type === Rtm.DELNEIGH
        if (this.#kept.saw(entry, gone)) this.#keepAgain()
        if (!gone && this.#noteNeighbour(entry)) this.#note('neighbours', 'kept')
        return
      }
      case Rtm.NEWROUTE:
      case Rtm.DELROUTE: {
        const prefix = decodePrefix(message)
        if (prefix === null) return
        const kept = this.#ways.prefixChanged(prefix) || prefix.length === 0
        this.#note('routes', kept ? 'kept' : 'others')
        return
      }
      case Rtm.NEWNETCONF:
      case Rtm.DELNETCONF: {
        const conf = decodeNetConf(message)
        const concerns = conf !== null && (conf.ifindex < 0 || this.#isInUse(conf.ifindex))
        this.#note('routes', concerns ? 'kept' : 'others')
        return
      }
      default:
        this.#ways.anythingChanged()
        this.#note('routes', 'kept')
    }
  }

  #setLink(link: Link, gone: boolean): void {
    const before = this.#byIndex.get(link.ifindex)
    if (gone) this.#byIndex.delete(link.ifindex)
    else this.#byIndex.set(link.ifindex, link)
    // Links announce much that does not matter here, wireless state for example.
    if (!gone && before !== undefined && sameLink(before, link)) return
    const concerns = this.#isInUse(link.ifindex)
    this.#hopsChanged += 1
    this.#changedLinks.add(link.ifindex)
    this.#routable ||= concerns
    this.#note('links', concerns ? 'kept' : 'others')
    // Until the program knows it, frames to another MAC address go to the stack, which resets connections.
    if (!gone && before !== undefined && Buffer.compare(before.mac, link.mac) !== 0) this.#announceIn(0)
  }

  #setAddress(entry: LinkAddress, gone: boolean): void {
    if (gone) this.#addresses.delete(keyOf(entry))
    else this.#addresses.set(keyOf(entry), entry)
    // Every link has one of these, and no route prefers it as a source.
    const concerns = !isIpv6LinkLocal(entry.address)
    if (concerns) {
      this.#changedLinks.add(entry.ifindex)
      this.#routable = true
    }
    this.#note('addresses', concerns ? 'kept' : 'others')
  }

  /** Whether an interface has addresses that others know of: without them no route of ours leads there. */
  #isInUse(ifindex: number): boolean {
    for (const entry of this.#addresses.values()) {
      if (entry.ifindex === ifindex && !isIpv6LinkLocal(entry.address)) return true
    }
    return false
  }

  /** Remembers a usable address; true if it takes one away that was in use. */
  #noteNeighbour(entry: Neighbour): boolean {
    const key = keyOf(entry)
    const before = this.#macs.get(key)
    if (!entry.valid || entry.mac === null) {
      // An entry that is merely being resolved anew, or was collected, keeps its address.
      const lost = before !== undefined && (entry.state & Nud.FAILED) !== 0
      if (lost) {
        this.#macs.delete(key)
        this.#hopsChanged += 1
      }
      return lost
    }
    const mac = Buffer.from(entry.mac).toString('hex')
    if (before === mac) return false
    if (before === undefined) this.#ways.neighbourLearnt(entry)
    else this.#hopsChanged += 1
    if (before === undefined && this.#macs.size >= REMEMBERED_MAX) {
      for (const oldest of this.#macs.keys()) {
        this.#macs.delete(oldest)
        break
      }
    }
    this.#macs.set(key, mac)
    return before !== undefined
  }

  #lostEvents(): void {
    this.#ways.anythingChanged()
    for (const kind of ['links', 'addresses', 'routes', 'neighbours'] as const) this.#note(kind, 'kept')
    void this.#read(true)
  }

  #compare(): void {
    this.#comparisons += 1
    this.#ways.reconsider(WAYS_AT_ONCE)
    if (this.#ways.isOpen) this.#renewSoon(0)
    void this.#read(this.#comparisons % NEIGHBOURS_EVERY === 0)
  }

  /** Reads tables again and takes over what differs; one reading at a time. */
  async #read(neighbours: boolean): Promise<void> {
    if (this.#reading) {
      this.#readAgain = { neighbours: neighbours || this.#readAgain?.neighbours === true }
      return
    }
    this.#reading = true
    const whole = await this.#readTables(neighbours)
    this.#reading = false
    this.#meanwhile = null
    const again = this.#readAgain
    this.#readAgain = null
    if (this.#closed) return
    if (again !== null) void this.#read(again.neighbours || (neighbours && !whole))
    else if (!whole) setTimeout(() => void this.#read(neighbours), RETRY_MS).unref()
  }

  async #readTables(neighbours: boolean): Promise<boolean> {
    this.#meanwhile = []
    const links = new Map<number, Link>()
    const addresses = new Map<string, LinkAddress>()
    const whole =
      (await this.#questions.dump(linkQuery(null), (piece) => {
        for (const link of piece.map(decodeLink)) if (link !== null) links.set(link.ifindex, link)
      })) &&
      (await this.#questions.dump(addressesQuery(), (piece) => {
        for (const entry of piece.map(decodeAddress)) if (entry !== null) addresses.set(keyOf(entry), entry)
      }))
    if (!whole || this.#closed) return whole
    // The kernel keeps the order: an event that is not here yet is newer than what was read.
    this.#events.drain()
    const since = this.#meanwhile ?? []
    for (const link of [...this.#byIndex.values()]) if (!links.has(link.ifindex)) this.#setLink(link, true)
    for (const link of links.values()) this.#setLink(link, false)
    for (const [key, entry] of this.#addresses) if (!addresses.has(key)) this.#setAddress(entry, true)
    for (const [key, entry] of addresses) {
      if (!sameAddress(this.#addresses.get(key), entry)) this.#setAddress(entry, false)
    }
    this.#meanwhile = null
    for (const message of since) this.#handleOne(message)
    return neighbours ? await this.#readNeighbours() : true
  }

  async #readNeighbours(): Promise<boolean> {
    let lost = false
    const missing = this.#kept.keys
    const whole = await this.#questions.dump(neighboursQuery(), (piece) => {
      for (const entry of piece.map(decodeNeighbour)) {
        if (entry === null) continue
        missing.delete(hopKey(entry))
        if (this.#kept.saw(entry, false)) lost = true
        if (this.#noteNeighbour(entry)) this.#note('neighbours', 'kept')
      }
    })
    if (whole && this.#kept.notRead(missing)) lost = true
    if (lost) this.#keepAgain()
    return whole
  }

  #note(kind: 'links' | 'addresses' | 'routes' | 'neighbours', nextHops: NetworkChange['nextHops']): void {
    this.#generation += 1
    if (kind !== 'routes') this.#interfaces = null
    if (kind === 'links') this.#links = null
    this.#pending ??= { links: false, addresses: false, routes: false, neighbours: false, nextHops: 'none' }
    this.#pending[kind] = true
    if (this.#pending.nextHops !== 'kept' && nextHops !== 'none') this.#pending.nextHops = nextHops
    const now = performance.now()
    if (this.#timer === null) {
      this.#firstEventMs = now
      this.#announceIn(QUIET_MS)
    } else if (now - this.#firstEventMs < WAIT_MAX_MS - QUIET_MS) this.#timer.refresh()
  }

  #announceIn(ms: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#announce(), ms)
    this.#timer.unref()
  }

  #announce(): void {
    const change = this.#pending
    this.#pending = null
    this.#timer = null
    if (change === null || this.#closed) return
    // Once for all: a thousand addresses may have come at once.
    if (this.#ways.interfacesChanged(this.#changedLinks, this.#routable)) change.nextHops = 'kept'
    this.#changedLinks.clear()
    this.#routable = false
    if (this.#ways.isOpen || (change.links && change.nextHops === 'kept')) this.#keepAgain()
    this.#tell({ ...change, ways: NOBODY })
  }

  #tell(change: NetworkChange): void {
    for (const listener of this.#listeners) listener(change)
  }

  #keepAgain(): void {
    if (this.#keepWanted || this.#ways.isOpen) this.#renewSoon(0)
  }

  #renewSoon(ms: number): void {
    if (this.#renewing) {
      this.#renewAgain = true
      return
    }
    if (this.#renewTimer !== null) return
    this.#renewTimer = setTimeout(() => {
      this.#renewTimer = null
      void this.#renew()
    }, ms)
    this.#renewTimer.unref()
  }

  /** Asks the ways that may be others, then has their next hops kept. */
  async #renew(): Promise<void> {
    this.#renewing = true
    this.#renewAgain = false
    const began = performance.now()
    const changed = await this.#ways.renew()
    const complete = this.#closed || !this.#keepWanted || (await this.#kept.keep(this.#hops()))
    this.#renewing = false
    if (this.#closed) return
    if (changed.size > 0) {
      const nothing = { links: false, addresses: false, routes: false, neighbours: false } as const
      this.#tell({ ...nothing, nextHops: 'kept', ways: changed })
    }
    // A storm over many ways must not be all that this thread does.
    const tookMs = performance.now() - began
    if (!complete || this.#ways.isOpen) this.#renewSoon(Math.max(RETRY_MS, 4 * tookMs))
    else if (this.#renewAgain) this.#renewSoon(4 * tookMs)
  }

  /** Next hops of all kept addresses that have neighbours. */
  #hops(): ReadonlyMap<string, Hop> {
    const hops = new Map<string, Hop>()
    for (const hop of this.#ways.hops()) {
      const link = this.#byIndex.get(hop.ifindex)
      if (link === undefined || link.noArp || link.loopback || !link.up) continue
      hops.set(hopKey(hop), hop)
    }
    return hops
  }
}

const NOBODY: ReadonlySet<IpAddress> = new Set()

function keyOf(entry: { readonly address: IpAddress; readonly ifindex: number }): string {
  return `${entry.ifindex} ${entry.address}`
}

function sameAddress(a: LinkAddress | undefined, b: LinkAddress): boolean {
  return a !== undefined && a.prefixLength === b.prefixLength && a.tentative === b.tentative
}
