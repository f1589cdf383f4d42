/**
 * The pair of links by which the host's own sockets are clients of virtual services. What they send there is led
 * to one end and arrives at the other, which is one more interface of the packet program; answers come back by it.
 * Both ends accept packets whose source is an address of this host: answers come from a virtual address, and what
 * the program passes on is from the host itself. So no setting of the operator's interfaces has to be another.
 */
import { setOffloads } from '../ethtool.ts'
import { Errno } from '../libc.ts'
import { MachineError } from '../machine-error.ts'
import { decodeLink, type Link, linkQuery } from './rtnetlink.ts'
import { NetlinkError, type RequestSocket } from './socket.ts'
import { configureStackEnd, createVeth, deleteLink, setLinkArp, setLinkUp } from './veth.ts'

/** The sockets' end. */
export const OWN_DEVICE = 'pm-own'
/** The packet program's. */
export const SERVE_DEVICE = 'pm-serve'
/** Locally administered, of both ends; it never leaves the pair. */
export const OWN_MAC: Uint8Array = Uint8Array.of(0x02, 0x70, 0x6d, 0x00, 0x00, 0x02)
/** As much as native XDP takes of a veth (a page, less headroom and what the kernel keeps behind). */
export const OWN_MTU = 3500

export interface OwnPair {
  /** Their ifindex. */
  readonly own: number
  readonly serve: number
}

/**
 * The pair that is there, whoever has made it; null where there is none, or one that packets would be lost in: who
 * made it may have been killed meanwhile, and somebody may have changed it.
 */
export function findOwnPair(socket: RequestSocket): OwnPair | null {
  const own = linkOf(socket, OWN_DEVICE)
  const serve = linkOf(socket, SERVE_DEVICE)
  if (own === null || serve === null || own.lower !== serve.ifindex || serve.lower !== own.ifindex)
    return null
  const isWhole = isMade(own) && isMade(serve) && own.noArp && !serve.noArp
  return isWhole ? { own: own.ifindex, serve: serve.ifindex } : null
}

/** It is set up last. */
function isMade({ up, mtu, mac, master, lowerElsewhere }: Link): boolean {
  return up && mtu === OWN_MTU && master === 0 && !lowerElsewhere && Buffer.compare(mac, OWN_MAC) === 0
}

/** Whether there is anything of a pair, be it half of one. */
export function isOwnPairLeft(socket: RequestSocket): boolean {
  return indexOf(socket, OWN_DEVICE) !== null || indexOf(socket, SERVE_DEVICE) !== null
}

export function makeOwnPair(socket: RequestSocket): OwnPair {
  removeOwnPair(socket)
  const mac = OWN_MAC
  createVeth(socket, { name: SERVE_DEVICE, mac }, { name: OWN_DEVICE, mac }, OWN_MTU)
  const [own, serve] = [indexOf(socket, OWN_DEVICE), indexOf(socket, SERVE_DEVICE)]
  if (own === null || serve === null) throw new MachineError(`Cannot make ${OWN_DEVICE}: somebody removed it`)
  const pair = { own, serve }
  // The kernel tells a program only of routes for interfaces that forward.
  configureStackEnd(socket, pair.serve, SERVE_DEVICE, true, true)
  setLinkArp(socket, pair.serve, SERVE_DEVICE)
  configureStackEnd(socket, pair.own, OWN_DEVICE, false, true)
  // Checksums are complete when the program sees a packet, and with GRO an end takes redirected frames.
  setOffloads(OWN_DEVICE, { transmitChecksum: false, tso: false, gso: false, gro: true })
  setLinkUp(socket, pair.own, OWN_DEVICE)
  setLinkUp(socket, pair.serve, SERVE_DEVICE)
  return pair
}

/** Whether there was any. */
export function removeOwnPair(socket: RequestSocket): boolean {
  const there = [SERVE_DEVICE, OWN_DEVICE].flatMap((name) => {
    const ifindex = indexOf(socket, name)
    return ifindex === null ? [] : [{ name, ifindex }]
  })
  for (const { name, ifindex } of there) {
    try {
      deleteLink(socket, ifindex, name)
    } catch (error) {
      // The other end goes with the first.
      if (!(error instanceof NetlinkError) || error.errno !== Errno.ENODEV) throw error
    }
  }
  return there.length > 0
}

function linkOf(socket: RequestSocket, name: string): Link | null {
  const message = socket.get(linkQuery(name))
  return message === null ? null : decodeLink(message)
}

function indexOf(socket: RequestSocket, name: string): number | null {
  const link = linkOf(socket, name)
  // The kernel finds a link of somebody else by a further name, too.
  return link?.name === name ? link.ifindex : null
}
