/** What a fragment is of its datagram (RFC 791 §3.2, RFC 8200 §4.5): read as the packet program reads it (bpf/fragment.h). */

const ETHERNET = 14
const IPV4 = 20
const IPV6 = 40
const HEADER = 8
const HOP_BY_HOP = 0
const ROUTING = 43
const FRAGMENT = 44
const DESTINATION = 60
const EXTENSIONS_MAX = 8
const DF = 0x4000
const MORE = 0x2000
const UNITS = 0x1fff

export interface Fragment {
  /** The same for all fragments of a datagram, and for no others. */
  readonly datagram: string
  /** Who sends to whom: of IPv6 senders the network, since one host has as many addresses of it as it likes. */
  readonly ends: string
  /** Of the payload in that of the datagram. */
  readonly offset: number
  /** Bytes of the frame that stand before the datagram's payload once it is whole. */
  readonly headers: number
  /** Where the payload is in the frame, and its bytes. */
  readonly payload: number
  readonly bytes: number
  /** Others follow. */
  readonly more: boolean
  /** Of the whole IP packet that this fragment is. */
  readonly ipBytes: number
  readonly dontFragment: boolean
  /** RFC 3168 §5: the two bits of ECN. */
  readonly congestion: number
  /** IPv6: what follows the headers, and the byte of the frame that says so once the fragment header is gone. */
  readonly next: { readonly header: number; readonly at: number } | null
}

/** The fragment whose Ethernet frame, without tags, is at `start`; null: it is none, or cannot be read. */
export function fragmentAt(bytes: Uint8Array, start: number, length: number): Fragment | null {
  const ip = start + ETHERNET
  const version = bytes[ip]! >> 4
  if (version === 4 && length >= ETHERNET + IPV4) return ipv4(bytes, start, length)
  return version === 6 && length >= ETHERNET + IPV6 ? ipv6(bytes, start, length) : null
}

function ipv4(bytes: Uint8Array, start: number, length: number): Fragment | null {
  const ip = start + ETHERNET
  const word = be16(bytes, ip + 6)
  if ((word & (MORE | UNITS)) === 0) return null
  const headers = ETHERNET + (bytes[ip]! & 15) * 4
  const ipBytes = be16(bytes, ip + 2)
  if (headers < ETHERNET + IPV4 || ETHERNET + ipBytes > length || headers >= ETHERNET + ipBytes) return null
  const more = (word & MORE) !== 0
  // What does not fill a unit only the last one can have: of others Linux forgets it.
  const payload = (ETHERNET + ipBytes - headers) & (more ? ~7 : ~0)
  if (payload === 0) return null
  const ends = text(bytes, ip + 12, 8)
  return {
    datagram: ends + text(bytes, ip + 4, 2) + text(bytes, ip + 9, 1),
    ends,
    offset: (word & UNITS) * 8,
    headers,
    payload: headers,
    bytes: payload,
    more,
    ipBytes,
    dontFragment: (word & DF) !== 0,
    congestion: bytes[ip + 1]! & 3,
    next: null,
  }
}

function ipv6(bytes: Uint8Array, start: number, length: number): Fragment | null {
  const ip = start + ETHERNET
  const ipBytes = IPV6 + be16(bytes, ip + 4)
  const end = ETHERNET + ipBytes
  if (end > length) return null
  let says = ETHERNET + 6
  let at = ETHERNET + IPV6
  for (let i = 0; i < EXTENSIONS_MAX && at + HEADER <= end; i++) {
    const kind = bytes[start + says]!
    if (kind === FRAGMENT) {
      const word = be16(bytes, start + at + 2)
      const payload = at + HEADER
      const more = (word & 1) !== 0
      if ((word & 0xfff9) === 0 || payload >= end) return null
      // RFC 8200 §4.5: then it is discarded.
      if (more && (end - payload) % 8 !== 0) return null
      return {
        datagram: text(bytes, ip + 8, 32) + text(bytes, start + at + 4, 4),
        ends: text(bytes, ip + 8, 8) + text(bytes, ip + 24, 16),
        offset: word & 0xfff8,
        headers: at,
        payload,
        bytes: end - payload,
        more,
        ipBytes,
        dontFragment: false,
        congestion: (bytes[ip + 1]! >> 4) & 3,
        next: { header: bytes[start + at]!, at: says },
      }
    }
    if (kind !== HOP_BY_HOP && kind !== ROUTING && kind !== DESTINATION) return null
    says = at
    at += (bytes[start + at + 1]! + 1) * 8
  }
  return null
}

function be16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!
}

function text(bytes: Uint8Array, at: number, length: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + length))
}
