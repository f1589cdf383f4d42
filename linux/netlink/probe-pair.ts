/**
 * The pair of links that health checks take to the packet program. Sockets that are bound to one end
 * (SO_BINDTODEVICE) send everything there, whatever the host's routes and addresses are: so a question to
 * a virtual address that is the host's own leaves all the same. The other end is one more interface of the
 * packet program. The sockets' end has no neighbours to resolve: both ends have the same MAC address, which
 * the kernel takes for everybody's where there is no ARP.
 */
import { AF_INET6 } from '../abi.ts'
import { setOffloads } from '../ethtool.ts'
import { Errno } from '../libc.ts'
import { type NetlinkAttribute, u32Value, viewOf } from './message.ts'
import { decodeLink, linkQuery, type Query, Rtm } from './rtnetlink.ts'
import { NetlinkError, type RequestSocket } from './socket.ts'
import { configureStackEnd, createVeth, deleteLink, setLinkArp, setLinkUp } from './veth.ts'

/** The end that sockets are bound to. */
export const PROBE_DEVICE = 'pm-probe'
/** The packet program's end. */
export const CHECK_DEVICE = 'pm-check'
/** Locally administered; it never leaves the pair. */
export const PROBE_MAC: Uint8Array = Uint8Array.of(0x02, 0x70, 0x6d, 0x00, 0x00, 0x01)
/** Local ports of the sockets, outside of what the kernel gives to clients (ip_local_port_range ends at 60999). */
export const PROBE_PORT_FIRST = 63_488
export const PROBE_PORTS = 2048
/** Of an Ethernet: what a client far away would send. */
export const PROBE_MTU = 1500
/** The routing table of sockets that are bound to the pair (IPv6 only), and the place of its rule. */
const TABLE = 28_781
const RULE_PRIORITY = 28_781

export interface ProbePair {
  /** ifindex of the packet program's end. */
  readonly check: number
  /** Why there is no IPv6 on it; null if there is. */
  readonly withoutIpv6: string | null
}

/** Makes the pair anew, whatever an earlier process has left. */
export function makeProbePair(socket: RequestSocket): ProbePair {
  removeProbePair(socket)
  const mac = PROBE_MAC
  createVeth(socket, { name: CHECK_DEVICE, mac }, { name: PROBE_DEVICE, mac }, PROBE_MTU)
  const check = indexOf(socket, CHECK_DEVICE)
  const probe = indexOf(socket, PROBE_DEVICE)
  if (check === null || probe === null) throw new Error(`Cannot find ${CHECK_DEVICE} after making it`)
  // The kernel tells a program only of routes for interfaces that forward; nothing but questions comes by it.
  configureStackEnd(socket, check, CHECK_DEVICE, true)
  // The userspace plane takes packets only from links that a client could be on.
  setLinkArp(socket, check, CHECK_DEVICE)
  // An answer comes from the virtual address, which may be the host's own.
  configureStackEnd(socket, probe, PROBE_DEVICE, false, true)
  // Checksums are complete when the program sees a packet, and with GRO the end takes redirected frames.
  setOffloads(PROBE_DEVICE, { transmitChecksum: false, tso: false, gso: false, gro: true })
  setLinkUp(socket, probe, PROBE_DEVICE)
  setLinkUp(socket, check, CHECK_DEVICE)
  return { check, withoutIpv6: routeIpv6(socket, probe) }
}

/** Removes the pair and what was made for it; nothing if there is none. */
export function removeProbePair(socket: RequestSocket): void {
  const check = indexOf(socket, CHECK_DEVICE)
  if (check !== null) ignoring(() => deleteLink(socket, check, CHECK_DEVICE))
  // The rule names the link, and stays without it: it matches nothing then.
  ignoring(() => socket.change(rule(Rtm.DELRULE), `remove the IPv6 rule of ${PROBE_DEVICE}`, 0))
}

/**
 * IPv4 takes every destination for a neighbour where a socket's interface has no route to it; IPv6 has to
 * be told, in a table that only these sockets look at.
 */
function routeIpv6(socket: RequestSocket, probe: number): string | null {
  try {
    socket.change(defaultRoute(probe), `route IPv6 to ${PROBE_DEVICE}`)
    socket.change(rule(Rtm.NEWRULE), `let sockets of ${PROBE_DEVICE} use table ${TABLE}`)
    return null
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error
    return error.message
  }
}

function defaultRoute(ifindex: number): Query {
  const [RTA_OIF, RTA_TABLE] = [4, 15]
  const [RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST] = [4, 0, 1]
  const header = new Uint8Array(12)
  header[0] = AF_INET6
  header.set([0, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST], 4)
  const attributes: NetlinkAttribute[] = [
    { type: RTA_TABLE, value: u32Value(TABLE) },
    { type: RTA_OIF, value: u32Value(ifindex) },
  ]
  return { type: Rtm.NEWROUTE, header, attributes }
}

function rule(type: number): Query {
  const [FRA_PRIORITY, FRA_TABLE, FRA_OIFNAME] = [6, 15, 17]
  const FR_ACT_TO_TBL = 1
  const header = new Uint8Array(12)
  header[0] = AF_INET6
  header[7] = FR_ACT_TO_TBL
  viewOf(header).setUint32(8, 0, true)
  const attributes: NetlinkAttribute[] = [
    { type: FRA_PRIORITY, value: u32Value(RULE_PRIORITY) },
    { type: FRA_TABLE, value: u32Value(TABLE) },
    { type: FRA_OIFNAME, value: new TextEncoder().encode(`${PROBE_DEVICE}\0`) },
  ]
  return { type, header, attributes }
}

function indexOf(socket: RequestSocket, name: string): number | null {
  const message = socket.get(linkQuery(name))
  return message === null ? null : (decodeLink(message)?.ifindex ?? null)
}

const GONE: readonly number[] = [Errno.ENOENT, Errno.ENODEV, 97 /* EAFNOSUPPORT: no IPv6 here */]

function ignoring(action: () => void): void {
  try {
    action()
  } catch (error) {
    if (!(error instanceof NetlinkError) || !GONE.includes(error.errno)) throw error
  }
}
