/**
 * What the control plane asks of the machine it runs on: its addresses and links, source addresses of
 * routes, and neighbours that should stay resolved. The live implementation follows netlink
 * (`dataplane/netlink`); `fixedHost` answers from plain data.
 */

import type { Family, IpAddress } from '../../net/address.ts'
import { addressWords, familyOf, ipv4FromNumber, ipv4ToNumber } from '../../net/address.ts'
import { USUAL_LOCAL_PORTS } from '../../net/ports.ts'
import type { PortRange } from '../model/mark.ts'

export interface HostAddress {
  readonly address: IpAddress
  readonly family: Family
  readonly prefixLength: number
}

export interface HostInterface {
  readonly name: string
  readonly ifindex: number
  /** Six bytes, or null for an interface without a link-layer address. */
  readonly mac: Uint8Array | null
  readonly mtu: number
  readonly up: boolean
  readonly addresses: readonly HostAddress[]
}

/** What changed, coarsely. */
export interface HostChange {
  readonly links: boolean
  readonly addresses: boolean
  readonly routes: boolean
  readonly neighbours: boolean
  /**
   * Whose next hops may be others now: those of addresses that are kept resolved (or anybody's), those of
   * other addresses at most, or nobody's. Left out: anybody's.
   */
  readonly nextHops?: 'kept' | 'others' | 'none'
  /** Addresses that have another source address towards them, or another way; left out: any may have. */
  readonly ways?: ReadonlySet<IpAddress>
}

/** Where packets to an address leave, and to whom. */
export interface HostHop {
  readonly ifindex: number
  readonly smac: Uint8Array
  readonly dmac: Uint8Array
  /** Of the path, bytes of IP packet. */
  readonly mtu: number
}

/** Next hops of addresses that are kept resolved, from memory: nobody waits for the kernel. */
export interface HopSource {
  /** Another number whenever `to` may have another answer for an address for which it had one. */
  generation(): number
  /** For which addresses `to` may have an answer now and had none when this was asked; null: for any. */
  takeLearnt(): ReadonlySet<IpAddress> | null
  /** null: not known, or not by a neighbour. */
  to(destination: IpAddress): HostHop | null
}

export interface Host {
  /** The same list as long as nothing changed. */
  interfaces(): readonly HostInterface[]
  /** Source address the kernel would use towards `destination`; null without a route. */
  resolveSource(destination: IpAddress): IpAddress | null
  /** Asks the kernel to keep the neighbours towards exactly these addresses resolved, however many. */
  keepResolved(addresses: Iterable<IpAddress>): void
  /** The same for some more, and no longer for others. */
  keepAlso(added: Iterable<IpAddress>, dropped: Iterable<IpAddress>): void
  /** Left out by hosts that know none. */
  readonly hops?: HopSource
  /** Asks the kernel, once, to resolve the next hop towards an address; nothing if there is no route. */
  resolve(address: IpAddress): void
  /** Value of a file under /proc/sys as a number, `net/ipv4/ip_forward`; null if unreadable. */
  sysctl(path: string): number | null
  /** Ports that the host gives to sockets which ask for none; left out: those that it gives unless told otherwise. */
  localPorts?(): readonly PortRange[]
  /** Free and buffer memory in pages, as the defence sysctls count it; null if unknown. */
  availablePages(): number | null
  /** Calls back after changes, once for a burst; returns the way to stop. */
  onChange(listener: (change: HostChange) => void): () => void
}

/** The local addresses, prepared for questions. */
export interface LocalAddresses {
  readonly all: readonly HostAddress[]
  /** Addresses of interfaces that are up. */
  readonly own: ReadonlySet<IpAddress>
  /** Broadcast addresses of their subnets. */
  readonly broadcast: ReadonlySet<IpAddress>
  /** Whether some interface carries 127.0.0.0/8, which is local as a whole. */
  readonly loopback: boolean
}

const prepared = new WeakMap<readonly HostInterface[], LocalAddresses>()

/** All addresses of interfaces that are up; prepared once per list the host hands out. */
export function localAddresses(host: Pick<Host, 'interfaces'>): LocalAddresses {
  const interfaces = host.interfaces()
  const known = prepared.get(interfaces)
  if (known !== undefined) return known
  const all = interfaces.filter((nic) => nic.up).flatMap((nic) => nic.addresses)
  const locals: LocalAddresses = {
    all,
    own: new Set(all.map((local) => local.address)),
    broadcast: new Set(all.map(broadcastOf).filter((address) => address !== null)),
    loopback: all.some((local) => local.family === 4 && isLoopback4(local.address)),
  }
  prepared.set(interfaces, locals)
  return locals
}

function isLoopback4(address: IpAddress): boolean {
  return ipv4ToNumber(address) >>> 24 === 127
}

/** Whether the kernel would deliver a packet to `address` locally. */
export function isLocalAddress(address: IpAddress, locals: LocalAddresses): boolean {
  return locals.own.has(address) || (locals.loopback && familyOf(address) === 4 && isLoopback4(address))
}

/** Broadcast address of a subnet; null for prefixes that have none (RFC 3021: /31, and /32). */
function broadcastOf(local: HostAddress): IpAddress | null {
  if (local.family !== 4 || local.prefixLength >= 31) return null
  const hostBits = 2 ** (32 - local.prefixLength) - 1
  return ipv4FromNumber((ipv4ToNumber(local.address) | hostBits) >>> 0)
}

/**
 * Whether IPVS takes `address` for a real server: IPv4 by the type of the route (unicast or local),
 * IPv6 by the address type (unicast, not link-local) unless it is local.
 */
export function isServerAddress(address: IpAddress, locals: LocalAddresses): boolean {
  if (familyOf(address) === 4) {
    const number = ipv4ToNumber(address)
    if (number >>> 24 === 0 || number === 0xffffffff || number >>> 28 === 0xe) return false
    return !locals.broadcast.has(address)
  }
  if (isLocalAddress(address, locals)) return true
  const [first, second, third, last] = addressWords(address)
  if (first >>> 24 === 0xff || first >>> 22 === 0x3fa) return false
  if (first !== 0 || second !== 0) return true
  // ::, ::1 and IPv4-mapped addresses are no unicast addresses of a peer (RFC 4291 §2.5).
  if (third === 0xffff) return false
  return third !== 0 || last > 1
}

const none: readonly HostInterface[] = []

/** A host that answers from plain data and never changes; for tests and for rules without a machine. */
export function fixedHost(
  facts: {
    readonly interfaces?: readonly HostInterface[]
    readonly sources?: Readonly<Record<string, IpAddress>>
    readonly sysctls?: Readonly<Record<string, number>>
    readonly localPorts?: readonly PortRange[]
    readonly availablePages?: number
  } = {},
): Host {
  return {
    interfaces: () => facts.interfaces ?? none,
    resolveSource: (destination) => facts.sources?.[destination] ?? null,
    keepResolved: () => {},
    keepAlso: () => {},
    resolve: () => {},
    sysctl: (path) => facts.sysctls?.[path] ?? null,
    localPorts: () => facts.localPorts ?? USUAL_LOCAL_PORTS,
    availablePages: () => facts.availablePages ?? null,
    onChange: () => () => {},
  }
}
