/**
 * Sockets of IP that Node cannot make itself: bound to a device, or to an address and port before anybody
 * connects them. Node takes them over by their descriptor.
 */
import type { Family, IpAddress } from '../net/address.ts'
import { addressToBytes } from '../net/address.ts'
import { AF_INET, AF_INET6, SOCK_DGRAM_CLOEXEC, SOL_SOCKET } from './abi.ts'
import { check, libc, words } from './libc.ts'

const SOCK_STREAM_CLOEXEC = 1 | 0o2000000
const SOCK_NONBLOCK = 0o4000
const SO_REUSEADDR = 2
const SO_LINGER = 13
const SO_BINDTODEVICE = 25
const IPPROTO_ICMP = 1
const IPPROTO_ICMPV6 = 58

export interface Bound {
  readonly family: Family
  /** Only frames by this device; null: by any. */
  readonly device: string | null
  /** null: the one the kernel chooses. */
  readonly address: IpAddress | null
  /** 0: one the kernel chooses. */
  readonly port: number
}

/** A descriptor, to be closed by whoever takes it over. Throws `SystemError`. */
export function openBound(type: 'stream' | 'datagram' | 'ping', bound: Bound): number {
  const domain = bound.family === 4 ? AF_INET : AF_INET6
  const kind = (type === 'stream' ? SOCK_STREAM_CLOEXEC : SOCK_DGRAM_CLOEXEC) | SOCK_NONBLOCK
  const protocol = type === 'ping' ? (bound.family === 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) : 0
  const fd = check(libc.socket(domain, kind, protocol), `open a ${type} socket`)
  try {
    // Closed, a connection is over at both ends: none waits for its time (TIME_WAIT) with its port.
    if (type === 'stream') check(libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, words(1, 0), 8), 'set SO_LINGER')
    if (bound.device !== null) {
      const name = new TextEncoder().encode(`${bound.device}\0`)
      check(libc.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length), `bind to ${bound.device}`)
    }
    if (bound.address !== null || bound.port !== 0) {
      // A connection that has ended not long ago may still hold the port (TIME_WAIT).
      if (type === 'stream')
        check(libc.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, words(1), 4), 'set SO_REUSEADDR')
      const address = socketAddress(bound.family, bound.address, bound.port)
      check(
        libc.bind(fd, address, address.length),
        `bind to ${bound.address ?? 'any address'} port ${bound.port}`,
      )
    }
    return fd
  } catch (error) {
    libc.close(fd)
    throw error
  }
}

/** struct sockaddr_in, struct sockaddr_in6. */
export function socketAddress(family: Family, address: IpAddress | null, port: number): Uint8Array {
  const bytes = new Uint8Array(family === 4 ? 16 : 28)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, family === 4 ? AF_INET : AF_INET6, true)
  view.setUint16(2, port)
  if (address !== null) bytes.set(addressToBytes(address), family === 4 ? 4 : 8)
  return bytes
}
