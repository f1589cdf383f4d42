/** A packet as somebody describes it: in words, or as the bytes of its frame. */
import { familyOf, type IpAddress } from '../../../net/address.ts'
import { parseEndpoint } from '../../../net/endpoint.ts'
import { buildFrame, TCP_FLAGS, type TcpFlag } from '../../../net/packet/build.ts'
import { PROTOCOLS, type Protocol } from '../../../net/protocol.ts'

/** It cannot be read; in words for whoever wrote it. */
export class PacketError extends Error {
  override readonly name = 'PacketError'
}

export interface PacketInWords {
  readonly protocol: Protocol
  readonly from: { readonly address: IpAddress; readonly port: number }
  readonly to: { readonly address: IpAddress; readonly port: number }
  readonly flags: readonly TcpFlag[]
}

const USAGE = 'expected: pointsman explain tcp 198.51.100.7:40000 192.0.2.10:80'

/** @param words protocol, client, virtual address */
export function packetInWords(
  [word = '', from = '', to = '', ...more]: readonly string[],
  flags: string | undefined,
): PacketInWords {
  if (to === '' || more.length > 0) throw new PacketError(`Cannot read the packet: ${USAGE}`)
  const protocol = PROTOCOLS.find((name) => name === word)
  if (protocol === undefined)
    throw new PacketError(
      `Cannot explain a packet of "${word}": expected tcp, udp or sctp; others by --capture FILE`,
    )
  const ends = { from: endOf(from), to: endOf(to) }
  if (familyOf(ends.from.address) !== familyOf(ends.to.address))
    throw new PacketError(`Cannot send from ${from} to ${to}: one is IPv4 and the other IPv6`)
  return { protocol, ...ends, flags: flagsOf(flags ?? 'syn', protocol) }
}

function endOf(text: string): PacketInWords['from'] {
  const endpoint = parseEndpoint(text)
  if (endpoint === null || endpoint.port === null)
    throw new PacketError(
      `Cannot read "${text}": expected an address with a port, 192.0.2.10:80 or [2001:db8::1]:80`,
    )
  return { address: endpoint.address, port: endpoint.port }
}

function flagsOf(text: string, protocol: Protocol): TcpFlag[] {
  if (protocol !== 'tcp') return []
  return text.split(',').map((word) => {
    if (!Object.hasOwn(TCP_FLAGS, word))
      throw new PacketError(
        `Unknown TCP flag "${word}": expected ${Object.keys(TCP_FLAGS).join(', ')}, with commas between them`,
      )
    return word as TcpFlag
  })
}

/** Of somebody on the link; the program does not look at it. */
const SOMEBODY = Uint8Array.of(2, 0, 0, 0, 0, 1)

/** As it comes to an interface with this MAC address. */
export function frameOf(packet: PacketInWords, destinationMac: Uint8Array): Uint8Array {
  return buildFrame({ ...packet, sourceMac: SOMEBODY, destinationMac })
}

/** Larger than a jumbo frame. */
const FRAME_MAX = 9216
const ETHERNET = 14

/** Where a row stands in the frame: told from its bytes by a colon, or by the room behind it. */
const PLACE = /^\s*(?:0x)?[0-9a-f]{4,8}(?::\s*|\s{2,3})(?=\S)/i

/** A frame as tcpdump -xx, Wireshark and hexdump write one; an IP packet without a link layer gets one. */
export function frameOfHex(text: string, destinationMac: Uint8Array): Uint8Array {
  const digits = text
    .split('\n')
    // Places in front of rows, and what a row would be as text behind it.
    .map((line) => line.replace(PLACE, '').replace(/\s{2,}\S.*$/, ''))
    .join('')
    .replace(/0x|[\s:,-]/gi, '')
  const wrong = /[^0-9a-f]/i.exec(digits)
  if (wrong !== null)
    throw new PacketError(`Cannot read "${wrong[0]}" in the frame: expected hexadecimal digits`)
  if (digits.length % 2 !== 0)
    throw new PacketError(`Cannot read the frame: it has ${digits.length} digits, expected two for each byte`)
  if (digits.length === 0) throw new PacketError('Cannot read the frame: it has no bytes')
  if (digits.length / 2 > FRAME_MAX)
    throw new PacketError(`Cannot take a frame of ${digits.length / 2} bytes: expected at most ${FRAME_MAX}`)
  const bytes = Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
  const version = bareVersion(bytes)
  if (version === null) return bytes
  const frame = new Uint8Array(ETHERNET + bytes.length)
  frame.set(destinationMac)
  frame.set(SOMEBODY, 6)
  frame.set(version === 4 ? [0x08, 0x00] : [0x86, 0xdd], 12)
  frame.set(bytes, ETHERNET)
  return frame
}

/** Of a packet that begins with its IP header: what it says of its length is right. */
function bareVersion(bytes: Uint8Array): 4 | 6 | null {
  const first = bytes[0] ?? 0
  if (first === 0x45 && bytes.length >= 20 && (bytes[2]! << 8) + bytes[3]! === bytes.length) return 4
  if (first >> 4 === 6 && bytes.length >= 40 && (bytes[4]! << 8) + bytes[5]! + 40 === bytes.length) return 6
  return null
}
