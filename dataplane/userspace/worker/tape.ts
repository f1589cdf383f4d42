/**
 * What a worker records of its packets, into a ring in a file that the daemon has mapped, too. Frames are changed
 * where they lie, so those of a batch are kept before it is run.
 */
import { closeSync, openSync } from 'node:fs'
import { type Mapping, mapShared } from '../../../linux/libc.ts'
import { keyOf, type PacketKey } from '../../../net/packet/key.ts'
import { Action } from '../../layout/layout.gen.ts'
import { RECORDED_BYTES, Recorded, type RecordingFilter, RING_FILE_BYTES, ringOf } from '../../recording.ts'
import { type RingMemory, RingWriter } from '../../ring.ts'
import type { JobTable } from './jobs.ts'

/** Where a worker records to, and what. */
export interface TapeOrder {
  readonly path: string
  /** Bytes of the file before this worker's ring. */
  readonly offset: number
  readonly filter: RecordingFilter
}

const ICMP = 1
const ICMPV6 = 58

export class WorkerTape {
  readonly #mapping: Mapping
  readonly #ring: RingMemory
  readonly #writer: RingWriter
  readonly #filter: RecordingFilter
  readonly #jobs: JobTable
  readonly #came: Uint8Array
  readonly #wanted: boolean[] = []
  #atNs = 0n

  constructor({ path, offset, filter }: TapeOrder, jobs: JobTable) {
    const fd = openSync(path, 'r+')
    try {
      this.#mapping = mapShared(fd, RING_FILE_BYTES, 'the ring of a recording', offset)
    } finally {
      closeSync(fd)
    }
    this.#ring = ringOf(this.#mapping.buffer)
    this.#writer = new RingWriter(this.#ring)
    this.#filter = filter
    this.#jobs = jobs
    this.#came = new Uint8Array((jobs.capacity + 1) * filter.snap)
  }

  /** Before jobs are run, of a batch or the spare one. */
  keep(count: number, from = 0): void {
    const { snap, sample } = this.#filter
    const jobs = this.#jobs
    this.#atNs = process.hrtime.bigint()
    for (let i = from; i < from + count; i++) {
      this.#wanted[i] = sample === 1 || Math.random() * sample < 1
      if (this.#wanted[i] !== true) continue
      const data = jobs.data(i)
      this.#came.set(jobs.u8.subarray(data, data + Math.min(jobs.received(i), snap)), i * snap)
    }
  }

  /** After it was run, before anything is sent. */
  record(count: number, ifindexOf: (job: number) => number, from = 0): void {
    for (let i = from; i < from + count; i++) if (this.#wanted[i] === true) this.#recordOne(i, ifindexOf(i))
  }

  #recordOne(job: number, ifindex: number): void {
    const { snap, verdicts } = this.#filter
    const jobs = this.#jobs
    const verdict = jobs.verdict(job)
    if (verdicts !== null && !verdicts.includes(verdict)) return
    const length = jobs.received(job)
    const start = jobs.start(job)
    const lengthOut = jobs.length(job)
    const came = this.#came.subarray(job * snap, job * snap + Math.min(length, snap))
    const left = jobs.u8.subarray(start, start + Math.min(lengthOut, snap))
    if (!this.#isWanted(came, left)) return
    const action = jobs.action(job)
    const wrote = this.#writer.write(RECORDED_BYTES + came.length + left.length, (record) => {
      const view = new DataView(record.buffer, record.byteOffset, record.length)
      record.fill(0, 0, RECORDED_BYTES)
      view.setBigUint64(Recorded.at, this.#atNs, true)
      const words = [
        [Recorded.ifindex, ifindex],
        [Recorded.verdict, verdict],
        [Recorded.action, action],
        [Recorded.wayOut, action === Action.Send ? jobs.ifindex(job) : 0],
        [Recorded.length, length],
        [Recorded.kept, came.length],
        [Recorded.lengthOut, lengthOut],
        [Recorded.keptOut, left.length],
      ] as const
      for (const [at, word] of words) view.setUint32(at, word, true)
      record.set(came, RECORDED_BYTES)
      record.set(left, RECORDED_BYTES + came.length)
    })
    if (!wrote) Atomics.add(this.#ring.producer, 1, 1n)
  }

  /** The same question as pm_record_end asks in the kernel. */
  #isWanted(came: Uint8Array, left: Uint8Array): boolean {
    const { client, service } = this.#filter
    if (client === null && service === null) return true
    const [to, from] = [keyOf(came), keyOf(left)]
    return (
      (client === null ||
        (to !== null && isIn(to.source, client)) ||
        (from !== null && isIn(from.destination, client))) &&
      (service === null ||
        (to !== null && isAt(to, to.destination, to.destinationPort, service)) ||
        (from !== null && isAt(from, from.source, from.sourcePort, service)))
    )
  }

  close(): void {
    this.#mapping.unmap()
  }
}

function isIn(address: Uint8Array, { bytes, bits }: NonNullable<RecordingFilter['client']>): boolean {
  if (address.length !== bytes.length) return false
  for (let i = 0; i * 8 < bits; i++) {
    const mask = bits - i * 8 >= 8 ? 0xff : (0xff00 >> (bits - i * 8)) & 0xff
    if (((address[i]! ^ bytes[i]!) & mask) !== 0) return false
  }
  return true
}

function isAt(
  { protocol }: PacketKey,
  address: Uint8Array,
  port: number | null,
  service: NonNullable<RecordingFilter['service']>,
): boolean {
  if (!isIn(address, { bytes: service.bytes, bits: service.bytes.length * 8 })) return false
  if (protocol === ICMP || protocol === ICMPV6) return true
  if (service.protocol !== 0 && protocol !== service.protocol) return false
  return service.port === 0 || port === null || port === service.port
}
