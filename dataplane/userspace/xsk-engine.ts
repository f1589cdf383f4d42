/** Frames out of and into AF_XDP sockets. They never leave the frame memory, which is wasm memory. */
import { libc, memoryAt } from '../libc.ts'
import { takeError } from './af-packet.ts'
import type { Engine } from './engine.ts'
import type { JobTable } from './job-table.ts'
import { CHUNK_BYTES, RING_ENTRIES, readXskDrops, type XskQueue, type XskRing } from './xsk-socket.ts'

const MASK = RING_ENTRIES - 1
const CHUNK_MASK = ~(CHUNK_BYTES - 1)
const MSG_DONTWAIT = 0x40
/** In copy mode one call sends a few dozen frames; a ring full takes this many. */
const KICKS_MAX = 128

/** The producer's or consumer's side of a ring. */
class Ring {
  readonly producer: Uint32Array
  readonly consumer: Uint32Array
  /** Packets: 4 words each (address, address, length, options); addresses: 2 words. */
  readonly words: Uint32Array

  constructor(ring: XskRing) {
    const memory = memoryAt(ring.address, ring.bytes)
    this.producer = new Uint32Array(memory, ring.producer, 1)
    this.consumer = new Uint32Array(memory, ring.consumer, 1)
    this.words = new Uint32Array(memory, ring.descriptors)
  }

  /** Entries waiting to be consumed. */
  get waiting(): number {
    return (Atomics.load(this.producer, 0) - Atomics.load(this.consumer, 0)) | 0
  }
}

/** The frames of one worker: which chunks are free, and which engine sends where. */
export class FramePool {
  #free = new Uint32Array(0)
  #freeCount = 0
  readonly #engines = new Map<number, XskEngine>()
  /** The answer to the last question: most frames leave by the same interface. */
  #last: XskEngine | null = null
  /** Address of the frame memory; 0 before the first engine. */
  #base = 0

  join(engine: XskEngine, base: number, bytes: number): void {
    if (this.#base !== base) {
      this.#base = base
      this.#free = new Uint32Array(bytes / CHUNK_BYTES).map((_, chunk) => chunk * CHUNK_BYTES)
      this.#freeCount = this.#free.length
    }
    if (!this.#engines.has(engine.ifindex)) this.#engines.set(engine.ifindex, engine)
    this.#last = null
  }

  leave(engine: XskEngine): void {
    if (this.#engines.get(engine.ifindex) === engine) this.#engines.delete(engine.ifindex)
    this.#last = null
  }

  /** A free chunk, -1 if there is none. */
  take(): number {
    return this.#freeCount === 0 ? -1 : this.#free[--this.#freeCount]!
  }

  give(chunk: number): void {
    this.#free[this.#freeCount++] = chunk
  }

  /** The engine that can send out of an interface. */
  towards(ifindex: number): XskEngine | undefined {
    if (this.#last?.ifindex === ifindex) return this.#last
    const engine = this.#engines.get(ifindex)
    this.#last = engine ?? null
    return engine
  }
}

export class XskEngine implements Engine {
  readonly ifindex: number
  readonly fd: number
  readonly #pool: FramePool
  readonly #base: number
  readonly #port: number
  readonly #rx: Ring
  readonly #tx: Ring
  readonly #fill: Ring
  readonly #completion: Ring
  /** Chunks of the batch, -1 once they have gone to a transmit ring. */
  readonly #held = new Int32Array(RING_ENTRIES)
  #heldCount = 0
  #from = 0
  /** The transmit ring's producer as we know it, and as we have told it. */
  #txNext: number
  #txTold: number
  /** Entries of the transmit ring that are surely free. */
  #txRoom = 0
  #queued = false
  #drops = 0

  constructor(queue: XskQueue, pool: FramePool, port: number) {
    this.ifindex = queue.ifindex
    this.fd = queue.fd
    this.#pool = pool
    this.#base = queue.frames.base
    this.#port = port
    this.#rx = new Ring(queue.rx)
    this.#tx = new Ring(queue.tx)
    this.#fill = new Ring(queue.fill)
    this.#completion = new Ring(queue.completion)
    this.#txNext = this.#tx.producer[0]!
    this.#txTold = this.#txNext
    pool.join(this, queue.frames.base, queue.frames.bytes)
    this.#refill()
  }

  receive(jobs: JobTable, from: number, room: number): number {
    // Only we write the consumer's side.
    const first = this.#rx.consumer[0]!
    const count = Math.min(room, (Atomics.load(this.#rx.producer, 0) - first) | 0)
    const { words } = this.#rx
    const held = this.#held
    this.#from = from
    this.#heldCount = count
    for (let i = 0; i < count; i++) {
      const at = ((first + i) & MASK) << 2
      const address = words[at]!
      const data = this.#base + address
      jobs.putPlain(from + i, data, words[at + 2]!, this.ifindex, true, this.#port)
      held[i] = address & CHUNK_MASK
    }
    if (count > 0) Atomics.store(this.#rx.consumer, 0, first + count)
    return count
  }

  /** Sends the frame of job `index`, which this engine received, out of an interface; false if it cannot. */
  forward(index: number, ifindex: number, start: number, length: number): boolean {
    const egress = this.#pool.towards(ifindex)
    if (egress === undefined || !egress.#enqueue(start - this.#base, length)) return false
    this.#held[index - this.#from] = -1
    return true
  }

  #enqueue(address: number, length: number): boolean {
    const { words } = this.#tx
    if (this.#txRoom === 0) {
      this.#txRoom = RING_ENTRIES - ((this.#txNext - Atomics.load(this.#tx.consumer, 0)) | 0)
      if (this.#txRoom === 0) return false
    }
    const at = (this.#txNext & MASK) << 2
    words[at] = address
    words[at + 1] = 0
    words[at + 2] = length
    words[at + 3] = 0
    this.#txNext = (this.#txNext + 1) | 0
    this.#txRoom -= 1
    this.#queued = true
    return true
  }

  flush(): void {
    if (!this.#queued) return
    this.#queued = false
    if (this.#txTold !== this.#txNext) {
      Atomics.store(this.#tx.producer, 0, this.#txNext)
      this.#txTold = this.#txNext
    }
    for (let i = 0; i < KICKS_MAX && this.#tx.waiting > 0; i++) {
      const before = this.#tx.waiting
      libc.sendto(this.fd, null, 0, MSG_DONTWAIT, null, 0)
      this.#collect()
      if (this.#tx.waiting === before) break
    }
    // What is left goes with the next kick.
    this.#queued = this.#tx.waiting > 0
  }

  release(): void {
    this.#giveBack()
    this.#refill()
  }

  #giveBack(): void {
    const held = this.#held
    for (let i = 0; i < this.#heldCount; i++) {
      if (held[i]! >= 0) this.#pool.give(held[i]!)
    }
    this.#heldCount = 0
    this.#collect()
  }

  /** Frames that have been sent. */
  #collect(): void {
    const first = this.#completion.consumer[0]!
    const count = (Atomics.load(this.#completion.producer, 0) - first) | 0
    if (count <= 0) return
    for (let i = 0; i < count; i++) {
      this.#pool.give(this.#completion.words[((first + i) & MASK) << 1]! & CHUNK_MASK)
    }
    Atomics.store(this.#completion.consumer, 0, first + count)
  }

  #refill(): void {
    const producer = this.#fill.producer[0]!
    const room = RING_ENTRIES - ((producer - Atomics.load(this.#fill.consumer, 0)) | 0)
    let added = 0
    for (; added < room; added++) {
      const chunk = this.#pool.take()
      if (chunk < 0) break
      const at = ((producer + added) & MASK) << 1
      this.#fill.words[at] = chunk
      this.#fill.words[at + 1] = 0
    }
    if (added > 0) Atomics.store(this.#fill.producer, 0, producer + added)
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
    this.#giveBack()
    const rings = [
      [this.#rx, 2],
      [this.#tx, 2],
      [this.#fill, 1],
    ] as const
    for (const [ring, shift] of rings) {
      const first = Atomics.load(ring.consumer, 0)
      const count = ring.waiting
      for (let i = 0; i < count; i++) this.#pool.give(ring.words[((first + i) & MASK) << shift]! & CHUNK_MASK)
    }
  }
}
