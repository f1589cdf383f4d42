/** Recording where our workers run the packet program: they write into rings of a file that both sides have mapped. */
import { closeSync, ftruncateSync, openSync, rmSync } from 'node:fs'
import { type Mapping, mapShared } from '../../linux/libc.ts'
import { type RecordedPacket, RING_FILE_BYTES, readRecorded, ringOf, type Tape } from '../recording.ts'
import { type RingMemory, RingReader } from '../ring.ts'

export const RECORDING_NAME = 'userspace.recording'

export class FileTape implements Tape {
  readonly #mapping: Mapping
  readonly #rings: readonly RingMemory[]
  readonly #readers: readonly RingReader[]
  readonly #end: () => Promise<void>
  #closed = false
  #lost = 0

  /**
   * A ring for each worker, to be found by `begin`; when that is done, nobody has to find them any more.
   * @param end has the workers leave them alone
   */
  static async open(
    path: string,
    workers: number,
    begin: () => Promise<void>,
    end: () => Promise<void>,
  ): Promise<FileTape> {
    rmSync(path, { force: true })
    const fd = openSync(path, 'wx+', 0o600)
    let mapping: Mapping | null = null
    try {
      ftruncateSync(fd, workers * RING_FILE_BYTES)
      mapping = mapShared(fd, workers * RING_FILE_BYTES, 'the rings of a recording')
      await begin()
      return new FileTape(mapping, workers, end)
    } catch (error) {
      mapping?.unmap()
      throw error
    } finally {
      closeSync(fd)
      rmSync(path, { force: true })
    }
  }

  private constructor(mapping: Mapping, workers: number, end: () => Promise<void>) {
    this.#mapping = mapping
    this.#rings = Array.from({ length: workers }, (_, i) => ringOf(mapping.buffer, i * RING_FILE_BYTES))
    this.#readers = this.#rings.map((ring) => new RingReader(ring))
    this.#end = end
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

  async close(): Promise<void> {
    if (this.#closed) return
    this.#lost = this.lost()
    this.#closed = true
    try {
      await this.#end()
    } finally {
      this.#mapping.unmap()
    }
  }
}
