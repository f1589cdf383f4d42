/** Frames out of and into AF_XDP sockets. They never leave the frame memory, which is wasm memory. */

import { libc } from '../../../linux/libc.ts'
import { PM_CHUNK, PM_XSK_ENTRIES, PoolRecord, QueueRecord } from '../../layout/layout.gen.ts'
import type { FrameMover } from '../../wasm/instance.ts'
import type { Region } from '../../wasm/region.ts'
import { takeError } from '../packet/rings.ts'
import type { FrameSource } from '../worker/frame-source.ts'
import type { JobTable } from '../worker/jobs.ts'
import { readXskDrops, type XskQueue, type XskRing } from './socket.ts'

const MASK = PM_XSK_ENTRIES - 1
const CHUNK_MASK = ~(PM_CHUNK - 1)
/** Frame memory of a worker: fill rings of three queues, and one ring's worth on the way. */
const CHUNKS = 4 * PM_XSK_ENTRIES
export const FRAMES_BYTES = CHUNKS * PM_CHUNK
/** A `struct pm_pool`, and behind it room for all chunks. */
export const POOL_BYTES = 64 + CHUNKS * 4
const MSG_DONTWAIT = 0x40
/** In copy mode one call sends a few dozen frames; a ring full takes this many. */
const KICKS_MAX = 128

/** The frames of one worker: which chunks are free, and which source sends where. */
export class FramePool {
  /** Address of the `struct pm_pool`. */
  readonly record: number
  readonly #jobs: JobTable
  readonly #sources = new Map<number, XskSource>()
  /** The answer to the last question: most frames leave by the same interface. */
  #last: XskSource | null = null
  /** Address of the frame memory; 0 before the first source. */
  #base = 0

  constructor(region: Region, jobs: JobTable) {
    this.record = region.base
    this.#jobs = jobs
  }

  join(source: XskSource, base: number): void {
    if (this.#base !== base) {
      this.#base = base
      const free = this.record + 64
      PoolRecord.write(new DataView(this.#jobs.u8.buffer), this.record, { free, count: CHUNKS })
      for (let chunk = 0; chunk < CHUNKS; chunk++) this.#jobs.u32[(free >>> 2) + chunk] = chunk * PM_CHUNK
    }
    if (!this.#sources.has(source.ifindex)) this.#sources.set(source.ifindex, source)
    this.#last = null
  }

  leave(source: XskSource): void {
    if (this.#sources.get(source.ifindex) === source) this.#sources.delete(source.ifindex)
    this.#last = null
  }

  give(offset: number): void {
    const { u32 } = this.#jobs
    const count = u32[(this.record + PoolRecord.offsets.count) >>> 2]!
    u32[((this.record + 64) >>> 2) + count] = offset & CHUNK_MASK
    u32[(this.record + PoolRecord.offsets.count) >>> 2] = count + 1
  }

  /** The source that can send out of an interface. */
  towards(ifindex: number): XskSource | undefined {
    if (this.#last?.ifindex === ifindex) return this.#last
    const source = this.#sources.get(ifindex)
    this.#last = source ?? null
    return source
  }
}

export class XskSource implements FrameSource {
  readonly takesAll = true
  readonly ifindex: number
  readonly fd: number
  readonly #queue: XskQueue
  /** Address of our `struct pm_queue`. */
  readonly #record: number
  readonly #mover: FrameMover
  readonly #jobs: JobTable
  readonly #pool: FramePool
  /** Jobs of the batch under way. */
  #from = 0
  #count = 0
  #drops = 0

  constructor(
    queue: XskQueue,
    record: number,
    mover: FrameMover,
    jobs: JobTable,
    pool: FramePool,
    tap: number,
  ) {
    this.ifindex = queue.ifindex
    this.fd = queue.fd
    this.#queue = queue
    this.#record = record
    this.#mover = mover
    this.#jobs = jobs
    this.#pool = pool
    const { rx, tx, fill, completion } = queue
    QueueRecord.write(new DataView(jobs.u8.buffer), record, {
      rxProducer: rx.producer,
      rxConsumer: rx.consumer,
      rxEntries: rx.entries,
      txProducer: tx.producer,
      txConsumer: tx.consumer,
      txEntries: tx.entries,
      fillProducer: fill.producer,
      fillConsumer: fill.consumer,
      fillEntries: fill.entries,
      doneProducer: completion.producer,
      doneConsumer: completion.consumer,
      doneEntries: completion.entries,
      frames: queue.frames.base,
      pool: pool.record,
      txNext: this.#word(tx.producer),
      ifindex: queue.ifindex,
      port: tap,
    })
    pool.join(this, queue.frames.base)
    this.release()
  }

  #word(address: number): number {
    return Atomics.load(this.#jobs.u32, address >>> 2)
  }

  receive(jobs: JobTable, from: number, room: number): number {
    this.#from = from
    this.#count = this.#mover.queueTake(this.#record, jobs.jobAt(from), jobs.arrivalAt(from), room)
    return this.#count
  }

  forward(from: number, end: number): number {
    const jobs = this.#jobs
    for (let i = from; i < end; ) {
      const egress = this.#pool.towards(jobs.ifindex(i))
      const next = egress === undefined ? i : egress.#put(i, end)
      if (next === i) return i
      i = next
    }
    return end
  }

  #put(from: number, end: number): number {
    return this.#mover.queuePut(this.#record, this.#jobs.base, this.#jobs.arrivalAt(0), from, end)
  }

  flush(): void {
    const { tx } = this.#queue
    const next = this.#jobs.u32[(this.#record + QueueRecord.offsets.txNext) >>> 2]!
    if (this.#word(tx.consumer) === next) return
    Atomics.store(this.#jobs.u32, tx.producer >>> 2, next)
    for (let i = 0; i < KICKS_MAX; i++) {
      const before = this.#word(tx.consumer)
      libc.sendto(this.fd, null, 0, MSG_DONTWAIT, null, 0)
      const now = this.#word(tx.consumer)
      // What is left goes with the next kick.
      if (now === next || now === before) return
      this.#mover.queueCollect(this.#record)
    }
  }

  release(): void {
    this.#mover.queueGive(this.#record, this.#jobs.arrivalAt(this.#from), this.#count)
    this.#count = 0
  }

  takeDrops(): number {
    const drops = readXskDrops(this.fd)
    const since = drops - this.#drops
    this.#drops = drops
    return Math.max(0, since)
  }

  recover(): void {
    takeError(this.fd)
  }

  /** The socket is about to be closed, nothing arrives any more: what waits in its rings comes back. */
  close(): void {
    this.#pool.leave(this)
    this.#mover.queueGive(this.#record, this.#jobs.arrivalAt(this.#from), this.#count)
    const { rx, tx, fill } = this.#queue
    this.#empty(rx, 4)
    this.#empty(tx, 4)
    this.#empty(fill, 2)
  }

  /** `words`: of an entry; the first is the address. */
  #empty(ring: XskRing, words: number): void {
    const producer = this.#word(ring.producer)
    for (let i = this.#word(ring.consumer); i !== producer; i = (i + 1) >>> 0) {
      this.#pool.give(this.#jobs.u32[(ring.entries >>> 2) + (i & MASK) * words]!)
    }
  }
}
