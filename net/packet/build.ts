/** Whole frames of one segment or datagram without payload, as a client's machine would send them. */
import type { IpAddress } from '../address.ts'
import { addressToBytes, familyOf } from '../address.ts'
import { PROTOCOL_NUMBERS, type Protocol } from '../protocol.ts'
import { checksum, concat, pseudoSum, putBe16, putBe32 } from './bytes.ts'
import { ETHERTYPE } from './numbers.ts'

export const TCP_FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32 } as const
export type TcpFlag = keyof typeof TCP_FLAGS

export interface PacketWanted {
  readonly protocol: Protocol
  readonly from: { readonly address: IpAddress; readonly port: number }
  readonly to: { readonly address: IpAddress; readonly port: number }
  /** TCP. */
  readonly flags: readonly TcpFlag[]
  readonly sourceMac: Uint8Array
  readonly destinationMac: Uint8Array
}

const TTL = 64

export function buildFrame(wanted: PacketWanted): Uint8Array {
  const source = addressToBytes(wanted.from.address)
  const destination = addressToBytes(wanted.to.address)
  const number = PROTOCOL_NUMBERS[wanted.protocol]
  const segment = transport(wanted)
  const at = { tcp: 16, udp: 6, sctp: null }[wanted.protocol]
  if (at !== null) {
    const sum = checksum(segment, pseudoSum(source, destination, number, segment.length))
    // RFC 768: a sum that comes to zero is sent as all ones, since zero means that there is none.
    putBe16(segment, at, sum === 0 && wanted.protocol === 'udp' ? 0xffff : sum)
  }
  const six = familyOf(wanted.to.address) === 6
  const header = six
    ? ipv6(source, destination, number, segment.length)
    : ipv4(source, destination, number, segment.length)
  const type = new Uint8Array(2)
  putBe16(type, 0, six ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4)
  return concat(wanted.destinationMac, wanted.sourceMac, type, header, segment)
}

function transport({ protocol, from, to, flags }: PacketWanted): Uint8Array {
  const bytes = new Uint8Array({ tcp: 20, udp: 8, sctp: 16 }[protocol])
  putBe16(bytes, 0, from.port)
  putBe16(bytes, 2, to.port)
  switch (protocol) {
    case 'tcp':
      putBe32(bytes, 4, 1)
      bytes[12] = 5 << 4
      bytes[13] = flags.reduce((all, flag) => all | TCP_FLAGS[flag], 0)
      putBe16(bytes, 14, 0xffff)
      break
    case 'udp':
      putBe16(bytes, 4, bytes.length)
      break
    case 'sctp':
      // An INIT chunk begins an association (RFC 9260 §3.3.2).
      bytes[12] = 1
      putBe16(bytes, 14, 4)
      break
    default:
      protocol satisfies never
  }
  return bytes
}

function ipv4(source: Uint8Array, destination: Uint8Array, protocol: number, length: number): Uint8Array {
  const header = new Uint8Array(20)
  header[0] = 0x45
  putBe16(header, 2, 20 + length)
  putBe16(header, 6, 0x4000)
  header[8] = TTL
  header[9] = protocol
  header.set(source, 12)
  header.set(destination, 16)
  putBe16(header, 10, checksum(header))
  return header
}

function ipv6(source: Uint8Array, destination: Uint8Array, protocol: number, length: number): Uint8Array {
  const header = new Uint8Array(40)
  header[0] = 0x60
  putBe16(header, 4, length)
  header[6] = protocol
  header[7] = TTL
  header.set(source, 8)
  header.set(destination, 24)
  return header
}
