/** Small, slow, obvious tools for bytes on a wire: addresses, hexadecimal text, Internet checksums. */
import { isIPv4, isIPv6 } from 'node:net'

export {
  be16,
  be32,
  checksum,
  concat,
  hex,
  ipText,
  macText,
  onesSum,
  pseudoSum,
  putBe16,
  putBe32,
} from '../../net/packet/bytes.ts'

/** `02:00:00:00:01:01` as six bytes. */
export function macBytes(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new Error(
      `Cannot parse MAC address ${JSON.stringify(text)}: expected six pairs of hexadecimal digits`,
    )
  }
  return Uint8Array.from(text.split(':'), (pair) => Number.parseInt(pair, 16))
}

/** 4 or 16 bytes in network order, from the text of an IPv4 or IPv6 address. */
export function ipBytes(text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number)
  if (!isIPv6(text)) throw new Error(`Cannot parse IP address ${JSON.stringify(text)}: expected IPv4 or IPv6`)
  // The dotted tail of IPv4-mapped addresses counts as two groups.
  const plain = text.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) => {
    const group = (high: string, low: string) => ((Number(high) << 8) | Number(low)).toString(16)
    return `${group(a, b)}:${group(c, d)}`
  })
  const [head = '', tail] = plain.split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':').map((g) => Number.parseInt(g, 16)))
  const left = groups(head)
  const right = tail === undefined ? [] : groups(tail)
  const middle = tail === undefined ? [] : new Array<number>(8 - left.length - right.length).fill(0)
  return Uint8Array.from([...left, ...middle, ...right].flatMap((g) => [g >> 8, g & 255]))
}

export function unhex(text: string): Uint8Array {
  const bytes = Uint8Array.from(Buffer.from(text, 'hex'))
  if (bytes.length * 2 !== text.length)
    throw new Error(`Cannot parse hexadecimal text of ${text.length} digits`)
  return bytes
}

/** CRC-32C bit by bit, as RFC 9260 appendix A defines it. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0)
  }
  return ~crc >>> 0
}
