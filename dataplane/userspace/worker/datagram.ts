/** Which datagram a fragment is of, and whether it is the first: read as the packet program reads it (bpf/fragment.h). */

const ETHERNET = 14
const TAG = 4
/** Priority tags that the program takes off. */
const TAGS_MAX = 2
const HOP_BY_HOP = 0
const ROUTING = 43
const FRAGMENT = 44
const DESTINATION = 60
const EXTENSIONS_MAX = 8

export interface Fragment {
  /** The same for all fragments of a datagram, and for no others (RFC 791 §3.2, RFC 8200 §4.5). */
  readonly datagram: string
  readonly isFirst: boolean
}

/** The fragment whose Ethernet frame is at `start`; null: it is none, or cannot be read. */
export function fragmentAt(bytes: Uint8Array, start: number, length: number): Fragment | null {
  const end = start + length
  let type = start + ETHERNET - 2
  for (let i = 0; i < TAGS_MAX && isTag(bytes, type); i++) type += TAG
  const ip = type + 2
  const version = bytes[ip]! >> 4
  if (version === 4 && ip + 20 <= end) return ipv4(bytes, ip)
  return version === 6 && ip + 40 <= end ? ipv6(bytes, ip, end) : null
}

function isTag(bytes: Uint8Array, at: number): boolean {
  const type = be16(bytes, at)
  return type === 0x8100 || type === 0x88a8
}

function ipv4(bytes: Uint8Array, ip: number): Fragment | null {
  const word = be16(bytes, ip + 6) & 0x3fff
  if (word === 0) return null
  const datagram = text(bytes, ip + 12, 8) + text(bytes, ip + 4, 2) + text(bytes, ip + 9, 1)
  return { datagram, isFirst: word === 0x2000 }
}

function ipv6(bytes: Uint8Array, ip: number, end: number): Fragment | null {
  let next = bytes[ip + 6]!
  let at = ip + 40
  for (let i = 0; i < EXTENSIONS_MAX && at + 8 <= end; i++) {
    if (next === FRAGMENT) {
      const word = be16(bytes, at + 2) & 0xfff9
      if (word === 0) return null
      return { datagram: text(bytes, ip + 8, 32) + text(bytes, at + 4, 4), isFirst: word === 1 }
    }
    if (next !== HOP_BY_HOP && next !== ROUTING && next !== DESTINATION) return null
    next = bytes[at]!
    at += (bytes[at + 1]! + 1) * 8
  }
  return null
}

function be16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}

function text(bytes: Uint8Array, at: number, length: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + length))
}
