/** Recording where our workers run the packet program: they write into rings of a file that both sides have mapped. */
import { closeSync, openSync, rmSync } from 'node:fs'
import { type Mapping, mapShared } from '../../linux/libc.ts'
import { type RecordedPacket, RING_FILE_BYTES, readRecorded, ringOf, type Tape } from '../recording.ts'
import { type RingMemory, RingReader } from '../ring.ts'
import { reserve } from './reserve.ts'

export const RECORDING_NAME = 'userspace.recording'

/** Who writes into the rings. */
export interface Workers {
  begin(): Promise<void>
  /** They leave the rings alone from now on. */
  end(): Promise<void>
  /** They have gone: whoever comes in their place has not been told. */
  ended(): boolean
}

export class FileTape implements Tape {
  readonly #mapping: Mapping
  readonly #rings: readonly RingMemory[]
  readonly #readers: readonly RingReader[]
  readonly #workers: Workers
  #closed = false
  #lost = 0

  /** A ring for each worker, to be found by `begin`; when that is done, nobody has to find them any more. */
  static async open(path: string, count: number, workers: Workers): Promise<FileTape> {
    rmSync(path, { force: true })
    const fd = openSync(path, 'wx+', 0o600)
    const bytes = count * RING_FILE_BYTES
    let mapping: Mapping | null = null
    try {
      reserve(fd, path, bytes, 'or use another --run-dir')
      mapping = mapShared(fd, bytes, 'the rings of a recording')
      try {
        await workers.begin()
      } catch (error) {
        // Some may have begun.
        await workers.end().catch(() => {})
        throw error
      }
      return new FileTape(mapping, count, workers)
    } catch (error) {
      mapping?.unmap()
      throw error
    } finally {
      closeSync(fd)
      rmSync(path, { force: true })
    }
  }

  private constructor(mapping: Mapping, count: number, workers: Workers) {
    this.#mapping = mapping
    this.#rings = Array.from({ length: count }, (_, i) => ringOf(mapping.buffer, i * RING_FILE_BYTES))
    this.#readers = this.#rings.map((ring) => new RingReader(ring))
    this.#workers = workers
  }

  read(take: (packet: RecordedPacket) => boolean): void {
    if (this.#closed) return
    for (const reader of this.#readers) {
      reader.read((record) => {
        const packet = readRecorded(record)
        return packet === null || take(packet)
      })
    }
  }

  lost(): number {
    if (this.#closed) return this.#lost
    return this.#rings.reduce((sum, { producer }) => sum + Number(Atomics.load(producer, 1)), 0)
  }

  over(): string | null {
    return this.#closed || this.#workers.ended() ? 'the forwarder has ended' : null
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#lost = this.lost()
    this.#closed = true
    try {
      await this.#workers.end()
    } finally {
      this.#mapping.unmap()
    }
  }
}
