/** Frames out of an AF_PACKET ring of TPACKET_V2. */
import { Verdict } from '../layout.gen.ts'
import { libc } from '../libc.ts'
import {
  PACKET_HOST,
  PACKET_OUTGOING,
  type ReceiveRing,
  Slot,
  Status,
  takeDrops,
  takeError,
  VNET_HEADER,
} from './af-packet.ts'
import type { Engine } from './engine.ts'
import type { JobTable } from './job-table.ts'

const MSG_DONTWAIT = 0x40
const MSG_TRUNC = 0x20

/** Buffers for frames that are larger than a slot, shared by the ports of a worker. */
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

export class PacketEngine implements Engine {
  readonly ifindex: number
  readonly fd: number
  readonly #ring: ReceiveRing
  readonly #memory: bigint
  readonly #large: LargeBuffers
  readonly #port: number
  readonly #count: (verdict: number, frames: number) => void
  #next = 0
  /** Slots of the batch, the first `#heldCount` of them. */
  readonly #held: Uint32Array
  #heldCount = 0

  /** `count` notes frames that get their verdict here. */
  constructor(
    ring: ReceiveRing,
    memory: bigint,
    large: LargeBuffers,
    port: number,
    count: (verdict: number, frames: number) => void,
  ) {
    this.ifindex = ring.ifindex
    this.fd = ring.fd
    this.#ring = ring
    this.#held = new Uint32Array(ring.geometry.slots)
    this.#memory = memory
    this.#large = large
    this.#port = port
    this.#count = count
  }

  receive(jobs: JobTable, from: number, room: number): number {
    const { base, geometry, ifindex } = this.#ring
    const { slotBytes, slots } = geometry
    const { u8, u16, u32 } = jobs
    let filled = 0
    while (filled < room) {
      const slot = base + this.#next * slotBytes
      const status = Atomics.load(u32, slot >>> 2)
      if ((status & Status.USER) === 0) break
      const length = u32[(slot + Slot.length) >>> 2]!
      const captured = u32[(slot + Slot.captured) >>> 2]!
      const packetType = u8[slot + Slot.packetType]!
      const vlan = (status & Status.VLAN_VALID) === 0 ? 0 : u16[(slot + Slot.vlan) >>> 1]! & 0xfff
      let data = slot + u16[(slot + Slot.mac) >>> 1]!
      let keep = true

      if (captured < length) {
        if ((status & Status.COPY) !== 0) {
          data = this.#large.take()
          // Wait until the buffers are free again: the copy stays in its queue.
          if (data === 0) break
          keep = this.#receiveCopy(data, length)
        } else {
          keep = false
        }
        if (!keep && packetType !== PACKET_OUTGOING) this.#count(Verdict.DropRing, 1)
      }
      // Groups of rings show outgoing frames on older kernels.
      if (packetType === PACKET_OUTGOING) keep = false
      // The kernel has taken the tag out of the frame: it belongs to a VLAN interface.
      if (keep && vlan !== 0) {
        this.#count(Verdict.PassVlan, 1)
        keep = false
      }
      this.#next = this.#next + 1 === slots ? 0 : this.#next + 1
      if (!keep || captured < length) Atomics.store(u32, slot >>> 2, 0)
      else this.#held[this.#heldCount++] = slot
      if (!keep) continue
      jobs.put(from + filled, data, length, ifindex, packetType === PACKET_HOST, this.#port)
      filled += 1
    }
    return filled
  }

  #receiveCopy(data: number, length: number): boolean {
    const at = this.#memory + BigInt(data - VNET_HEADER)
    const received = libc.recv(this.fd, at, this.#large.room + VNET_HEADER, MSG_DONTWAIT | MSG_TRUNC)
    return received === length + VNET_HEADER && length <= this.#large.room
  }

  release(jobs: JobTable): void {
    const { u32 } = jobs
    const held = this.#held
    for (let i = 0; i < this.#heldCount; i++) Atomics.store(u32, held[i]! >>> 2, 0)
    this.#heldCount = 0
  }

  takeDrops(): number {
    return takeDrops(this.fd)
  }

  recover(): void {
    takeError(this.fd)
  }
}
