/** Prefixes: the one place where text becomes one, and where they meet addresses. */
import {
  addressToBytes,
  addressWords,
  type Family,
  familyOf,
  type IpAddress,
  ipv4FromNumber,
  parseAddress,
  readAddress,
} from './address.ts'

export interface Prefix {
  readonly family: Family
  /** The bits behind the prefix are 0. */
  readonly address: IpAddress
  readonly length: number
}

export function bitsOf(family: Family): number {
  return family === 4 ? 32 : 128
}

/**
 * `10.0.0.0/8`, `2001:db8::/32`, or an address for itself alone.
 * @returns what is wrong with it, in words, where it is none
 */
export function parsePrefix(text: string): Prefix | string {
  const slash = text.indexOf('/')
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash))
  if (address === null) return `"${text}" is no prefix: expected 10.0.0.0/8, 2001:db8::/32 or an address`
  const family = familyOf(address)
  const bits = bitsOf(family)
  const digits = slash < 0 ? String(bits) : text.slice(slash + 1)
  if (!/^(0|[1-9]\d{0,2})$/.test(digits) || Number(digits) > bits) {
    return `"${text}" is no prefix: expected a length from 0 to ${bits} behind the slash`
  }
  const prefix = cut(address, Number(digits))
  if (prefix.address === address) return prefix
  return `"${text}" has bits behind its prefix: expected ${prefixText(prefix)}`
}

/** The prefix of this length that an address is in. */
export function cut(address: IpAddress, length: number): Prefix {
  const family = familyOf(address)
  const words = addressWords(address).map((word, i) => (word & maskWord(length, i)) >>> 0)
  if (family === 4) return { family, address: ipv4FromNumber(words[0]!), length }
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  words.forEach((word, i) => {
    view.setUint32(4 * i, word)
  })
  return { family, address: readAddress(bytes, 0, 6), length }
}

/** The address with all bits behind the prefix set. */
export function lastAddress({ family, address, length }: Prefix): IpAddress {
  const bytes = addressToBytes(address)
  for (let bit = length; bit < bitsOf(family); bit++) bytes[bit >> 3]! |= 0x80 >> (bit & 7)
  return readAddress(bytes, 0, family)
}

/** Word number `i` of the mask of a prefix, host order. */
export function maskWord(length: number, i: number): number {
  const bits = Math.min(32, Math.max(0, length - 32 * i))
  return bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0
}

export function prefixText({ address, length }: Prefix): string {
  return `${address}/${length}`
}

/** Whether some address is in both. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  if (a.family !== b.family) return false
  const length = Math.min(a.length, b.length)
  return cut(a.address, length).address === cut(b.address, length).address
}
