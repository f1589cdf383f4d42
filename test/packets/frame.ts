/**
 * Builds frames for tests. Every field has a right default and can be overridden, also with a wrong
 * value: lengths and checksums are filled in unless they are given.
 *
 *     ethernet({ src: CLIENT, dst: DIRECTOR }, ipv4({ src: '192.0.2.50', dst: '192.0.2.100' }, tcp({ dport: 80, flags: 'S' })))
 */
import { ETHERTYPE, PROTOCOL } from '../../net/packet/numbers.ts'
import {
  checksum,
  concat,
  crc32c,
  hex,
  ipBytes,
  macBytes,
  pseudoSum,
  putBe16,
  putBe32,
  unhex,
} from './bytes.ts'

export { ETHERTYPE, PROTOCOL }

interface Pseudo {
  readonly source: Uint8Array
  readonly destination: Uint8Array
}

/** What can stand behind an IP header: its protocol number, and its bytes once the addresses are known. */
export interface Segment {
  readonly protocol: number
  build(pseudo: Pseudo): Uint8Array
}

/** An IP packet; as a segment it is the payload of a tunnel. */
export interface IpPacket extends Segment {
  readonly etherType: number
  readonly bytes: Uint8Array
}

const DATA = new TextEncoder()
const asBytes = (payload: Uint8Array | string): Uint8Array =>
  typeof payload === 'string' ? DATA.encode(payload) : payload

/** Bytes of any protocol, as they are. */
export function raw(protocol: number, payload: Uint8Array | string): Segment {
  return { protocol, build: () => asBytes(payload) }
}

export interface EthernetFields {
  readonly src?: string
  readonly dst?: string
  /** Tags from the outside in: VLAN id, or priority and id, or everything. */
  readonly vlan?: readonly { readonly id: number; readonly priority?: number; readonly type?: number }[]
  readonly type?: number
  /** Zero bytes behind the packet. */
  readonly padding?: number
}

export function ethernet(fields: EthernetFields, payload: IpPacket | Uint8Array): Uint8Array {
  const isPacket = !(payload instanceof Uint8Array)
  const type = fields.type ?? (isPacket ? payload.etherType : ETHERTYPE.ipv4)
  const tags = (fields.vlan ?? []).map((tag) => {
    const bytes = new Uint8Array(4)
    putBe16(bytes, 0, tag.type ?? ETHERTYPE.vlan)
    putBe16(bytes, 2, ((tag.priority ?? 0) << 13) | tag.id)
    return bytes
  })
  const last = new Uint8Array(2)
  putBe16(last, 0, type)
  return concat(
    macBytes(fields.dst ?? '02:00:00:00:01:01'),
    macBytes(fields.src ?? '02:00:00:00:01:02'),
    ...tags,
    last,
    isPacket ? payload.bytes : payload,
    new Uint8Array(fields.padding ?? 0),
  )
}

export interface Ipv4Fields {
  readonly src: string
  readonly dst: string
  readonly ttl?: number
  readonly tos?: number
  readonly id?: number
  readonly df?: boolean
  readonly mf?: boolean
  /** In bytes, a multiple of 8. */
  readonly fragmentOffset?: number
  /** Option bytes; padded to a multiple of four. */
  readonly options?: Uint8Array
  readonly version?: number
  /** In 32-bit words. */
  readonly headerLength?: number
  readonly totalLength?: number
  readonly protocol?: number
  readonly checksum?: number
}

export function ipv4(fields: Ipv4Fields, payload: Segment): IpPacket {
  const source = ipBytes(fields.src)
  const destination = ipBytes(fields.dst)
  const body = payload.build({ source, destination })
  const options = fields.options ?? new Uint8Array(0)
  const header = new Uint8Array(20 + Math.ceil(options.length / 4) * 4)
  const flags = (fields.df ? 0x4000 : 0) | (fields.mf ? 0x2000 : 0) | ((fields.fragmentOffset ?? 0) >> 3)
  header[0] = ((fields.version ?? 4) << 4) | (fields.headerLength ?? header.length / 4)
  header[1] = fields.tos ?? 0
  putBe16(header, 2, fields.totalLength ?? header.length + body.length)
  putBe16(header, 4, fields.id ?? 0x1234)
  putBe16(header, 6, flags)
  header[8] = fields.ttl ?? 64
  header[9] = fields.protocol ?? payload.protocol
  header.set(source, 12)
  header.set(destination, 16)
  header.set(options, 20)
  putBe16(header, 10, fields.checksum ?? checksum(header))
  const bytes = concat(header, body)
  return { protocol: PROTOCOL.ipip, etherType: ETHERTYPE.ipv4, bytes, build: () => bytes }
}

/** One IPv6 extension header without its leading next-header byte (the builder chains them). */
export interface Extension {
  readonly protocol: number
  /** From the second byte on: length byte and contents. */
  readonly rest: Uint8Array
}

/** Options header (hop-by-hop or destination) of `units` times eight bytes filled with PadN (RFC 8200 §4.2). */
export function padOptions(protocol: number, units = 1): Extension {
  const rest = new Uint8Array(units * 8 - 1)
  rest[0] = units - 1
  rest[1] = 1
  rest[2] = units * 8 - 4
  return { protocol, rest }
}

/** Fragment header (RFC 8200 §4.5); offset in bytes. */
export function fragmentHeader(id: number, offset: number, more: boolean): Extension {
  const rest = new Uint8Array(7)
  putBe16(rest, 1, (offset & ~7) | (more ? 1 : 0))
  putBe32(rest, 3, id)
  return { protocol: PROTOCOL.fragment, rest }
}

export interface Ipv6Fields {
  readonly src: string
  readonly dst: string
  readonly hopLimit?: number
  readonly trafficClass?: number
  readonly flowLabel?: number
  readonly version?: number
  readonly payloadLength?: number
  readonly nextHeader?: number
  readonly extensions?: readonly Extension[]
}

export function ipv6(fields: Ipv6Fields, payload: Segment): IpPacket {
  const source = ipBytes(fields.src)
  const destination = ipBytes(fields.dst)
  const extensions = fields.extensions ?? []
  const chain = extensions.map((extension, i) =>
    concat(Uint8Array.of(extensions[i + 1]?.protocol ?? payload.protocol), extension.rest),
  )
  const body = concat(...chain, payload.build({ source, destination }))
  const header = new Uint8Array(40)
  putBe32(
    header,
    0,
    (fields.version ?? 6) * 0x10000000 + (fields.trafficClass ?? 0) * 0x100000 + (fields.flowLabel ?? 0),
  )
  putBe16(header, 4, fields.payloadLength ?? body.length)
  header[6] = fields.nextHeader ?? extensions[0]?.protocol ?? payload.protocol
  header[7] = fields.hopLimit ?? 64
  header.set(source, 8)
  header.set(destination, 24)
  const bytes = concat(header, body)
  return { protocol: PROTOCOL.ipv6, etherType: ETHERTYPE.ipv6, bytes, build: () => bytes }
}

/** The IP packet of either family, by the form of the source address. */
export function ip(
  fields: { readonly src: string; readonly dst: string; readonly ttl?: number },
  payload: Segment,
): IpPacket {
  const { src, dst, ttl = 64 } = fields
  return src.includes(':') ? ipv6({ src, dst, hopLimit: ttl }, payload) : ipv4({ src, dst, ttl }, payload)
}

const FLAGS = 'FSRPAUEC'

/** Flag letters in tcpdump's manner (`S`, `SA`, `FA`) as the flags byte of RFC 9293 §3.1. */
export function tcpFlags(letters: string): number {
  let flags = 0
  for (const letter of letters) {
    const bit = FLAGS.indexOf(letter)
    if (bit < 0)
      throw new Error(`Cannot parse TCP flag ${JSON.stringify(letter)}: expected letters of ${FLAGS}`)
    flags |= 1 << bit
  }
  return flags
}

export interface TcpFields {
  readonly sport?: number
  readonly dport?: number
  readonly seq?: number
  readonly ack?: number
  readonly flags?: string
  readonly window?: number
  readonly options?: Uint8Array
  /** In 32-bit words. */
  readonly dataOffset?: number
  readonly checksum?: number
}

export function tcp(fields: TcpFields, payload: Uint8Array | string = ''): Segment {
  return {
    protocol: PROTOCOL.tcp,
    build({ source, destination }) {
      const options = fields.options ?? new Uint8Array(0)
      const header = new Uint8Array(20 + Math.ceil(options.length / 4) * 4)
      putBe16(header, 0, fields.sport ?? 40001)
      putBe16(header, 2, fields.dport ?? 80)
      putBe32(header, 4, fields.seq ?? 1000)
      putBe32(header, 8, fields.ack ?? 0)
      header[12] = (fields.dataOffset ?? header.length / 4) << 4
      header[13] = tcpFlags(fields.flags ?? 'A')
      putBe16(header, 14, fields.window ?? 64240)
      header.set(options, 20)
      const bytes = concat(header, asBytes(payload))
      const sum = checksum(bytes, pseudoSum(source, destination, PROTOCOL.tcp, bytes.length))
      putBe16(bytes, 16, fields.checksum ?? sum)
      return bytes
    },
  }
}

export interface UdpFields {
  readonly sport?: number
  readonly dport?: number
  readonly length?: number
  readonly checksum?: number
}

export function udp(fields: UdpFields, payload: Uint8Array | string | IpPacket = 'data'): Segment {
  return {
    protocol: PROTOCOL.udp,
    build({ source, destination }) {
      const data =
        typeof payload === 'string' || payload instanceof Uint8Array ? asBytes(payload) : payload.bytes
      const bytes = concat(new Uint8Array(8), data)
      putBe16(bytes, 0, fields.sport ?? 40001)
      putBe16(bytes, 2, fields.dport ?? 53)
      putBe16(bytes, 4, fields.length ?? bytes.length)
      const sum = checksum(bytes, pseudoSum(source, destination, PROTOCOL.udp, bytes.length))
      // RFC 768: a computed zero is sent as all ones, zero means "not computed".
      putBe16(bytes, 6, fields.checksum ?? (sum === 0 ? 0xffff : sum))
      return bytes
    },
  }
}

/** Types of chunks (RFC 9260 §3.2). */
export const CHUNK = {
  data: 0,
  init: 1,
  initAck: 2,
  abort: 6,
  shutdown: 7,
  shutdownAck: 8,
  error: 9,
  cookieEcho: 10,
  cookieAck: 11,
  shutdownComplete: 14,
} as const

export interface Chunk {
  readonly type: number
  readonly value?: Uint8Array | string
  readonly length?: number
}

export interface SctpFields {
  readonly sport?: number
  readonly dport?: number
  readonly tag?: number
  readonly crc?: number
}

/** Chunks, or whatever else stands behind the common header. */
export function sctp(fields: SctpFields, chunks: readonly Chunk[] | Uint8Array): Segment {
  return {
    protocol: PROTOCOL.sctp,
    build() {
      const header = new Uint8Array(12)
      putBe16(header, 0, fields.sport ?? 40001)
      putBe16(header, 2, fields.dport ?? 36412)
      putBe32(header, 4, fields.tag ?? 0x11112222)
      const bytes = concat(header, ...(chunks instanceof Uint8Array ? [chunks] : chunks.map(chunkBytes)))
      // Lowest byte first, unlike everything else here (RFC 9260 appendix A).
      new DataView(bytes.buffer).setUint32(8, fields.crc ?? crc32c(bytes), true)
      return bytes
    },
  }
}

function chunkBytes({ type, value = '', length }: Chunk): Uint8Array {
  const content = asBytes(value)
  const bytes = new Uint8Array(4 + Math.ceil(content.length / 4) * 4)
  bytes[0] = type
  putBe16(bytes, 2, length ?? 4 + content.length)
  bytes.set(content, 4)
  return bytes
}

export interface IcmpFields {
  readonly type: number
  readonly code?: number
  /** The four bytes behind the checksum (unused, MTU, id and sequence). */
  readonly rest?: number
  readonly checksum?: number
}

export function icmp(fields: IcmpFields, payload: Uint8Array | string | IpPacket = ''): Segment {
  return {
    protocol: PROTOCOL.icmp,
    build() {
      const bytes = icmpBytes(fields, payload)
      putBe16(bytes, 2, fields.checksum ?? checksum(bytes))
      return bytes
    },
  }
}

export function icmpv6(fields: IcmpFields, payload: Uint8Array | string | IpPacket = ''): Segment {
  return {
    protocol: PROTOCOL.icmpv6,
    build({ source, destination }) {
      const bytes = icmpBytes(fields, payload)
      const sum = checksum(bytes, pseudoSum(source, destination, PROTOCOL.icmpv6, bytes.length))
      putBe16(bytes, 2, fields.checksum ?? sum)
      return bytes
    },
  }
}

function icmpBytes(fields: IcmpFields, payload: Uint8Array | string | IpPacket): Uint8Array {
  const data = typeof payload === 'string' || payload instanceof Uint8Array ? asBytes(payload) : payload.bytes
  const bytes = concat(new Uint8Array(8), data)
  bytes[0] = fields.type
  bytes[1] = fields.code ?? 0
  putBe32(bytes, 4, fields.rest ?? 0)
  return bytes
}

/** A copy of a frame with some bytes replaced, given as hexadecimal text. */
export function patch(frame: Uint8Array, at: number, hexText: string): Uint8Array {
  const copy = Uint8Array.from(frame)
  const bytes = unhex(hexText)
  if (at + bytes.length > copy.length) {
    throw new Error(`Cannot patch ${hex(bytes)} at ${at}: the frame has ${copy.length} bytes`)
  }
  copy.set(bytes, at)
  return copy
}
