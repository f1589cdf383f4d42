/**
 * Writing captures as Wireshark reads them (draft-ietf-opsawg-pcapng): blocks as bytes, one after the other. Blocks and
 * options are padded to 32 bits, and lengths leave the padding out.
 */

const SECTION = 0x0a0d0d0a
const BYTE_ORDER = 0x1a2b3c4d
const INTERFACE = 1
const STATISTICS = 5
const PACKET = 6
const ETHERNET = 1

const Option = {
  end: 0,
  comment: 1,
  sectionApplication: 4,
  interfaceName: 2,
  interfaceResolution: 9,
  packetFlags: 2,
  packetId: 5,
  statisticsReceived: 4,
  statisticsDropped: 5,
} as const

/** Time stamps are in 10^-9 s. */
const NANOSECONDS = 9

interface OptionValue {
  readonly code: number
  readonly value: Uint8Array
}

/** Longer ones would not fit an option. */
const TEXT_MAX = 4096

const text = (code: number, value: string): OptionValue => ({
  code,
  value: new TextEncoder().encode(value).subarray(0, TEXT_MAX),
})

function number(code: number, value: bigint, bytes: 4 | 8): OptionValue {
  const view = new DataView(new ArrayBuffer(8))
  view.setBigUint64(0, value, true)
  return { code, value: new Uint8Array(view.buffer, 0, bytes) }
}

const padded = (length: number): number => (length + 3) & ~3

function block(type: number, body: readonly Uint8Array[], options: readonly OptionValue[]): Uint8Array {
  const sizes = options.reduce((sum, { value }) => sum + 4 + padded(value.length), options.length > 0 ? 4 : 0)
  const length = 12 + body.reduce((sum, part) => sum + padded(part.length), 0) + sizes
  const bytes = new Uint8Array(length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, type, true)
  view.setUint32(4, length, true)
  let at = 8
  for (const part of body) {
    bytes.set(part, at)
    at += padded(part.length)
  }
  for (const { code, value } of options) {
    view.setUint16(at, code, true)
    view.setUint16(at + 2, value.length, true)
    bytes.set(value, at + 4)
    at += 4 + padded(value.length)
  }
  view.setUint32(length - 4, length, true)
  return bytes
}

export function sectionBlock(application: string, comment: string): Uint8Array {
  const head = new DataView(new ArrayBuffer(16))
  head.setUint32(0, BYTE_ORDER, true)
  head.setUint16(4, 1, true)
  // How long the section gets nobody knows yet.
  head.setBigInt64(8, -1n, true)
  return block(
    SECTION,
    [new Uint8Array(head.buffer)],
    [text(Option.comment, comment), text(Option.sectionApplication, application)],
  )
}

/** Interfaces count from 0, in the order of their blocks. */
export function interfaceBlock(name: string, snap: number): Uint8Array {
  const head = new DataView(new ArrayBuffer(8))
  head.setUint16(0, ETHERNET, true)
  head.setUint32(4, snap, true)
  return block(
    INTERFACE,
    [new Uint8Array(head.buffer)],
    [
      text(Option.interfaceName, name),
      { code: Option.interfaceResolution, value: Uint8Array.of(NANOSECONDS) },
    ],
  )
}

export interface PacketOut {
  /** Number of its interface. */
  readonly at: number
  /** Since the epoch. */
  readonly timeNs: bigint
  readonly direction: 'in' | 'out'
  /** The same for all records of one packet. */
  readonly packet: bigint
  readonly bytes: Uint8Array
  /** On the wire. */
  readonly length: number
  readonly comment: string
}

export function packetBlock({
  at,
  timeNs,
  direction,
  packet,
  bytes,
  length,
  comment,
}: PacketOut): Uint8Array {
  const head = new DataView(new ArrayBuffer(20))
  head.setUint32(0, at, true)
  head.setUint32(4, Number(timeNs >> 32n), true)
  head.setUint32(8, Number(timeNs & 0xffff_ffffn), true)
  head.setUint32(12, bytes.length, true)
  head.setUint32(16, length, true)
  return block(
    PACKET,
    [new Uint8Array(head.buffer), bytes],
    [
      ...(comment === '' ? [] : [text(Option.comment, comment)]),
      number(Option.packetFlags, direction === 'in' ? 1n : 2n, 4),
      number(Option.packetId, packet, 8),
    ],
  )
}

export interface Statistics {
  readonly at: number
  readonly timeNs: bigint
  readonly received: number
  readonly lost: number
  readonly comment: string
}

export function statisticsBlock({ at, timeNs, received, lost, comment }: Statistics): Uint8Array {
  const head = new DataView(new ArrayBuffer(12))
  head.setUint32(0, at, true)
  head.setUint32(4, Number(timeNs >> 32n), true)
  head.setUint32(8, Number(timeNs & 0xffff_ffffn), true)
  return block(
    STATISTICS,
    [new Uint8Array(head.buffer)],
    [
      text(Option.comment, comment),
      number(Option.statisticsReceived, BigInt(received), 8),
      number(Option.statisticsDropped, BigInt(lost), 8),
    ],
  )
}

export interface StatisticsRead {
  readonly received: number
  readonly lost: number
  readonly comment: string
}

/** Reads, of a capture as it comes, what its statistics say. */
export class StatisticsReader {
  #rest = new Uint8Array(0)
  #read: StatisticsRead | null = null

  get statistics(): StatisticsRead | null {
    return this.#read
  }

  push(piece: Uint8Array): void {
    const bytes = new Uint8Array(this.#rest.length + piece.length)
    bytes.set(this.#rest)
    bytes.set(piece, this.#rest.length)
    const view = new DataView(bytes.buffer)
    let at = 0
    while (at + 8 <= bytes.length) {
      const length = view.getUint32(at + 4, true)
      if (length < 12 || length % 4 !== 0) throw new Error(`Cannot read a block of ${length} bytes`)
      if (at + length > bytes.length) break
      if (view.getUint32(at, true) === STATISTICS) this.#add(bytes.subarray(at + 20, at + length - 4))
      at += length
    }
    this.#rest = bytes.slice(at)
  }

  #add(options: Uint8Array): void {
    const view = new DataView(options.buffer, options.byteOffset, options.length)
    let { received, lost, comment } = this.#read ?? { received: 0, lost: 0, comment: '' }
    for (let at = 0; at + 4 <= options.length; ) {
      const code = view.getUint16(at, true)
      const length = view.getUint16(at + 2, true)
      if (code === Option.end || at + 4 + length > options.length) break
      if (code === Option.statisticsReceived) received += Number(view.getBigUint64(at + 4, true))
      if (code === Option.statisticsDropped) lost += Number(view.getBigUint64(at + 4, true))
      if (code === Option.comment)
        comment = new TextDecoder().decode(options.subarray(at + 4, at + 4 + length))
      at += 4 + padded(length)
    }
    this.#read = { received, lost, comment }
  }
}
