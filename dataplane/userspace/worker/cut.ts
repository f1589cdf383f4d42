/**
 * Cuts a packet that is larger than its path into fragments (RFC 791 §2.3, RFC 8200 §4.5). A packet that is a
 * fragment already becomes smaller ones of the same datagram. Whether it may be cut has been decided: what its
 * own DF says does not count any more. IPv6 packets are the outer ones of a tunnel, or came in fragments.
 */
const ETHERNET = 14
const IPV4 = 20
const IPV6 = 40
const IPV6_FRAGMENT = 8
const HOP_BY_HOP = 0
const ROUTING = 43
const NEXT_FRAGMENT = 44
const DESTINATION = 60
const EXTENSIONS_MAX = 8
const DF = 0x4000
const MORE = 0x2000
const OFFSET = 0x1fff
/** RFC 791 §3.1: options of one byte, and the bit of those that every fragment has. */
const OPTION_END = 0
const OPTION_NONE = 1
const OPTION_COPIED = 0x80

/**
 * The frame at `start`. Calls `room(bytes)` for space of every fragment's frame, and `emit(address, bytes)` when
 * it is filled; `random` gives an identification of 32 bits to packets that have none.
 */
export function cutIntoFragments(
  u8: Uint8Array,
  start: number,
  mtu: number,
  random: () => number,
  room: (bytes: number) => number,
  emit: (address: number, bytes: number) => void,
  keepsDontFragment = false,
): void {
  const ip = start + ETHERNET
  const isV4 = u8[ip]! >> 4 === 4
  const { header, says } = isV4 ? { header: (u8[ip]! & 15) * 4, says: 0 } : unfragmentable(u8, ip)
  const end = ip + (isV4 ? get16(u8, ip + 2) : IPV6 + get16(u8, ip + 4))
  const front = header + (isV4 ? 0 : IPV6_FRAGMENT)
  // All but the last are of whole units of 8 bytes.
  const most = (mtu - front) & ~7
  if (most <= 0) return
  const word = isV4 ? get16(u8, ip + 6) : 0
  const first = word & OFFSET
  const kept = keepsDontFragment ? word & DF : 0
  const identification = isV4 ? get16(u8, ip + 4) || random() & 0xffff || 1 : random()

  for (let from = ip + header; from < end; from += most) {
    const bytes = Math.min(most, end - from)
    const more = from + bytes < end
    const frame = ETHERNET + front + bytes
    const at = room(frame)
    const to = at + ETHERNET
    u8.copyWithin(at, start, ip + header)
    u8.copyWithin(to + front, from, from + bytes)
    const offset = from - ip - header
    if (isV4) {
      if (offset > 0) keepCopiedOptions(u8, to + IPV4, to + header)
      put16(u8, to + 2, header + bytes)
      put16(u8, to + 4, identification)
      put16(u8, to + 6, (first + offset / 8) | kept | (more || (word & MORE) !== 0 ? MORE : 0))
      put16(u8, to + 10, 0)
      put16(u8, to + 10, ~onesSum(u8, to, to + header))
    } else {
      put16(u8, to + 4, front - IPV6 + bytes)
      u8[to + header] = u8[to + says]!
      u8[to + says] = NEXT_FRAGMENT
      u8[to + header + 1] = 0
      put16(u8, to + header + 2, offset | (more ? 1 : 0))
      put16(u8, to + header + 4, identification >>> 16)
      put16(u8, to + header + 6, identification)
    }
    emit(at, frame)
  }
}

/** RFC 8200 §4.5: what every fragment has in front, and the byte of it that says what comes next. */
function unfragmentable(u8: Uint8Array, ip: number): { readonly header: number; readonly says: number } {
  const end = ip + IPV6 + get16(u8, ip + 4)
  let found = { header: IPV6, says: 6 }
  let says = 6
  let at = IPV6
  for (let i = 0; i < EXTENSIONS_MAX && ip + at + 8 <= end; i++) {
    const kind = u8[ip + says]!
    if (kind !== HOP_BY_HOP && kind !== ROUTING && kind !== DESTINATION) break
    says = at
    at += (u8[ip + at + 1]! + 1) * 8
    if (ip + at > end) break
    if (kind !== DESTINATION) found = { header: at, says }
  }
  return found
}

/** Finishes a checksum that holds the pseudo header's sum: a fragment's is over more than its own bytes. */
export function finishTransport(u8: Uint8Array, l4: number, end: number, offset: number): void {
  put16(u8, l4 + offset, ~onesSum(u8, l4, end) & 0xffff || 0xffff)
}

/**
 * RFC 791 §3.1: options without the copied flag are the first fragment's only. What is malformed stays as it came, with
 * all behind it.
 */
function keepCopiedOptions(u8: Uint8Array, from: number, to: number): void {
  for (let at = from; at < to; ) {
    const kind = u8[at]!
    if (kind === OPTION_END) return
    const length = kind === OPTION_NONE ? 1 : (u8[at + 1] ?? 0)
    if (length < (kind === OPTION_NONE ? 1 : 2) || at + length > to) return
    if ((kind & OPTION_COPIED) === 0) u8.fill(OPTION_NONE, at, at + length)
    at += length
  }
}

function onesSum(u8: Uint8Array, from: number, to: number): number {
  let sum = 0
  for (let i = from; i < to; i += 2) sum += get16(u8, i, to)
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000)
  return sum
}

/** An odd byte at the end is padded with zero behind it (RFC 1071). */
function get16(u8: Uint8Array, at: number, end = at + 2): number {
  return (u8[at]! << 8) | (at + 1 < end ? u8[at + 1]! : 0)
}

function put16(u8: Uint8Array, at: number, value: number): void {
  u8[at] = value >>> 8
  u8[at + 1] = value
}
