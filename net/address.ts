/**
 * Addresses: the one place where text becomes an `IpAddress`, and where addresses meet wire bytes.
 *
 * The strict parser accepts what inet_pton(3) accepts and nothing else: no leading zeros, no zone, no
 * blanks. The canonical text is that of RFC 5952, as glibc's inet_ntop prints it (mixed notation for
 * IPv4-compatible and IPv4-mapped addresses), because `ipvsadm` lists addresses in those words.
 */

declare const brand: unique symbol
type Brand<T, Name extends string> = T & { readonly [brand]: Name }

/** Canonical text of an IPv4 or IPv6 address (RFC 5952), made by `parseAddress`. */
export type IpAddress = Brand<string, 'IpAddress'>

export type Family = 4 | 6

const DOT = 46
const COLON = 58
const ZERO = 48

/** Scratch space of the parser: the eight groups of the address parsed last. */
const groups = new Uint16Array(8)

/** Brand maker: the caller has checked that `text` is canonical. */
function canonical(text: string): IpAddress {
  return text as IpAddress
}

/**
 * Reads a dotted quad from `text[from..]` to the end.
 * @returns the address as an unsigned 32-bit number, or -1.
 */
function readDottedQuad(text: string, from: number): number {
  const end = text.length
  if (end - from < 7 || end - from > 15) return -1
  let value = 0
  let part = 0
  let digits = 0
  let dots = 0
  for (let at = from; at < end; at++) {
    const code = text.charCodeAt(at)
    if (code === DOT) {
      if (digits === 0 || dots === 3) return -1
      value = value * 256 + part
      part = 0
      digits = 0
      dots++
      continue
    }
    const digit = code - ZERO
    if (digit < 0 || digit > 9) return -1
    // A leading zero would be octal to inet_aton: ambiguous, so inet_pton refuses it and so do we.
    if (digits > 0 && part === 0) return -1
    part = part * 10 + digit
    if (part > 255) return -1
    digits++
  }
  if (digits === 0 || dots !== 3) return -1
  return value * 256 + part
}

function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48
  if (code >= 97 && code <= 102) return code - 87
  if (code >= 65 && code <= 70) return code - 55
  return -1
}

/** Reads an IPv6 literal (RFC 4291 §2.2) into `groups`. */
function readIpv6(text: string): boolean {
  const end = text.length
  if (end < 2 || end > 45) return false
  let at = 0
  let count = 0
  let gap = -1
  if (text.charCodeAt(0) === COLON) {
    if (text.charCodeAt(1) !== COLON) return false
    gap = 0
    at = 2
  }
  while (at < end) {
    const start = at
    let value = 0
    let code = 0
    while (at < end) {
      code = text.charCodeAt(at)
      const digit = hexDigit(code)
      if (digit < 0) break
      if (at - start === 4) return false
      value = value * 16 + digit
      at++
    }
    if (at < end && code === DOT) {
      // The last 32 bits may be written as a dotted quad (RFC 4291 §2.2, form 3).
      if (count > 6) return false
      const quad = readDottedQuad(text, start)
      if (quad < 0) return false
      groups[count++] = quad >>> 16
      groups[count++] = quad & 0xffff
      at = end
      break
    }
    if (at === start || count === 8) return false
    groups[count++] = value
    if (at === end) break
    if (code !== COLON) return false
    at++
    if (at === end) return false // a single colon at the end
    if (text.charCodeAt(at) === COLON) {
      if (gap >= 0) return false
      gap = count
      at++
    }
  }
  if (gap < 0) return count === 8
  if (count === 8) return false // `::` stands for at least one group
  const moved = count - gap
  for (let i = 1; i <= moved; i++) {
    groups[8 - i] = groups[count - i]!
  }
  groups.fill(0, gap, 8 - moved)
  return true
}

/** RFC 5952 text of the address in `groups`. */
function printIpv6(): string {
  // §4.2.3: the longest run of zero groups, the first of equal ones; §4.2.2: never a single group.
  let runStart = -1
  let runLength = 1
  for (let i = 0; i < 8; i++) {
    if (groups[i] !== 0) continue
    let stop = i + 1
    while (stop < 8 && groups[stop] === 0) stop++
    if (stop - i > runLength) {
      runStart = i
      runLength = stop - i
    }
    i = stop
  }
  let text = ''
  for (let i = 0; i < 8; i++) {
    if (i === runStart) {
      text += '::'
      i += runLength - 1
      continue
    }
    if (i > 0 && i !== runStart + runLength) text += ':'
    // §5: the mixed form, for the prefixes glibc knows: ::/96 and ::ffff:0:0/96.
    if (i === 6 && runStart === 0 && (runLength === 6 || (runLength === 5 && groups[5] === 0xffff))) {
      return text + printIpv4(groups[6]! * 65536 + groups[7]!)
    }
    text += groups[i]!.toString(16)
  }
  return text
}

function printIpv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`
}

/**
 * Parses an IPv4 dotted quad or an IPv6 literal, strictly.
 *
 * @param text for example `192.0.2.10` or `2001:DB8::1`; no brackets, no zone, no blanks.
 * @returns the canonical text, or null when `text` is not an address.
 */
export function parseAddress(text: string): IpAddress | null {
  if (text.indexOf(':') < 0) return parseIpv4(text)
  return parseIpv6(text)
}

/** Like `parseAddress`, for IPv4 only. */
export function parseIpv4(text: string): IpAddress | null {
  // Without leading zeros there is one spelling only: the text is canonical already.
  return readDottedQuad(text, 0) < 0 ? null : canonical(text)
}

/** Like `parseAddress`, for IPv6 only. */
export function parseIpv6(text: string): IpAddress | null {
  return readIpv6(text) ? canonical(printIpv6()) : null
}

/**
 * Parses the forms of inet_aton(3): one to four parts, each decimal, octal (`012`) or hexadecimal
 * (`0x0a`); the last part fills the remaining bytes (`10.1` is 10.0.0.1). Text after a blank is ignored,
 * as in glibc.
 */
export function parseClassicIpv4(text: string): IpAddress | null {
  const word = /^[^ \t\n\v\f\r]*/.exec(text)?.[0] ?? ''
  const parts = word.split('.')
  if (parts.length > 4) return null
  let value = 0
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!
    if (!/^(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/.test(part)) return null
    const octal = part.length > 1 && part.startsWith('0') && !/^0[xX]/.test(part)
    const number = octal ? Number.parseInt(part, 8) : Number(part)
    const last = i === parts.length - 1
    const bytes = last ? 4 - i : 1
    if (number >= 256 ** bytes) return null
    value = value * 256 ** bytes + number
  }
  return canonical(printIpv4(value))
}

/** Family of a canonical address. */
export function familyOf(address: IpAddress): Family {
  return address.indexOf(':') < 0 ? 4 : 6
}

/** IPv4 address as an unsigned 32-bit number in host order (192.0.2.1 is 0xc0000201). */
export function ipv4ToNumber(address: IpAddress): number {
  const value = readDottedQuad(address, 0)
  if (value < 0) throw new TypeError(`Cannot use "${address}" as a number: expected an IPv4 address`)
  return value
}

/** The inverse of `ipv4ToNumber`. */
export function ipv4FromNumber(value: number): IpAddress {
  return canonical(printIpv4(value >>> 0))
}

/** The four 32-bit words of an address as big-endian numbers; IPv4 in the first, the rest 0. */
export function addressWords(address: IpAddress): [number, number, number, number] {
  const quad = readDottedQuad(address, 0)
  if (quad >= 0) return [quad, 0, 0, 0]
  readIpv6(address)
  const word = (i: number): number => groups[i]! * 65536 + groups[i + 1]!
  return [word(0), word(2), word(4), word(6)]
}

/** Writes 16 bytes in network order: IPv4 in the first four, the rest 0. */
export function writeAddress(address: IpAddress, bytes: Uint8Array, offset: number): void {
  const quad = readDottedQuad(address, 0)
  if (quad >= 0) {
    bytes[offset] = quad >>> 24
    bytes[offset + 1] = quad >>> 16
    bytes[offset + 2] = quad >>> 8
    bytes[offset + 3] = quad
    bytes.fill(0, offset + 4, offset + 16)
    return
  }
  readIpv6(address)
  for (let i = 0; i < 8; i++) {
    const group = groups[i]!
    bytes[offset + 2 * i] = group >>> 8
    bytes[offset + 2 * i + 1] = group
  }
}

/** Wire bytes of an address: 4 or 16, in network order. */
export function addressToBytes(address: IpAddress): Uint8Array {
  const bytes = new Uint8Array(16)
  writeAddress(address, bytes, 0)
  return familyOf(address) === 4 ? bytes.subarray(0, 4) : bytes
}

/** Reads an address from wire bytes: 4 bytes for IPv4, 16 for IPv6. */
export function readAddress(bytes: Uint8Array, offset: number, family: Family): IpAddress {
  if (family === 4) {
    return canonical(`${bytes[offset]!}.${bytes[offset + 1]!}.${bytes[offset + 2]!}.${bytes[offset + 3]!}`)
  }
  for (let i = 0; i < 8; i++) {
    groups[i] = bytes[offset + 2 * i]! * 256 + bytes[offset + 2 * i + 1]!
  }
  return canonical(printIpv6())
}

/** 0.0.0.0 or ::. */
export function unspecified(family: Family): IpAddress {
  return canonical(family === 4 ? '0.0.0.0' : '::')
}

/** 224.0.0.0/4 (RFC 5771) or ff00::/8 (RFC 4291 §2.7). */
export function isMulticast(address: IpAddress): boolean {
  const first = addressWords(address)[0]
  return familyOf(address) === 4 ? first >>> 28 === 0xe : first >>> 24 === 0xff
}

/** fe80::/10 (RFC 4291 §2.5.6); IPv4 has no such rule in IPVS. */
export function isIpv6LinkLocal(address: IpAddress): boolean {
  return familyOf(address) === 6 && addressWords(address)[0] >>> 22 === 0x3fa
}
