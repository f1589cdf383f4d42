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

/** Offsets in struct virtio_net_hdr, which stands before every frame (virtio 1.2 §5.1.6). */
export const Vnet = {
  flags: 0,
  gsoType: 1,
  headerLength: 2,
  segmentSize: 4,
  checksumStart: 6,
  checksumOffset: 8,
} as const
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
    const at = this.#first + index * WORDS
    const { u32, u8 } = this
    const vnet = data - VNET_HEADER
    u32[at + DATA] = data
    u32[at + LINEAR] = length
    u32[at + LENGTH] = length
    u32[at + IFINDEX] = ifindex
    u32[at + VERDICT] = 0
    u32[at + ACTION] = 0
    u32[at + FLAGS] = (u8[vnet]! & VNET_NEEDS_CHECKSUM) !== 0 ? JobFlag.PartialCsum : 0
    u32[at + MOVED] = 0
    u32[at + SEGMENT] = u8[vnet + Vnet.gsoType] === 0 ? 0 : this.#largestSegment(data)
    this.#received[index] = length
    this.toHost[index] = toHost ? 1 : 0
    this.port[index] = port
  }

  /** IP bytes of the largest packet a super-packet will be cut into. */
  #largestSegment(data: number): number {
    return (
      this.headerBytes(data, data - VNET_HEADER) -
      ETHERNET +
      this.u16[(data - VNET_HEADER + Vnet.segmentSize) >> 1]!
    )
  }

  /** Bytes before the payload of a frame with an unfinished checksum; `vnet` is its virtio header. */
  headerBytes(data: number, vnet: number): number {
    const transport = this.u16[(vnet + Vnet.checksumStart) >> 1]!
    const type = this.u8[vnet + Vnet.gsoType]! & GsoType.MASK
    if (type === GsoType.UDP_SEGMENTS) return transport + UDP_HEADER
    return transport + (this.u8[data + transport + 12]! >> 4) * 4
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
