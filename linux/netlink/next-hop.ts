/**
 * Next hops for the packet program, asked of the kernel: the route this host would take (rules, tables,
 * learned path MTU, multipath), then the neighbour's link-layer address. What the XDP program gets from
 * bpf_fib_lookup, the userspace plane gets from here.
 */

import type { Family, IpAddress } from '../../net/address.ts'
import { readAddress } from '../../net/address.ts'
import {
  addressesQuery,
  decodeAddress,
  decodeLink,
  decodeNeighbour,
  decodeNetConf,
  decodeRoute,
  type Link,
  linkQuery,
  type Neighbour,
  Nud,
  neighbourQuery,
  netConfQuery,
  RouteKind,
  routeQuery,
  useNeighbour,
} from './rtnetlink.ts'
import { NetlinkError, type RequestSocket } from './socket.ts'

/** The way to the next hop, or why there is none. */
export type NextHop =
  | {
      readonly result: 'ok'
      readonly ifindex: number
      readonly smac: Uint8Array
      readonly dmac: Uint8Array
      /** Of the path, bytes of IP packet. */
      readonly mtu: number
    }
  | { readonly result: 'no-route' | 'local' | 'no-neighbour' | 'forwarding-off' }

/** A packet that wants to go on. */
export interface HopQuery {
  readonly family: number
  /** The receiving interface. */
  readonly ifindex: number
  /** Network byte order; IPv4 in the first four bytes. */
  readonly saddr: Uint8Array
  readonly daddr: Uint8Array
  readonly tos: number
}

/** Learned path MTUs come without an event, and stale neighbours want to be asked again: answers age. */
const ANSWER_AGE_MS = 1000
/** Answers kept, those asked for last; clients on the far side of NAT replies are many. */
const ANSWERS_MAX = 65_536
/**
 * Questions that may be asked one right after the other, and how many more with every millisecond: each
 * takes some 10 µs. A flood of new addresses, or a change of routes under a million of them, leaves the
 * asking thread most of its time for packets that need no question.
 */
const QUESTIONS_AT_ONCE = 256
const QUESTIONS_PER_MS = 25

interface Answer {
  readonly hop: NextHop
  readonly until: number
}

/** What the kernel is asked by; `change` has it resolve a neighbour. */
export type NextHopSocket = Pick<RequestSocket, 'get' | 'dump' | 'change'>

export class NextHopResolver {
  readonly #socket: NextHopSocket
  readonly #epoch: () => number
  readonly #now: () => number
  #seen: number
  readonly #answers = new Map<string, Answer>()
  readonly #links = new Map<number, Link | null>()
  readonly #forwarding = new Map<string, boolean>()
  /** Usable ones: whoever is behind the same gateway shares its answer. */
  readonly #neighbours = new Map<string, { readonly neighbour: Neighbour; readonly until: number }>()
  #locals: Set<string> | null = null
  /** Questions that may still be asked, as of `#countedAt`. */
  #questions = QUESTIONS_AT_ONCE
  #countedAt: number

  /**
   * `epoch` changes when links, addresses, routes or neighbours did: everything remembered is asked
   * again. `now` is in milliseconds.
   */
  constructor(socket: NextHopSocket, epoch: () => number, now: () => number = () => performance.now()) {
    this.#socket = socket
    this.#epoch = epoch
    this.#now = now
    this.#seen = epoch()
    this.#countedAt = now()
  }

  /** The route of a packet that is being forwarded. */
  resolve(query: HopQuery): NextHop {
    const epoch = this.#epoch()
    if (epoch !== this.#seen) {
      this.#seen = epoch
      this.#forget()
    }
    const family: Family = query.family === 4 ? 4 : 6
    if (!this.#forwards(family, query.ifindex)) return { result: 'forwarding-off' }

    const destination = readAddress(query.daddr, 0, family)
    const sender = readAddress(query.saddr, 0, family)
    // Rules may look at the source, but the kernel routes for addresses of its own only.
    const source = this.#isLocal(sender) ? sender : null
    const key = `${destination} ${source ?? ''} ${query.tos}`
    const now = this.#now()
    const known = this.#answers.get(key)
    // What was asked for last stands last.
    this.#answers.delete(key)
    if (known !== undefined && known.until > now) {
      this.#answers.set(key, known)
      return known.hop
    }
    // Not known yet: the packet's sender tries again.
    if (!this.#mayAsk(now)) return { result: 'no-neighbour' }
    const hop = this.#ask(destination, source, query.tos, (gateway, ifindex) =>
      this.#rememberedNeighbour(gateway, ifindex, now),
    )
    if (hop.result === 'no-neighbour') return hop
    makeRoom(this.#answers)
    this.#answers.set(key, { hop, until: now + ANSWER_AGE_MS })
    return hop
  }

  #mayAsk(now: number): boolean {
    const earned = (now - this.#countedAt) * QUESTIONS_PER_MS
    this.#questions = Math.min(QUESTIONS_AT_ONCE, this.#questions + earned)
    this.#countedAt = now
    if (this.#questions < 1) return false
    this.#questions -= 1
    return true
  }

  /** Asks the kernel, whatever is remembered. Starts resolution of a neighbour that needs it. */
  nextHop(destination: IpAddress, source: IpAddress | null = null, tos = 0): NextHop {
    return this.#ask(destination, source, tos, (gateway, ifindex) => this.#neighbour(gateway, ifindex))
  }

  #ask(
    destination: IpAddress,
    source: IpAddress | null,
    tos: number,
    neighbourAt: (gateway: IpAddress, ifindex: number) => Neighbour | null,
  ): NextHop {
    const message = this.#socket.get(routeQuery(destination, source, tos))
    const route = message === null ? null : decodeRoute(message)
    if (route === null) return { result: 'no-route' }
    if (route.kind === RouteKind.LOCAL) return { result: 'local' }
    if (route.kind !== RouteKind.UNICAST) return { result: 'no-route' }
    const link = this.#link(route.ifindex)
    if (link === null || !link.up) return { result: 'no-route' }

    const mtu = route.mtu || link.mtu
    const found = (dmac: Uint8Array): NextHop => {
      return { result: 'ok', ifindex: link.ifindex, smac: link.mac, dmac, mtu }
    }
    if (link.noArp) return found(new Uint8Array(6))
    const gateway = route.gateway ?? destination
    const neighbour = neighbourAt(gateway, link.ifindex)
    const dmac = neighbour?.valid ? neighbour.mac : null
    const stale = ((neighbour?.state ?? 0) & Nud.STALE) !== 0
    if (dmac === null || stale) this.#poke(gateway, link.ifindex, neighbour)
    return dmac === null ? { result: 'no-neighbour' } : found(dmac)
  }

  #forget(): void {
    this.#answers.clear()
    this.#neighbours.clear()
    this.#links.clear()
    this.#forwarding.clear()
    this.#locals = null
  }

  /** net.ipv4.conf.<interface>.forwarding and its IPv6 sister. */
  #forwards(family: Family, ifindex: number): boolean {
    const key = `${family} ${ifindex}`
    const known = this.#forwarding.get(key)
    if (known !== undefined) return known
    const message = this.#socket.get(netConfQuery(family, ifindex))
    const forwarding = message === null ? false : (decodeNetConf(message)?.forwarding ?? false)
    this.#forwarding.set(key, forwarding)
    return forwarding
  }

  #isLocal(address: IpAddress): boolean {
    if (this.#locals === null) {
      const messages = this.#socket.dump(addressesQuery(), 'read the addresses of this host')
      const locals = messages.map(decodeAddress).filter((entry) => entry !== null && !entry.tentative)
      this.#locals = new Set(locals.map((entry) => entry!.address))
    }
    return this.#locals.has(address)
  }

  #link(ifindex: number): Link | null {
    const known = this.#links.get(ifindex)
    if (known !== undefined) return known
    const message = this.#socket.get(linkQuery(ifindex))
    const link = message === null ? null : decodeLink(message)
    this.#links.set(ifindex, link)
    return link
  }

  #rememberedNeighbour(address: IpAddress, ifindex: number, now: number): Neighbour | null {
    const key = `${ifindex} ${address}`
    const known = this.#neighbours.get(key)
    if (known !== undefined && known.until > now) return known.neighbour
    this.#neighbours.delete(key)
    const neighbour = this.#neighbour(address, ifindex)
    // One that is missing or stale is asked about again, so that it is resolved.
    if (neighbour?.valid === true && (neighbour.state & Nud.STALE) === 0) {
      makeRoom(this.#neighbours)
      this.#neighbours.set(key, { neighbour, until: now + ANSWER_AGE_MS })
    }
    return neighbour
  }

  #neighbour(address: IpAddress, ifindex: number): Neighbour | null {
    const message = this.#socket.get(neighbourQuery(address, ifindex))
    return message === null ? null : decodeNeighbour(message)
  }

  #poke(address: IpAddress, ifindex: number, neighbour: Neighbour | null): void {
    // NTF_USE would end the permanence of an entry that somebody set by hand.
    if (neighbour?.permanent === true) return
    try {
      this.#socket.change(useNeighbour(address, ifindex), `resolve ${address}`)
    } catch (error) {
      // Without CAP_NET_ADMIN, or with a full table, the next packet asks again.
      if (!(error instanceof NetlinkError)) throw error
    }
  }
}

/** The one that has stood there longest gives way. */
function makeRoom(remembered: Map<string, unknown>): void {
  if (remembered.size < ANSWERS_MAX) return
  for (const oldest of remembered.keys()) {
    remembered.delete(oldest)
    return
  }
}
