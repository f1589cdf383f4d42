/**
 * Frames compared after reassembly. Kernel IPVS puts a fragmented datagram together and cuts it anew; the packet
 * program sends each fragment on as it comes, also through tunnels, where the kernel cuts the outer packet. What
 * the real server or the client has in the end is the same datagram, and that is what is compared here.
 */
import { be16, be32, concat, ipText, putBe16, putBe32, unhex } from './bytes.ts'
import type { Captured } from './compare.ts'
import { decode, diff } from './decode.ts'
import { ETHERTYPE, PROTOCOL } from './frame.ts'
import type { WireFrame } from './vectors.ts'

const ETHERNET = 14
/** Of the recordings. */
const GUE_PORT = 6080

interface Fragment {
  readonly offset: number
  readonly more: boolean
  readonly payload: Uint8Array
}

/** An IP packet taken apart as far as fragments are concerned. */
interface Packet {
  /** What fragments of one datagram have in common. */
  readonly key: string
  /** The packet without its payload, and without anything about fragments. */
  readonly header: Uint8Array
  readonly protocol: number
  readonly fragment: Fragment | null
  readonly payload: Uint8Array
}

const EXTENSIONS: readonly number[] = [PROTOCOL.hopByHop, PROTOCOL.routing, PROTOCOL.destination]

function parse(bytes: Uint8Array): Packet | null {
  const version = (bytes[0] ?? 0) >> 4
  if (version === 4 && bytes.length >= 20) {
    const size = ((bytes[0] ?? 0) & 15) * 4
    const header = Uint8Array.from(bytes.subarray(0, size))
    const flags = be16(header, 6)
    const payload = bytes.subarray(size, be16(header, 2))
    const protocol = header[9] ?? 0
    const key = `${ipText(header.subarray(12, 16))} ${ipText(header.subarray(16, 20))} ${protocol} ${be16(header, 4)}`
    putBe16(header, 6, 0)
    putBe16(header, 10, 0)
    const offset = (flags & 0x1fff) * 8
    const more = (flags & 0x2000) !== 0
    return { key, header, protocol, payload, fragment: offset > 0 || more ? { offset, more, payload } : null }
  }
  if (version === 6 && bytes.length >= 40) {
    const end = 40 + be16(bytes, 4)
    let at = 40
    let next = 6
    let protocol = bytes[6] ?? 0
    while (EXTENSIONS.includes(protocol)) {
      next = at
      protocol = bytes[at] ?? 0
      at += ((bytes[at + 1] ?? 0) + 1) * 8
    }
    const header = Uint8Array.from(bytes.subarray(0, at))
    if (protocol !== PROTOCOL.fragment)
      return { key: '', header, protocol, payload: bytes.subarray(at, end), fragment: null }
    const inner = bytes[at] ?? 0
    header[next] = inner
    const word = be16(bytes, at + 2)
    const payload = bytes.subarray(at + 8, end)
    const key = `${ipText(header.subarray(8, 24))} ${ipText(header.subarray(24, 40))} ${be32(bytes, at + 4)}`
    const fragment = { offset: word & ~7, more: (word & 1) !== 0, payload }
    // RFC 6946: a fragment that is all of its datagram.
    return {
      key,
      header,
      protocol: inner,
      payload,
      fragment: fragment.offset > 0 || fragment.more ? fragment : null,
    }
  }
  return null
}

/** The packet in one piece: its length is right, fields that fragments leave open are zero. */
function whole(header: Uint8Array, payload: Uint8Array): Uint8Array {
  const bytes = concat(header, payload)
  if ((bytes[0] ?? 0) >> 4 === 4) putBe16(bytes, 2, bytes.length)
  else putBe16(bytes, 4, bytes.length - 40)
  return bytes
}

/** Bytes between a tunnel's outer header and the packet inside, with what is generated taken out; null if there is none. */
function shimOf(packet: Packet): Uint8Array | null {
  const { protocol, payload } = packet
  if (protocol === PROTOCOL.ipip || protocol === PROTOCOL.ipv6) return new Uint8Array(0)
  if (protocol === PROTOCOL.gre) {
    const shim = Uint8Array.from(payload.subarray(0, (be16(payload, 0) & 0x8000) !== 0 ? 8 : 4))
    if (shim.length === 8) putBe32(shim, 4, 0)
    return shim
  }
  if (protocol === PROTOCOL.udp && payload.length > 12 && be16(payload, 2) === GUE_PORT) {
    const shim = Uint8Array.from(payload.subarray(0, 12))
    for (const at of [0, 4, 6]) putBe16(shim, at, 0)
    return shim
  }
  return null
}

/** Datagrams that are not complete yet, by wire and headers. */
class Datagrams {
  readonly #pieces = new Map<string, { header: Uint8Array; pieces: Fragment[] }>()

  get areWhole(): boolean {
    return this.#pieces.size === 0
  }

  /** The packet this one completes, which is itself if it is no fragment; null while some are missing. */
  put(around: string, packet: Packet): Packet | null {
    if (packet.fragment === null) return packet
    const key = `${around} ${packet.key}`
    const known = this.#pieces.get(key) ?? { header: packet.header, pieces: [] }
    known.pieces.push(packet.fragment)
    if (packet.fragment.offset === 0) known.header = packet.header
    this.#pieces.set(key, known)
    const sorted = known.pieces.toSorted((a, b) => a.offset - b.offset)
    let at = 0
    for (const { offset, payload } of sorted) {
      if (offset !== at) return null
      at += payload.length
    }
    if (sorted.at(-1)?.more !== false) return null
    this.#pieces.delete(key)
    return {
      ...packet,
      header: known.header,
      payload: concat(...sorted.map(({ payload }) => payload)),
      fragment: null,
    }
  }
}

/** Turns frames into whole ones. One per side and vector: a datagram may take several steps. */
class Reassembly {
  readonly #outer = new Datagrams()
  readonly #inner = new Datagrams()

  get isWhole(): boolean {
    return this.#outer.areWhole && this.#inner.areWhole
  }

  put(wire: string, frame: Uint8Array): Uint8Array | null {
    const link = frame.subarray(0, ETHERNET)
    const parsed = parse(frame.subarray(ETHERNET))
    if (parsed === null) return frame
    const outer = this.#outer.put(wire, parsed)
    if (outer === null) return null
    const shim = shimOf(outer)
    const inside = shim === null ? null : parse(outer.payload.subarray(shim.length))
    if (shim === null || inside === null) return concat(link, whole(outer.header, outer.payload))
    const inner = this.#inner.put(`${wire} ${parsed.protocol}`, inside)
    if (inner === null) return null
    const header = Uint8Array.from(outer.header)
    if ((header[0] ?? 0) >> 4 === 4) putBe16(header, 4, 0)
    return concat(link, whole(header, concat(shim, whole(inner.header, inner.payload))))
  }
}

/** Whether some of a datagram's fragments are there, and others not. */
export function isInPieces(frames: readonly Captured[]): boolean {
  const reassembly = new Reassembly()
  for (const { wire, frame } of frames) reassembly.put(wire, frame)
  return !reassembly.isWhole
}

export function isFragment(frame: Uint8Array): boolean {
  const type = be16(frame, 12)
  if (type !== ETHERTYPE.ipv4 && type !== ETHERTYPE.ipv6) return false
  const packet = parse(frame.subarray(ETHERNET))
  if (packet === null) return false
  if (packet.fragment !== null || (packet.key !== '' && type === ETHERTYPE.ipv6)) return true
  const shim = shimOf(packet)
  const inner = shim === null ? null : parse(packet.payload.subarray(shim.length))
  return (
    inner !== null && (inner.fragment !== null || (inner.key !== '' && (inner.header[0] ?? 0) >> 4 === 6))
  )
}

/** The two sides of a vector with fragments. */
export class Fragments {
  readonly #wanted = new Reassembly()
  readonly #got = new Reassembly()
  #seen = false

  /** Whether this step is to be compared here: it has fragments, or the vector has had some. */
  concerns(expected: readonly WireFrame[], got: readonly Captured[]): boolean {
    this.#seen ||= [...expected.map(({ frame }) => unhex(frame)), ...got.map(({ frame }) => frame)].some(
      isFragment,
    )
    return this.#seen
  }

  /** Lines that tell the differences of one step, empty when all is well. */
  compare(expected: readonly WireFrame[], got: readonly Captured[]): string[] {
    const problems: string[] = []
    for (const wire of ['c', 'r'] as const) {
      const wanted = expected
        .filter((frame) => frame.wire === wire)
        .map(({ frame }) => this.#wanted.put(wire, unhex(frame)))
        .filter((frame) => frame !== null)
      const came = got
        .filter((frame) => frame.wire === wire)
        .map(({ frame }) => this.#got.put(wire, frame))
        .filter((frame) => frame !== null)
      for (let i = 0; i < Math.max(wanted.length, came.length); i++) {
        const want = wanted[i]
        const have = came[i]
        if (want === undefined && have !== undefined)
          problems.push(`on wire ${wire}: not expected`, ...decode(have).map((line) => `  + ${line}`))
        else if (have === undefined && want !== undefined)
          problems.push(
            `on wire ${wire}: missing, put together`,
            ...decode(want).map((line) => `  - ${line}`),
          )
        else if (
          want !== undefined &&
          have !== undefined &&
          Buffer.compare(want, have.subarray(0, want.length)) !== 0
        )
          problems.push(`on wire ${wire}: different, put together`, ...diff(want, have))
      }
    }
    return problems
  }
}
