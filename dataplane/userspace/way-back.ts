/**
 * The way back to the kernel for packets that were taken from it but are not ours after all: a veth
 * pair for every interface. What is sent into the raw end arrives at the stack's end, which has the
 * MAC address of the interface it stands for, the same IPv4 forwarding, and a loose reverse path filter.
 */

import { decodeLink, type Link, linkQuery } from '../../linux/netlink/rtnetlink.ts'
import { NetlinkError, type RequestSocket } from '../../linux/netlink/socket.ts'
import {
  configureStackEnd,
  createVeth,
  deleteLink,
  isForwarding,
  setLinkMac,
  setLinkUp,
} from '../../linux/netlink/veth.ts'
import { DataplaneError } from '../dataplane.ts'

/** Larger than anything that comes in, so that only the way on limits a packet. */
const MTU = 65_535
const STACK_NAME = /^pm-stack\d+$/

export class WayBack {
  readonly #socket: RequestSocket
  readonly #for: number
  readonly #rawName: string
  readonly #stackName: string
  readonly #stack: number
  #mac: Uint8Array
  #forwarding: boolean
  /** ifindex to send to. */
  readonly raw: number

  constructor(socket: RequestSocket, link: Link) {
    this.#socket = socket
    this.#for = link.ifindex
    this.#rawName = `pm-raw${link.ifindex}`
    this.#stackName = `pm-stack${link.ifindex}`
    this.#mac = link.mac
    this.#forwarding = isForwarding(socket, 4, link.ifindex)
    try {
      createVeth(socket, { name: this.#rawName }, { name: this.#stackName, mac: link.mac }, MTU)
    } catch (cause) {
      throw new DataplaneError(
        `Cannot make a veth pair beside ${link.name}: ${cause instanceof Error ? cause.message : cause}; the userspace plane needs CAP_NET_ADMIN and the kernel module veth`,
        { cause },
      )
    }
    this.raw = this.#indexOf(this.#rawName)
    this.#stack = this.#indexOf(this.#stackName)
    configureStackEnd(socket, this.#stack, this.#stackName, this.#forwarding)
    setLinkUp(socket, this.#stack, this.#stackName)
    setLinkUp(socket, this.raw, this.#rawName)
  }

  /** Follows changes of the interface it stands for. */
  follow(mac: Uint8Array): void {
    if (Buffer.compare(mac, this.#mac) !== 0) {
      setLinkMac(this.#socket, this.#stack, this.#stackName, mac)
      this.#mac = mac
    }
    const forwarding = isForwarding(this.#socket, 4, this.#for)
    if (forwarding !== this.#forwarding) {
      configureStackEnd(this.#socket, this.#stack, this.#stackName, forwarding)
      this.#forwarding = forwarding
    }
  }

  close(): void {
    try {
      deleteLink(this.#socket, this.#stack, this.#stackName)
    } catch (error) {
      // Somebody removed it already.
      if (!(error instanceof NetlinkError)) throw error
    }
  }

  #indexOf(name: string): number {
    const message = this.#socket.get(linkQuery(name))
    const link = message === null ? null : decodeLink(message)
    if (link === null) throw new DataplaneError(`Cannot find ${name} after making it`)
    return link.ifindex
  }
}

/** Removes what a crashed daemon left behind; how many there were. */
export function removeStaleWaysBack(socket: RequestSocket, links: readonly Link[]): number {
  const stale = links.filter(({ name }) => STACK_NAME.test(name))
  for (const link of stale) {
    try {
      deleteLink(socket, link.ifindex, link.name)
    } catch (error) {
      if (!(error instanceof NetlinkError)) throw error
    }
  }
  return stale.length
}
