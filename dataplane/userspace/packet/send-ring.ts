/** Small frames on their way out of one interface: copied into a ring, which one sendto(2) empties. */

import { libc } from '../../../linux/libc.ts'
import { RingRecord } from '../../layout/layout.gen.ts'
import type { FrameMover } from '../../wasm/instance.ts'
import type { JobTable } from '../worker/jobs.ts'
import type { SendRoom } from '../worker/messages.ts'
import {
  closeRing,
  openSendSocket,
  type RingGeometry,
  SEND_OFFSET,
  SendStatus,
  Slot,
  sendRingGeometry,
} from './rings.ts'

const MSG_DONTWAIT = 0x40
const NEXT = RingRecord.offsets.next / 4
const FIRST = RingRecord.offsets.first / 4

export class SendRing {
  readonly #fd: number
  readonly #memory: bigint
  readonly #room: SendRoom
  readonly #geometry: RingGeometry
  readonly #mover: FrameMover
  readonly #jobs: JobTable
  readonly #onClosed: () => void

  /**
   * `memory`: address of the linear memory, which `room` is a piece of; `onClosed`: the room is free
   * again. Throws if the kernel refuses.
   */
  constructor(
    ifindex: number,
    bypassQueue: boolean,
    memory: bigint,
    room: SendRoom,
    mover: FrameMover,
    jobs: JobTable,
    onClosed: () => void,
  ) {
    this.#memory = memory
    this.#room = room
    this.#mover = mover
    this.#jobs = jobs
    this.#onClosed = onClosed
    this.#geometry = sendRingGeometry(room.bytes)
    const address = memory + BigInt(room.base)
    this.#fd = openSendSocket(ifindex, bypassQueue, { address, geometry: this.#geometry })
    const { slotBytes, slots } = this.#geometry
    const { base, record } = room
    const view = new DataView(jobs.u8.buffer)
    RingRecord.write(view, record, { base, slotBytes, slots, next: 0, first: 0, ifindex, port: 0 })
  }

  /** Takes frames of the jobs `from` to `end` - 1; returns the first that it cannot take. */
  put(from: number, end: number): number {
    const { base } = this.#jobs
    return this.#mover.ringPut(this.#room.record, base, this.#jobs.arrivalAt(0), from, end)
  }

  get waiting(): boolean {
    const { u32 } = this.#jobs
    const record = this.#room.record >>> 2
    return u32[record + FIRST] !== u32[record + NEXT]
  }

  /**
   * Sends what was put. What the kernel does not take at once (its buffers are full, the interface is
   * down) is handed to `left`: `length` bytes at `address`, virtio header first; they stay there until
   * the next `put`.
   */
  flush(left: (address: number, length: number) => void): void {
    const { u32 } = this.#jobs
    const record = this.#room.record >>> 2
    const next = u32[record + NEXT]!
    const { slots } = this.#geometry
    if (u32[record + FIRST] === next) return
    libc.sendto(this.#fd, null, 0, MSG_DONTWAIT, null, 0)
    // It takes them in order.
    if (this.#isTaken(next === 0 ? slots - 1 : next - 1)) {
      u32[record + FIRST] = next
      return
    }
    let slot = u32[record + FIRST]!
    while (this.#isTaken(slot)) slot = slot + 1 === slots ? 0 : slot + 1
    // Its own pointer stays at the slot it did not take: the next frame has to be there.
    u32[record + FIRST] = slot
    u32[record + NEXT] = slot
    for (; slot !== next; slot = slot + 1 === slots ? 0 : slot + 1) {
      const at = this.#slotAt(slot)
      left(at + SEND_OFFSET, u32[(at + Slot.length) >>> 2]!)
      Atomics.store(u32, at >>> 2, SendStatus.AVAILABLE)
    }
  }

  #slotAt(slot: number): number {
    return this.#room.base + slot * this.#geometry.slotBytes
  }

  #isTaken(slot: number): boolean {
    const status = Atomics.load(this.#jobs.u32, this.#slotAt(slot) >>> 2)
    return (status & (SendStatus.SEND_REQUEST | SendStatus.WRONG_FORMAT)) === 0
  }

  close(): void {
    const { base, bytes } = this.#room
    closeRing(this.#memory, { fd: this.#fd, base, bytes })
    this.#onClosed()
  }
}
