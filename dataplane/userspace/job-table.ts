/** Jobs of one call of the packet program: struct pm_job in linear memory, and what the host notes beside. */
import { Action, JobFlag, JobRecord } from '../layout.gen.ts'
import { VNET_HEADER } from './af-packet.ts'

const WORDS = JobRecord.size / 4
const DATA = JobRecord.offsets.data / 4
const LINEAR = JobRecord.offsets.linear / 4
const LENGTH = JobRecord.offsets.length / 4
const IFINDEX = JobRecord.offsets.ifindex / 4
const VERDICT = JobRecord.offsets.verdict / 4
const ACTION = JobRecord.offsets.action / 4
const FLAGS = JobRecord.offsets.flags / 4
const MOVED = JobRecord.offsets.moved / 4
const SEGMENT = JobRecord.offsets.segment / 4

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

const ETHERNET = 14
const UDP_HEADER = 8

export class JobTable {
  readonly base: number
  readonly capacity: number
  u8!: Uint8Array
  u16!: Uint16Array
  u32!: Uint32Array
  #i32!: Int32Array
  readonly #first: number
  /** Bytes as received, before the program cut or added any. */
  readonly #received: Uint32Array
  /** Virtio headers as received: headers put in front of a frame overwrite them in memory. */
  readonly #vnet: Uint16Array
  /** 1: the frame was addressed to this host, as the kernel sees it. */
  readonly toHost: Uint8Array
  /** Which port a frame came from. */
  readonly port: Uint8Array

  /** `base`: address of `capacity` records in linear memory. */
  constructor(memory: SharedArrayBuffer, base: number, capacity: number) {
    this.base = base
    this.capacity = capacity
    this.renew(memory)
    this.#first = base / 4
    this.#received = new Uint32Array(capacity)
    this.#vnet = new Uint16Array(capacity * Vnet.words)
    this.toHost = new Uint8Array(capacity)
    this.port = new Uint8Array(capacity)
  }

  /** The memory has grown: frames may lie beyond the end of the old views. */
  renew(memory: SharedArrayBuffer): void {
    this.u8 = new Uint8Array(memory)
    this.u16 = new Uint16Array(memory)
    this.u32 = new Uint32Array(memory)
    this.#i32 = new Int32Array(memory)
  }

  /** A frame of `length` bytes at `data`, all of it in linear memory, its virtio header right before it. */
  put(index: number, data: number, length: number, ifindex: number, toHost: boolean, port: number): void {
    const vnet = index * Vnet.words
    const header = (data - VNET_HEADER) >>> 1
    const { u16 } = this
    const noted = this.#vnet
    const flagsAndType = u16[header]!
    noted[vnet] = flagsAndType
    // Without flags and type the other words say nothing.
    if (flagsAndType !== 0) {
      for (let i = 1; i < Vnet.words; i++) noted[vnet + i] = u16[header + i]!
    }
    this.#put(index, data, length, ifindex, toHost, port, flagsAndType)
  }

  /** The same for a frame that comes without a virtio header. */
  putPlain(
    index: number,
    data: number,
    length: number,
    ifindex: number,
    toHost: boolean,
    port: number,
  ): void {
    this.#vnet[index * Vnet.words] = 0
    this.#put(index, data, length, ifindex, toHost, port, 0)
  }

  #put(
    index: number,
    data: number,
    length: number,
    ifindex: number,
    toHost: boolean,
    port: number,
    flagsAndType: number,
  ): void {
    const at = this.#first + index * WORDS
    const { u32 } = this
    u32[at + DATA] = data
    u32[at + LINEAR] = length
    u32[at + LENGTH] = length
    u32[at + IFINDEX] = ifindex
    u32[at + VERDICT] = 0
    u32[at + ACTION] = 0
    u32[at + FLAGS] = (flagsAndType & VNET_NEEDS_CHECKSUM) !== 0 ? JobFlag.PartialCsum : 0
    u32[at + MOVED] = 0
    u32[at + SEGMENT] = flagsAndType >> 8 === GsoType.NONE ? 0 : this.#largestSegment(index)
    this.#received[index] = length
    this.toHost[index] = toHost ? 1 : 0
    this.port[index] = port
  }

  /** A field of the virtio header as received, a member of `Vnet`. */
  vnet(index: number, word: number): number {
    return this.#vnet[index * Vnet.words + word]!
  }

  gsoType(index: number): number {
    return this.#vnet[index * Vnet.words]! >> 8
  }

  /** IP bytes of the largest packet a super-packet will be cut into. */
  #largestSegment(index: number): number {
    return this.headerBytes(index) - ETHERNET + this.vnet(index, Vnet.segmentSize)
  }

  /** Bytes before the payload of a frame as received, if its checksum is unfinished. */
  headerBytes(index: number): number {
    const transport = this.vnet(index, Vnet.checksumStart)
    if ((this.gsoType(index) & GsoType.MASK) === GsoType.UDP_SEGMENTS) return transport + UDP_HEADER
    return transport + (this.u8[this.data(index) + transport + 12]! >> 4) * 4
  }

  data(index: number): number {
    return this.u32[this.#first + index * WORDS + DATA]!
  }

  received(index: number): number {
    return this.#received[index]!
  }

  /** Takes a job out of a batch that failed. */
  drop(index: number): void {
    this.u32[this.#first + index * WORDS + ACTION] = Action.Drop
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

  action(index: number): number {
    return this.u32[this.#first + index * WORDS + ACTION]!
  }
}
