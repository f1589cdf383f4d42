/**
 * Links, addresses, neighbours and routes as rtnetlink carries them (linux/rtnetlink.h, if_link.h,
 * if_addr.h, neighbour.h): decoders of what the kernel says, encoders of what is asked.
 */

import type { Family, IpAddress } from '../../net/address.ts'
import { addressToBytes, familyOf, readAddress } from '../../net/address.ts'
import { AF_INET, AF_INET6, IFF_LOOPBACK, IFF_LOWER_UP, IFF_NOARP, IFF_UP } from '../abi.ts'
import {
  attributesIn,
  decodeAttributes,
  type NetlinkAttribute,
  type NetlinkMessage,
  textOf,
  u32Of,
  u32Value,
  viewOf,
} from './message.ts'

export const Rtm = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWNEIGH: 28,
  DELNEIGH: 29,
  GETNEIGH: 30,
  NEWRULE: 32,
  DELRULE: 33,
  NEWNETCONF: 80,
  DELNETCONF: 81,
  GETNETCONF: 82,
} as const

/** Multicast groups of rtnetlink (enum rtnetlink_groups). */
export const Group = {
  LINK: 1,
  NEIGH: 3,
  IPV4_IFADDR: 5,
  IPV4_ROUTE: 7,
  IPV4_RULE: 8,
  IPV6_IFADDR: 9,
  IPV6_ROUTE: 11,
  IPV6_RULE: 19,
  IPV4_NETCONF: 24,
  IPV6_NETCONF: 25,
} as const

const LINK_HEADER = 16
const ADDRESS_HEADER = 8
const NEIGHBOUR_HEADER = 12
const ROUTE_HEADER = 12
const NETCONF_HEADER = 4

const IFA_F_TENTATIVE = 0x40
const IFA_F_DADFAILED = 0x08

/** Kinds of route (rtm_type) that matter here. */
export const RouteKind = { UNICAST: 1, LOCAL: 2, BROADCAST: 3, ANYCAST: 4, MULTICAST: 5 } as const

/** States of a neighbour entry; VALID are those whose link-layer address may be used. */
export const Nud = {
  INCOMPLETE: 0x01,
  REACHABLE: 0x02,
  STALE: 0x04,
  DELAY: 0x08,
  PROBE: 0x10,
  FAILED: 0x20,
  NOARP: 0x40,
  PERMANENT: 0x80,
} as const
const NUD_VALID = Nud.PERMANENT | Nud.NOARP | Nud.REACHABLE | Nud.PROBE | Nud.STALE | Nud.DELAY

export interface Link {
  readonly ifindex: number
  readonly name: string
  /** Six bytes; zeros on links without link-layer addresses. */
  readonly mac: Uint8Array
  readonly mtu: number
  /** Set up by the administrator. */
  readonly up: boolean
  /** The link has a carrier. */
  readonly carrier: boolean
  readonly loopback: boolean
  /** Neighbours need no resolution. */
  readonly noArp: boolean
  /** Kind of hardware (`ARPHRD_*`); only ETHERNET has frames with link-layer addresses. */
  readonly hardware: number
  /** `veth`, `macvlan`, `vlan`, `bond`, `bridge`, ...; '' for a driver of hardware. */
  readonly kind: string
  /** ifindex of the bond, team, bridge or VRF that it is part of, 0 without. */
  readonly master: number
  /** ifindex of the link below (VLAN, macvlan) or of the other end (veth), 0 without. */
  readonly lower: number
  /** The link below is in another network namespace, where its ifindex means nothing here. */
  readonly lowerElsewhere: boolean
  /** Further names it answers to (ip link property add altname). */
  readonly otherNames: readonly string[]
}

/** The `ARPHRD_*` that frames with an Ethernet header have. */
export const HARDWARE_ETHERNET = 1

export interface LinkAddress {
  readonly ifindex: number
  readonly family: Family
  readonly address: IpAddress
  readonly prefixLength: number
  /** Duplicate address detection has not accepted it (yet). */
  readonly tentative: boolean
}

export interface Neighbour {
  readonly ifindex: number
  readonly address: IpAddress
  /** `Nud` bits. */
  readonly state: number
  /** The address may be used (again with care while STALE). */
  readonly valid: boolean
  readonly permanent: boolean
  /** The kernel keeps it resolved on somebody's behalf. */
  readonly managed: boolean
  readonly mac: Uint8Array | null
  /** Who made the entry (NDA_PROTOCOL), 0 when not said. */
  readonly protocol: number
}

export interface Route {
  readonly family: Family
  /** `RouteKind` */
  readonly kind: number
  readonly ifindex: number
  /** null: the destination is on the link. */
  readonly gateway: IpAddress | null
  readonly preferredSource: IpAddress | null
  /** Path MTU of the route, 0 when only the link's counts. */
  readonly mtu: number
}

/** Forwarding of one family on one interface. */
export interface NetConf {
  readonly family: Family
  /** -1: all, -2: default for new ones. */
  readonly ifindex: number
  readonly forwarding: boolean
}

function familyFrom(value: number): Family | null {
  if (value === AF_INET) return 4
  return value === AF_INET6 ? 6 : null
}

function familyNumber(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6
}

function addressFrom(value: Uint8Array | undefined, family: Family): IpAddress | null {
  return value === undefined || value.length !== (family === 4 ? 4 : 16)
    ? null
    : readAddress(value, 0, family)
}

export function decodeLink(message: NetlinkMessage): Link | null {
  const [IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER] = [1, 3, 4, 5, 10]
  const [IFLA_LINKINFO, IFLA_LINK_NETNSID, IFLA_PROP_LIST] = [18, 37, 52]
  const IFLA_INFO_KIND = 1
  if (message.body.length < LINK_HEADER) return null
  const view = viewOf(message.body)
  const flags = view.getUint32(8, true)
  const attributes = decodeAttributes(message.body, LINK_HEADER)
  const name = attributes.get(IFLA_IFNAME)
  const mac = attributes.get(IFLA_ADDRESS)
  const info = attributes.get(IFLA_LINKINFO)
  const kind = info === undefined ? undefined : decodeAttributes(info, 0).get(IFLA_INFO_KIND)
  return {
    ifindex: view.getInt32(4, true),
    name: name === undefined ? '' : textOf(name),
    mac: mac !== undefined && mac.length === 6 ? mac.slice() : new Uint8Array(6),
    mtu: u32Of(attributes.get(IFLA_MTU)) ?? 0,
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    noArp: (flags & IFF_NOARP) !== 0,
    hardware: view.getUint16(2, true),
    kind: kind === undefined ? '' : textOf(kind),
    master: u32Of(attributes.get(IFLA_MASTER)) ?? 0,
    lower: u32Of(attributes.get(IFLA_LINK)) ?? 0,
    lowerElsewhere: attributes.has(IFLA_LINK_NETNSID),
    otherNames: decodeOtherNames(attributes.get(IFLA_PROP_LIST)),
  }
}

/** IFLA_PROP_LIST: the same attribute as often as there are names. */
function decodeOtherNames(list: Uint8Array | undefined): string[] {
  const IFLA_ALT_IFNAME = 53
  if (list === undefined) return []
  return attributesIn(list, 0)
    .filter(({ type }) => type === IFLA_ALT_IFNAME)
    .map(({ value }) => textOf(value))
}

export function decodeAddress(message: NetlinkMessage): LinkAddress | null {
  const [IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS] = [1, 2, 8]
  if (message.body.length < ADDRESS_HEADER) return null
  const view = viewOf(message.body)
  const family = familyFrom(view.getUint8(0))
  if (family === null) return null
  const attributes = decodeAttributes(message.body, ADDRESS_HEADER)
  // On point-to-point links IFA_ADDRESS is the peer's and IFA_LOCAL ours.
  const address = addressFrom(attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS), family)
  if (address === null) return null
  const flags = u32Of(attributes.get(IFA_FLAGS)) ?? view.getUint8(2)
  return {
    ifindex: view.getUint32(4, true),
    family,
    address,
    prefixLength: view.getUint8(1),
    tentative: (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) !== 0,
  }
}

const NDA_DST = 1
const NDA_LLADDR = 2
const NDA_PROTOCOL = 12
const NDA_FLAGS_EXT = 15
const NTF_USE = 0x01
const NTF_EXT_LEARNED = 0x10
const NTF_EXT_MANAGED = 0x01

export function decodeNeighbour(message: NetlinkMessage): Neighbour | null {
  if (message.body.length < NEIGHBOUR_HEADER) return null
  const view = viewOf(message.body)
  const family = familyFrom(view.getUint8(0))
  if (family === null) return null
  const attributes = decodeAttributes(message.body, NEIGHBOUR_HEADER)
  const address = addressFrom(attributes.get(NDA_DST), family)
  if (address === null) return null
  const state = view.getUint16(8, true)
  const mac = attributes.get(NDA_LLADDR)
  return {
    ifindex: view.getInt32(4, true),
    address,
    state,
    valid: (state & NUD_VALID) !== 0,
    permanent: (state & (Nud.PERMANENT | Nud.NOARP)) !== 0,
    managed: ((u32Of(attributes.get(NDA_FLAGS_EXT)) ?? 0) & NTF_EXT_MANAGED) !== 0,
    mac: mac !== undefined && mac.length === 6 ? mac.slice() : null,
    protocol: attributes.get(NDA_PROTOCOL)?.[0] ?? 0,
  }
}

export function decodeRoute(message: NetlinkMessage): Route | null {
  const [RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_METRICS, RTA_VIA] = [4, 5, 7, 8, 18]
  const RTAX_MTU = 2
  if (message.body.length < ROUTE_HEADER) return null
  const view = viewOf(message.body)
  const family = familyFrom(view.getUint8(0))
  if (family === null) return null
  const attributes = decodeAttributes(message.body, ROUTE_HEADER)
  const metrics = attributes.get(RTA_METRICS)
  return {
    family,
    kind: view.getUint8(7),
    ifindex: u32Of(attributes.get(RTA_OIF)) ?? 0,
    gateway: addressFrom(attributes.get(RTA_GATEWAY), family) ?? viaAddress(attributes.get(RTA_VIA)),
    preferredSource: addressFrom(attributes.get(RTA_PREFSRC), family),
    mtu: metrics === undefined ? 0 : (u32Of(decodeAttributes(metrics, 0).get(RTAX_MTU)) ?? 0),
  }
}

/** Destinations of a route: `length` bits of the address. */
export interface Prefix {
  readonly family: Family
  /** Of an address of that family. */
  readonly bytes: Uint8Array
  readonly length: number
}

/** The destinations that a route is about, and no more of it: these come by the hundred thousand. */
export function decodePrefix(message: NetlinkMessage): Prefix | null {
  const RTA_DST = 1
  const { body } = message
  if (body.length < ROUTE_HEADER) return null
  const family = familyFrom(body[0]!)
  if (family === null) return null
  const bytes = new Uint8Array(family === 4 ? 4 : 16)
  const view = viewOf(body)
  for (let at = ROUTE_HEADER; at + 4 <= body.length; ) {
    const length = view.getUint16(at, true)
    if (length < 4 || at + length > body.length) break
    if (view.getUint16(at + 2, true) === RTA_DST) {
      bytes.set(body.subarray(at + 4, Math.min(at + length, at + 4 + bytes.length)))
      break
    }
    at += (length + 3) & ~3
  }
  return { family, bytes, length: body[1]! }
}

/** RTA_VIA: a gateway of another family (RFC 5549), 16 bits of family before the address. */
function viaAddress(value: Uint8Array | undefined): IpAddress | null {
  if (value === undefined || value.length < 2) return null
  const family = familyFrom(viewOf(value).getUint16(0, true))
  return family === null ? null : addressFrom(value.subarray(2), family)
}

const NETCONFA_IFINDEX = 1
const NETCONFA_FORWARDING = 2

export function decodeNetConf(message: NetlinkMessage): NetConf | null {
  if (message.body.length < NETCONF_HEADER) return null
  const family = familyFrom(message.body[0]!)
  const attributes = decodeAttributes(message.body, NETCONF_HEADER)
  const ifindex = u32Of(attributes.get(NETCONFA_IFINDEX))
  const forwarding = u32Of(attributes.get(NETCONFA_FORWARDING))
  if (family === null || ifindex === null || forwarding === null) return null
  return { family, ifindex: ifindex | 0, forwarding: forwarding !== 0 }
}

/** The fixed part and attributes of a request; the socket adds the rest. */
export interface Query {
  readonly type: number
  readonly header: Uint8Array
  readonly attributes: readonly NetlinkAttribute[]
}

export function linkQuery(which: number | string | null): Query {
  const [IFLA_IFNAME, IFLA_EXT_MASK] = [3, 29]
  // Statistics and virtual functions would make every link several times as long.
  const RTEXT_FILTER_SKIP_STATS = 8
  const header = new Uint8Array(LINK_HEADER)
  if (typeof which === 'number') viewOf(header).setInt32(4, which, true)
  const attributes = [{ type: IFLA_EXT_MASK, value: u32Value(RTEXT_FILTER_SKIP_STATS) }]
  if (typeof which === 'string') {
    attributes.push({ type: IFLA_IFNAME, value: new TextEncoder().encode(`${which}\0`) })
  }
  return { type: Rtm.GETLINK, header, attributes }
}

export function addressesQuery(): Query {
  return { type: Rtm.GETADDR, header: new Uint8Array(ADDRESS_HEADER), attributes: [] }
}

export function neighboursQuery(): Query {
  return { type: Rtm.GETNEIGH, header: new Uint8Array(NEIGHBOUR_HEADER), attributes: [] }
}

export function neighbourQuery(address: IpAddress, ifindex: number): Query {
  return neighbour(Rtm.GETNEIGH, address, ifindex, 0, [])
}

/** Has the kernel resolve an address now, as if it had a packet to send. Not for permanent entries. */
export function useNeighbour(address: IpAddress, ifindex: number): Query {
  return neighbour(Rtm.NEWNEIGH, address, ifindex, NTF_USE, [])
}

/** Has the kernel keep an address resolved (kernel 5.16). Not for permanent entries: it would end that. */
export function manageNeighbour(address: IpAddress, ifindex: number, owner: number): Query {
  return neighbour(Rtm.NEWNEIGH, address, ifindex, NTF_EXT_LEARNED, [
    { type: NDA_PROTOCOL, value: Uint8Array.of(owner) },
    { type: NDA_FLAGS_EXT, value: u32Value(NTF_EXT_MANAGED) },
  ])
}

function neighbour(
  type: number,
  address: IpAddress,
  ifindex: number,
  flags: number,
  attributes: readonly NetlinkAttribute[],
): Query {
  const header = new Uint8Array(NEIGHBOUR_HEADER)
  const view = viewOf(header)
  view.setUint8(0, familyNumber(familyOf(address)))
  view.setInt32(4, ifindex, true)
  view.setUint8(10, flags)
  return { type, header, attributes: [{ type: NDA_DST, value: addressToBytes(address) }, ...attributes] }
}

/**
 * The route of a packet this host would send: all rules and tables, learned path MTU, one hop of a
 * multipath route. `source` must be an address of this host.
 */
export function routeQuery(destination: IpAddress, source: IpAddress | null, tos: number): Query {
  const [RTA_DST, RTA_SRC] = [1, 2]
  const family = familyOf(destination)
  const bits = family === 4 ? 32 : 128
  const header = new Uint8Array(ROUTE_HEADER)
  header[0] = familyNumber(family)
  header[1] = bits
  header[2] = source === null ? 0 : bits
  // The kernel takes the DSCP only; the ECN bits are refused.
  header[3] = tos & 0x1c
  const attributes = [{ type: RTA_DST, value: addressToBytes(destination) }]
  if (source !== null) attributes.push({ type: RTA_SRC, value: addressToBytes(source) })
  return { type: Rtm.GETROUTE, header, attributes }
}

export function netConfQuery(family: Family, ifindex: number): Query {
  const header = new Uint8Array(NETCONF_HEADER)
  header[0] = familyNumber(family)
  return { type: Rtm.GETNETCONF, header, attributes: [{ type: NETCONFA_IFINDEX, value: u32Value(ifindex) }] }
}
