/**
 * A ring of records in shared memory, from one writer to one reader, as the kernel has it (BPF_MAP_TYPE_RINGBUF,
 * Documentation/bpf/ringbuf.rst): a page with the reader's position, a page with the writer's, then the data. Before
 * each record stand its length and what the writer says of it.
 */

const HEADER = 8
/** The writer is not done with it. */
const BUSY = 2 ** 31
/** Nothing for the reader. */
const DISCARDED = 2 ** 30
const LENGTH_MASK = DISCARDED - 1

export interface RingMemory {
  /** Holds the reader's position; written by the reader alone. */
  readonly consumer: BigUint64Array
  /** Holds the writer's position; written by the writer alone. */
  readonly producer: BigUint64Array
  /** A power of two bytes; in the kernel twice in a row, so that no record is cut at the end. */
  readonly data: Uint8Array
  readonly bytes: number
}

const rounded = (length: number): number => HEADER + ((length + 7) & ~7)

export class RingReader {
  readonly #ring: RingMemory
  readonly #words: Uint32Array

  constructor(ring: RingMemory) {
    this.#ring = ring
    this.#words = new Uint32Array(ring.data.buffer, ring.data.byteOffset, ring.data.length >>> 2)
  }

  /** Hands out records until `take` has had enough; they are only good during the call. */
  read(take: (record: Uint8Array) => boolean): void {
    const { consumer, producer, data, bytes } = this.#ring
    let at = Atomics.load(consumer, 0)
    const end = Atomics.load(producer, 0)
    for (let more = true; more && at < end; ) {
      const offset = Number(at & BigInt(bytes - 1))
      const word = Atomics.load(this.#words, offset >>> 2)
      if (word >= BUSY) return
      const length = word & LENGTH_MASK
      if ((word & DISCARDED) === 0) more = take(data.subarray(offset + HEADER, offset + HEADER + length))
      at += BigInt(rounded(length))
      Atomics.store(consumer, 0, at)
    }
  }
}

/** The same where the writer is a thread of ours; its data stands there once. */
export class RingWriter {
  readonly #ring: RingMemory
  readonly #words: Uint32Array

  constructor(ring: RingMemory) {
    this.#ring = ring
    this.#words = new Uint32Array(ring.data.buffer, ring.data.byteOffset, ring.data.length >>> 2)
  }

  /** `fill` writes the record; false: there is no room. */
  write(length: number, fill: (record: Uint8Array) => void): boolean {
    const { consumer, producer, data, bytes } = this.#ring
    let at = Atomics.load(producer, 0)
    const needed = rounded(length)
    let offset = Number(at & BigInt(bytes - 1))
    const rest = bytes - offset
    const skipped = rest < needed ? rest : 0
    if (at + BigInt(skipped + needed) - Atomics.load(consumer, 0) > BigInt(bytes)) return false
    if (skipped > 0) {
      // What is left at the end is too short for this one.
      Atomics.store(this.#words, offset >>> 2, (skipped - HEADER) | DISCARDED)
      at += BigInt(skipped)
      offset = 0
    }
    fill(data.subarray(offset + HEADER, offset + HEADER + length))
    Atomics.store(this.#words, offset >>> 2, length)
    Atomics.store(producer, 0, at + BigInt(needed))
    return true
  }
}
