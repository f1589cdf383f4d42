/**
 * Recording where the kernel runs the packet program: one with a recorder in it takes its place, on the same maps,
 * as long as the recording goes on (bpf/record.h). It records only while it is told, every few seconds, that
 * somebody reads, so nothing is left to do for who finds it in the place of a daemon that was killed.
 */
import { libc, type Mapping, mapShared, mapToRead } from '../../linux/libc.ts'
import type { Sizes } from '../dataplane.ts'
import {
  type RecordedPacket,
  type RecordingWanted,
  readRecorded,
  WANTED_BYTES,
  WantedFields,
  writeWanted,
} from '../recording.ts'
import { RingReader } from '../ring.ts'
import { type ProgramInfo, programInfo } from './object-info.ts'
import { type LoadedProgram, loadProgramLater, type MapFds } from './program.ts'

/** PM_RECORD_RING of bpf/record.h. */
const RING_BYTES = 8 << 20
/** For so long it goes on without a sign of life. */
const LEASE_NS = 5_000_000_000n

/** A packet program that records. */
export class Recorder {
  readonly programFd: number
  readonly info: ProgramInfo
  readonly #loaded: LoadedProgram
  readonly #mappings: Mapping[] = []
  readonly #reader: RingReader
  /** Of its settings; null once they are gone. */
  #wanted: BigUint64Array | null = null
  #lost = 0

  /** Loads it, which takes seconds, without holding up this thread. */
  static async load(
    objectPath: string,
    sizes: Sizes,
    maps: MapFds,
    wanted: RecordingWanted,
  ): Promise<Recorder> {
    return new Recorder(await loadProgramLater(objectPath, sizes, maps), wanted)
  }

  private constructor(loaded: LoadedProgram, wanted: RecordingWanted) {
    this.#loaded = loaded
    this.programFd = loaded.programFd
    try {
      this.info = programInfo(loaded.programFd)
      const page = libc.getpagesize()
      const ring = loaded.otherMap('record_ring')
      const consumer = this.#keep(mapShared(ring, page, 'the ring of a recording'))
      const producer = this.#keep(mapToRead(ring, page + 2 * RING_BYTES, 'the ring of a recording', page))
      this.#reader = new RingReader({
        consumer: new BigUint64Array(consumer, 0, 1),
        producer: new BigUint64Array(producer, 0, 1),
        data: new Uint8Array(producer, page),
        bytes: RING_BYTES,
      })
      const settings = this.#keep(mapShared(loaded.otherMap('record_wanted'), page, 'map record_wanted'))
      writeWanted(new DataView(settings, 0, WANTED_BYTES), wanted)
      this.#wanted = new BigUint64Array(settings, 0, WANTED_BYTES / 8)
      this.#renew()
    } catch (error) {
      this.close()
      throw error
    }
  }

  #keep(mapping: Mapping): ArrayBuffer {
    this.#mappings.push(mapping)
    return mapping.buffer
  }

  #renew(): void {
    if (this.#wanted === null) return
    Atomics.store(this.#wanted, WantedFields.until / 8, process.hrtime.bigint() + LEASE_NS)
  }

  read(take: (packet: RecordedPacket) => boolean): void {
    this.#renew()
    this.#reader.read((record) => {
      const packet = readRecorded(record)
      return packet === null || take(packet)
    })
  }

  lost(): number {
    if (this.#wanted !== null) this.#lost = Number(Atomics.load(this.#wanted, WantedFields.lost / 8))
    return this.#lost
  }

  close(): void {
    this.lost()
    this.#wanted = null
    for (const mapping of this.#mappings.splice(0)) mapping.unmap()
    this.#loaded.close()
  }
}
