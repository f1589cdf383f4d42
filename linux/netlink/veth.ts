/** Pairs of virtual Ethernet devices, made and removed by rtnetlink. */

import type { Family } from '../../net/address.ts'
import { AF_INET, AF_INET6, IFF_NOARP, IFF_UP } from '../abi.ts'
import { encodeAttributes, type NetlinkAttribute, NLM_F_CREATE, u32Value, viewOf } from './message.ts'
import { decodeNetConf, netConfQuery, type Query, Rtm } from './rtnetlink.ts'
import type { RequestSocket } from './socket.ts'

const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_LINKINFO = 18
const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const IFLA_AF_SPEC = 26
const VETH_INFO_PEER = 1
const RTM_DELLINK = 17
const RTM_SETLINK = 19
const LINK_HEADER = 16

const IFLA_INET_CONF = 1
const IFLA_INET6_ADDR_GEN_MODE = 8
const IN6_ADDR_GEN_MODE_NONE = 1
/** enum in linux/ip.h */
const IPV4_DEVCONF_FORWARDING = 1
const IPV4_DEVCONF_RP_FILTER = 8
const IPV4_DEVCONF_ACCEPT_LOCAL = 23
/** The source must be reachable, by whatever interface (RFC 3704 §2.4). */
const RP_FILTER_LOOSE = 2

export interface VethEnd {
  readonly name: string
  /** The kernel chooses one if left out. */
  readonly mac?: Uint8Array
}

/** Makes a pair, both ends down, without ARP. Fails with EEXIST when a name is taken. */
export function createVeth(socket: RequestSocket, a: VethEnd, b: VethEnd, mtu: number): void {
  const peer = new Uint8Array([
    ...linkHeader(0, IFF_NOARP, IFF_NOARP),
    ...encodeAttributes(endAttributes(b, mtu)),
  ])
  const info = encodeAttributes([
    { type: IFLA_INFO_KIND, value: new TextEncoder().encode('veth') },
    { type: IFLA_INFO_DATA, value: encodeAttributes([{ type: VETH_INFO_PEER, value: peer }]) },
  ])
  socket.change(
    {
      type: Rtm.NEWLINK,
      header: linkHeader(0, IFF_NOARP, IFF_NOARP),
      attributes: [...endAttributes(a, mtu), { type: IFLA_LINKINFO, value: info }],
    },
    `make the veth pair ${a.name} and ${b.name}`,
    NLM_F_CREATE,
  )
}

/** Removes a link; the other end of a pair goes with it. */
export function deleteLink(socket: RequestSocket, ifindex: number, name: string): void {
  socket.change({ type: RTM_DELLINK, header: linkHeader(ifindex, 0, 0), attributes: [] }, `remove ${name}`, 0)
}

export function setLinkUp(socket: RequestSocket, ifindex: number, name: string): void {
  const query = { type: RTM_SETLINK, header: linkHeader(ifindex, IFF_UP, IFF_UP), attributes: [] }
  socket.change(query, `bring ${name} up`, 0)
}

/** Lets an end resolve its neighbours, as any Ethernet does. */
export function setLinkArp(socket: RequestSocket, ifindex: number, name: string): void {
  const query = { type: RTM_SETLINK, header: linkHeader(ifindex, 0, IFF_NOARP), attributes: [] }
  socket.change(query, `switch ARP on for ${name}`, 0)
}

export function setLinkMac(socket: RequestSocket, ifindex: number, name: string, mac: Uint8Array): void {
  const attributes = [{ type: IFLA_ADDRESS, value: mac }]
  const query = { type: RTM_SETLINK, header: linkHeader(ifindex, 0, 0), attributes }
  socket.change(query, `set the address of ${name}`, 0)
}

/**
 * Lets an interface receive what came in elsewhere: loose reverse path filter, IPv4 forwarding as
 * told, no IPv6 address of its own. It gets a loopback address, because the kernel's loose filter
 * rejects everything on an interface without any.
 * @param acceptLocal also packets whose source is an address of this host
 */
export function configureStackEnd(
  socket: RequestSocket,
  ifindex: number,
  name: string,
  forwarding: boolean,
  acceptLocal = false,
): void {
  const conf = encodeAttributes([
    { type: IPV4_DEVCONF_FORWARDING, value: u32Value(forwarding ? 1 : 0) },
    { type: IPV4_DEVCONF_RP_FILTER, value: u32Value(RP_FILTER_LOOSE) },
    // Only where it is wanted: for all others the host's own setting stays.
    ...(acceptLocal ? [{ type: IPV4_DEVCONF_ACCEPT_LOCAL, value: u32Value(1) }] : []),
  ])
  const ipv4 = { type: AF_INET, value: encodeAttributes([{ type: IFLA_INET_CONF, value: conf }]) }
  const mode = { type: IFLA_INET6_ADDR_GEN_MODE, value: Uint8Array.of(IN6_ADDR_GEN_MODE_NONE) }
  const ipv6 = { type: AF_INET6, value: encodeAttributes([mode]) }
  const setting = (family: NetlinkAttribute): Query => ({
    type: RTM_SETLINK,
    header: linkHeader(ifindex, 0, 0),
    attributes: [{ type: IFLA_AF_SPEC, value: encodeAttributes([family]) }],
  })
  socket.change(setting(ipv4), `configure IPv4 on ${name}`, 0)
  socket.change(loopbackAddress(ifindex), `give ${name} an address`)
  try {
    socket.change(setting(ipv6), `configure IPv6 on ${name}`, 0)
  } catch {
    // IPv6 may be switched off on this host; then nothing of it arrives here either.
  }
}

/** 127.112.109.1/32, host scope: never a source of anything, local already by 127.0.0.0/8. */
function loopbackAddress(ifindex: number): Query {
  const [IFA_ADDRESS, IFA_LOCAL] = [1, 2]
  const RT_SCOPE_HOST = 254
  const address = Uint8Array.of(127, 112, 109, 1)
  const header = Uint8Array.of(AF_INET, 32, 0, RT_SCOPE_HOST, 0, 0, 0, 0)
  viewOf(header).setUint32(4, ifindex, true)
  const attributes = [
    { type: IFA_LOCAL, value: address },
    { type: IFA_ADDRESS, value: address },
  ]
  return { type: Rtm.NEWADDR, header, attributes }
}

/** Whether packets from an interface are forwarded. */
export function isForwarding(socket: RequestSocket, family: Family, ifindex: number): boolean {
  const message = socket.get(netConfQuery(family, ifindex))
  return message === null ? false : (decodeNetConf(message)?.forwarding ?? false)
}

function endAttributes(end: VethEnd, mtu: number): NetlinkAttribute[] {
  const attributes = [
    { type: IFLA_IFNAME, value: new TextEncoder().encode(`${end.name}\0`) },
    { type: IFLA_MTU, value: u32Value(mtu) },
  ]
  if (end.mac !== undefined) attributes.push({ type: IFLA_ADDRESS, value: end.mac })
  return attributes
}

function linkHeader(ifindex: number, flags: number, change: number): Uint8Array {
  const header = new Uint8Array(LINK_HEADER)
  const view = viewOf(header)
  view.setInt32(4, ifindex, true)
  view.setUint32(8, flags, true)
  view.setUint32(12, change, true)
  return header
}

/** Attributes as the value of another one. */
