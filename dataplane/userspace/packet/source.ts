/** Frames out of an AF_PACKET ring of TPACKET_V2. */

import { libc } from '../../../linux/libc.ts'
import { RingRecord, Verdict } from '../../layout/layout.gen.ts'
import type { FrameMover } from '../../wasm/instance.ts'
import type { FrameSource } from '../worker/frame-source.ts'
import type { JobTable } from '../worker/jobs.ts'
import {
  PACKET_HOST,
  PACKET_OUTGOING,
  type ReceiveRing,
  Slot,
  Status,
  takeDrops,
  takeError,
  VNET_HEADER,
} from './rings.ts'

const MSG_DONTWAIT = 0x40
const MSG_TRUNC = 0x20

/** Buffers for frames that are larger than a slot, shared by the taps of a worker. */
export class LargeBuffers {
  readonly #base: number
  readonly #count: number
  readonly #bytes: number
  readonly #headroom: number
  #used = 0

  /** `count` buffers of `bytes` at `base`, each with `headroom` for headers before the frame. */
  constructor(base: number, count: number, bytes: number, headroom: number) {
    this.#base = base
    this.#count = count
    this.#bytes = bytes
    this.#headroom = headroom
  }

  /** Address for a frame, or 0 when all are taken. */
  take(): number {
    if (this.#used === this.#count) return 0
    return this.#base + this.#bytes * this.#used++ + this.#headroom
  }

  /** Bytes a frame may have. */
  get room(): number {
    return this.#bytes - this.#headroom
  }

  releaseAll(): void {
    this.#used = 0
  }
}

/** Of an odd slot: nothing waits, or nothing can be done yet; done with, without a job; with one. */
const Odd = { none: 0, gone: 1, job: 2 } as const

const NEXT = RingRecord.offsets.next / 4
const FIRST = RingRecord.offsets.first / 4

export class PacketSource implements FrameSource {
  readonly takesAll = false
  readonly ifindex: number
  readonly fd: number
  readonly #ring: ReceiveRing
  readonly #record: number
  readonly #mover: FrameMover
  readonly #memory: bigint
  readonly #large: LargeBuffers
  readonly #tap: number
  readonly #count: (verdict: number, frames: number) => void

  /** `record`: address for a `struct pm_ring`; `count` notes frames that get their verdict here. */
  constructor(
    ring: ReceiveRing,
    record: number,
    mover: FrameMover,
    memory: { readonly address: bigint; readonly view: DataView },
    large: LargeBuffers,
    tap: number,
    count: (verdict: number, frames: number) => void,
  ) {
    this.ifindex = ring.ifindex
    this.fd = ring.fd
    this.#ring = ring
    this.#record = record
    this.#mover = mover
    this.#memory = memory.address
    this.#large = large
    this.#tap = tap
    this.#count = count
    const { base, geometry, ifindex } = ring
    const { slotBytes, slots } = geometry
    RingRecord.write(memory.view, record, { base, slotBytes, slots, next: 0, first: 0, ifindex, port: tap })
  }

  receive(jobs: JobTable, from: number, room: number): number {
    let filled = 0
    for (;;) {
      const at = from + filled
      filled += this.#mover.ringTake(this.#record, jobs.jobAt(at), jobs.arrivalAt(at), room - filled)
      if (filled === room) return filled
      const odd = this.#takeOdd(jobs, from + filled)
      if (odd === Odd.none) return filled
      if (odd === Odd.job) filled += 1
    }
  }

  /** The slot that `ringTake` stopped at. */
  #takeOdd(jobs: JobTable, index: number): number {
    const { base, geometry, ifindex } = this.#ring
    const { u8, u16, u32 } = jobs
    const next = u32[(this.#record >>> 2) + NEXT]!
    const slot = base + next * geometry.slotBytes
    const status = Atomics.load(u32, slot >>> 2)
    const after = next + 1 === geometry.slots ? 0 : next + 1
    if ((status & Status.USER) === 0 || after === u32[(this.#record >>> 2) + FIRST]) return Odd.none
    const length = u32[(slot + Slot.length) >>> 2]!
    const captured = u32[(slot + Slot.captured) >>> 2]!
    const packetType = u8[slot + Slot.packetType]!
    const vlan = (status & Status.VLAN_VALID) === 0 ? 0 : u16[(slot + Slot.vlan) >>> 1]! & 0xfff
    // Groups of rings show outgoing frames on older kernels.
    let keep = packetType !== PACKET_OUTGOING
    let data = slot + u16[(slot + Slot.mac) >>> 1]!
    if (captured < length && (status & Status.COPY) !== 0) {
      data = this.#large.take()
      // Wait until the buffers are free again: the copy stays in its queue.
      if (data === 0) return Odd.none
      if (!this.#receiveCopy(data, length) && keep) {
        this.#count(Verdict.DropRing, 1)
        keep = false
      }
    } else if (captured < length && keep) {
      this.#count(Verdict.DropRing, 1)
      keep = false
    }
    // The kernel has taken the tag out of the frame: it belongs to a VLAN interface.
    if (keep && vlan !== 0) {
      this.#count(Verdict.PassVlan, 1)
      keep = false
    }
    u32[(this.#record >>> 2) + NEXT] = after
    if (!keep) return Odd.gone
    const toHost = packetType === PACKET_HOST ? 1 : 0
    this.#mover.arrive(jobs.jobAt(index), jobs.arrivalAt(index), data, length, ifindex, this.#tap, toHost)
    return Odd.job
  }

  #receiveCopy(data: number, length: number): boolean {
    const at = this.#memory + BigInt(data - VNET_HEADER)
    const received = libc.recv(this.fd, at, this.#large.room + VNET_HEADER, MSG_DONTWAIT | MSG_TRUNC)
    return received === length + VNET_HEADER && length <= this.#large.room
  }

  release(): void {
    this.#mover.ringGive(this.#record)
  }

  takeDrops(): number {
    return takeDrops(this.fd)
  }

  recover(): void {
    takeError(this.fd)
  }
}
