/**
 * Frames out of capture files, pcap (either byte order, micro- or nanoseconds) and pcapng, one after the other:
 * a file may be larger than memory, and anybody may have written it.
 */
import { closeSync, openSync, readSync } from 'node:fs'

export interface CapturedFrame {
  /** From 1, as Wireshark counts. */
  readonly number: number
  readonly bytes: Uint8Array
  /** Bytes on the wire, where the capture was cut. */
  readonly length: number
}

/** The file is no capture, or is damaged; in words for whoever named it. */
export class CaptureError extends Error {
  override readonly name = 'CaptureError'
}

/** Larger than any frame; what says that it is longer is damaged. */
const FRAME_MAX = 1 << 18
const BLOCK_MAX = 1 << 20
const ETHERNET = 1
/** Packets without a link layer: an Ethernet header is put in front of them. */
const RAW_IP = new Set([12, 101, 228, 229])

export function* readCapture(path: string): Generator<CapturedFrame> {
  const file = openSync(path, 'r')
  try {
    const source = new Source(file, path)
    const magic = source.take(4)
    if (magic === null) throw new CaptureError(`${path} is empty`)
    const number = new DataView(magic.buffer, magic.byteOffset, 4).getUint32(0, true)
    if (number === 0x0a0d0d0a) yield* readPcapng(source)
    else if (PCAP.has(number)) yield* readPcap(source, PCAP.get(number)!)
    else throw new CaptureError(`${path} is no capture file: expected pcap or pcapng`)
  } finally {
    closeSync(file)
  }
}

/** Magic numbers as a little-endian machine reads them, and whether the file is little-endian. */
const PCAP: ReadonlyMap<number, boolean> = new Map([
  [0xa1b2c3d4, true],
  [0xa1b23c4d, true],
  [0xd4c3b2a1, false],
  [0x4d3cb2a1, false],
])

/** Reads ahead in large pieces, hands out small ones. */
class Source {
  readonly path: string
  readonly #file: number
  #piece = new Uint8Array(0)
  #at = 0

  constructor(file: number, path: string) {
    this.#file = file
    this.path = path
  }

  /** null at the end of the file. */
  take(length: number): Uint8Array | null {
    if (this.#piece.length - this.#at < length) this.#read(length)
    const left = this.#piece.length - this.#at
    if (left === 0) return null
    if (left < length) throw this.damaged('it is cut short')
    this.#at += length
    return this.#piece.subarray(this.#at - length, this.#at)
  }

  /** The rest of something that has begun. */
  rest(length: number): Uint8Array {
    const bytes = length === 0 ? new Uint8Array(0) : this.take(length)
    if (bytes === null) throw this.damaged('it is cut short')
    return bytes
  }

  #read(length: number): void {
    const left = this.#piece.subarray(this.#at)
    const next = new Uint8Array(Math.max(BLOCK_MAX, length + left.length))
    next.set(left)
    let filled = left.length
    while (filled < next.length) {
      const read = readSync(this.#file, next, filled, next.length - filled, null)
      if (read === 0) break
      filled += read
    }
    this.#piece = next.subarray(0, filled)
    this.#at = 0
  }

  damaged(what: string): CaptureError {
    return new CaptureError(`Cannot read ${this.path} any further: ${what}`)
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function* readPcap(source: Source, little: boolean): Generator<CapturedFrame> {
  const link = viewOf(source.rest(20)).getUint32(16, little) & 0xffff
  for (let number = 1; ; number++) {
    const head = source.take(16)
    if (head === null) return
    const view = viewOf(head)
    const [kept, length] = [view.getUint32(8, little), view.getUint32(12, little)]
    if (kept > FRAME_MAX) throw source.damaged(`frame ${number} says that it has ${kept} bytes`)
    yield { number, bytes: framed(source.rest(kept), link, source), length }
  }
}

const SECTION = 0x0a0d0d0a
const INTERFACE = 1
const SIMPLE = 3
const ENHANCED = 6
/** A block's type and its length at both ends; of a section, its byte order, version and length, too. */
const BLOCK_MIN = 12
const SECTION_MIN = 28
/** More than any machine has: each is remembered as long as its section. */
const INTERFACES_MAX = 65_536

function* readPcapng(source: Source): Generator<CapturedFrame> {
  let little = true
  let links: number[] = []
  let number = 0
  // Of the first block the type has been read.
  for (let type: number | null = SECTION; type !== null; type = nextType(source, little)) {
    const lengthBytes = source.rest(4).slice()
    let body: Uint8Array
    if (type === SECTION) {
      const order = source.rest(4).slice()
      little = viewOf(order).getUint32(0, true) === 0x1a2b3c4d
      if (!little && viewOf(order).getUint32(0, false) !== 0x1a2b3c4d)
        throw source.damaged('its byte order is unknown')
      body = source.rest(bodyLength(source, lengthBytes, little, SECTION_MIN) - 4)
      links = []
    } else {
      body = source.rest(bodyLength(source, lengthBytes, little, BLOCK_MIN))
    }
    const view = viewOf(body)
    if (type === INTERFACE) {
      if (body.length < 8) throw source.damaged('an interface block is too short')
      if (links.length >= INTERFACES_MAX)
        throw source.damaged(`it has more than ${INTERFACES_MAX} interfaces`)
      links.push(view.getUint16(0, little))
    }
    if (type === ENHANCED) {
      if (body.length < 20) throw source.damaged('a packet block is too short')
      const kept = view.getUint32(12, little)
      const link = links[view.getUint32(0, little)]
      if (kept > body.length - 20) throw source.damaged(`frame ${number + 1} is longer than its block`)
      if (kept > FRAME_MAX) throw source.damaged(`frame ${number + 1} says that it has ${kept} bytes`)
      if (link === undefined)
        throw source.damaged(`frame ${number + 1} came by an interface it does not name`)
      yield {
        number: ++number,
        bytes: framed(body.subarray(20, 20 + kept), link, source),
        length: view.getUint32(16, little),
      }
    } else if (type === SIMPLE) {
      if (body.length < 4 || links[0] === undefined) throw source.damaged('a packet block is too short')
      const length = view.getUint32(0, little)
      const kept = Math.min(length, body.length - 4)
      if (kept > FRAME_MAX) throw source.damaged(`frame ${number + 1} says that it has ${kept} bytes`)
      yield { number: ++number, bytes: framed(body.subarray(4, 4 + kept), links[0], source), length }
    }
    if (Buffer.compare(source.rest(4), lengthBytes) !== 0)
      throw source.damaged('a block has another length at its end than at its beginning')
  }
}

function nextType(source: Source, little: boolean): number | null {
  const bytes = source.take(4)
  // A section's type reads the same in both orders.
  return bytes === null ? null : viewOf(bytes).getUint32(0, little)
}

function bodyLength(source: Source, bytes: Uint8Array, little: boolean, least: number): number {
  const length = viewOf(bytes).getUint32(0, little)
  if (length < least || length % 4 !== 0 || length > BLOCK_MAX)
    throw source.damaged(`a block says that it has ${length} bytes`)
  return length - BLOCK_MIN
}

/** A copy with an Ethernet header. */
function framed(bytes: Uint8Array, link: number, source: Source): Uint8Array {
  if (link === ETHERNET) return bytes.slice()
  if (!RAW_IP.has(link))
    throw source.damaged(
      `its link type is ${link}, expected Ethernet or raw IP; capture on the interface itself`,
    )
  const frame = new Uint8Array(14 + bytes.length)
  frame[12] = (bytes[0] ?? 0) >> 4 === 6 ? 0x86 : 0x08
  frame[13] = (bytes[0] ?? 0) >> 4 === 6 ? 0xdd : 0x00
  frame.set(bytes, 14)
  return frame
}
