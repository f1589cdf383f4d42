/** Jobs of one call of the packet program, and what is remembered of their frames as they arrived. */
import { Action, ArrivalRecord, JobRecord } from '../../layout/layout.gen.ts'

const WORDS = JobRecord.size / 4
const DATA = JobRecord.offsets.data / 4
const LENGTH = JobRecord.offsets.length / 4
const IFINDEX = JobRecord.offsets.ifindex / 4
const VERDICT = JobRecord.offsets.verdict / 4
const ACTION = JobRecord.offsets.action / 4
const SEGMENT = JobRecord.offsets.segment / 4
const CUT = JobRecord.offsets.cut / 4
const MOVED = JobRecord.offsets.moved / 4
const RECEIVED = ArrivalRecord.offsets.received / 4
const HEADER_BYTES = ArrivalRecord.offsets.headerBytes / 4

/**
 * The fields of struct virtio_net_hdr, which stands before every frame (virtio 1.2 §5.1.6), as 16-bit
 * words: flags in the low and GSO type in the high half of the first.
 */
export const Vnet = {
  flagsAndType: 0,
  headerLength: 1,
  segmentSize: 2,
  checksumStart: 3,
  checksumOffset: 4,
  words: 5,
} as const
/** Flag: the checksum holds the pseudo header's sum, the rest is to be added. */
export const VNET_NEEDS_CHECKSUM = 1
export const GsoType = { NONE: 0, TCPV4: 1, TCPV6: 4, UDP_SEGMENTS: 5, MASK: 0x7f } as const

export class JobTable {
  /** Address of the records of `struct pm_job`. */
  readonly base: number
  readonly capacity: number
  u8!: Uint8Array
  u16!: Uint16Array
  u32!: Uint32Array
  #i32!: Int32Array
  readonly #first: number
  /** Address of the records of `struct pm_arrival`. */
  readonly #arrivals: number

  /** `capacity` records each and a spare one, at `base` and `arrivals` in linear memory. */
  constructor(memory: SharedArrayBuffer, base: number, arrivals: number, capacity: number) {
    this.base = base
    this.capacity = capacity
    this.#first = base / 4
    this.#arrivals = arrivals
    this.renew(memory)
  }

  /** The memory has grown: frames may lie beyond the end of the old views. */
  renew(memory: SharedArrayBuffer): void {
    this.u8 = new Uint8Array(memory)
    this.u16 = new Uint16Array(memory)
    this.u32 = new Uint32Array(memory)
    this.#i32 = new Int32Array(memory)
  }

  jobAt(index: number): number {
    return this.base + index * JobRecord.size
  }

  arrivalAt(index: number): number {
    return this.#arrivals + index * ArrivalRecord.size
  }

  /** A field of the virtio header as received, a member of `Vnet`. */
  vnet(index: number, word: number): number {
    return this.u16[((this.arrivalAt(index) + ArrivalRecord.offsets.vnet) >>> 1) + word]!
  }

  gsoType(index: number): number {
    return this.vnet(index, Vnet.flagsAndType) >> 8
  }

  /** Bytes before the payload of a super-packet as received. */
  headerBytes(index: number): number {
    return this.u32[(this.arrivalAt(index) >>> 2) + HEADER_BYTES]!
  }

  /** Bytes as received, before the program cut or added any. */
  received(index: number): number {
    return this.u32[(this.arrivalAt(index) >>> 2) + RECEIVED]!
  }

  /** The frame was addressed to this host, as the kernel sees it. */
  toHost(index: number): boolean {
    return this.u8[this.arrivalAt(index) + ArrivalRecord.offsets.toHost] === 1
  }

  /** Number of the tap a frame came from. */
  tap(index: number): number {
    return this.u8[this.arrivalAt(index) + ArrivalRecord.offsets.port]!
  }

  data(index: number): number {
    return this.u32[this.#first + index * WORDS + DATA]!
  }

  /** Takes a job out of a batch that failed. */
  drop(index: number): void {
    this.u32[this.#first + index * WORDS + ACTION] = Action.Drop
  }

  /** IP bytes of the largest packet that the frame is to leave in, as far as it is the sender who says so. */
  setSegment(index: number, bytes: number): void {
    this.u32[this.#first + index * WORDS + SEGMENT] = bytes
  }

  /** Where the frame starts now. */
  start(index: number): number {
    const at = this.#first + index * WORDS
    return this.u32[at + DATA]! + this.#i32[at + MOVED]!
  }

  length(index: number): number {
    return this.u32[this.#first + index * WORDS + LENGTH]!
  }

  ifindex(index: number): number {
    return this.u32[this.#first + index * WORDS + IFINDEX]!
  }

  verdict(index: number): number {
    return this.u32[this.#first + index * WORDS + VERDICT]!
  }

  /** IP bytes of the largest fragment that it is to be sent in, 0: in one piece. */
  cut(index: number): number {
    return this.u32[this.#first + index * WORDS + CUT]!
  }

  action(index: number): number {
    return this.u32[this.#first + index * WORDS + ACTION]!
  }
}
