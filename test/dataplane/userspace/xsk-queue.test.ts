import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  Action,
  JobRecord,
  PM_CHUNK,
  PM_NONE,
  PM_XSK_ENTRIES,
  PoolRecord,
  QueueRecord,
} from '../../../dataplane/layout/layout.gen.ts'
import fc from '../../property.ts'
import { linearMemory } from './linear-memory.ts'

const MASK = PM_XSK_ENTRIES - 1
const BATCH = 32
/** Fewer than the fill ring has entries: the pool runs dry. */
const CHUNKS = 100
const IFINDEX = 4
const WORDS = { rx: 4, tx: 4, fill: 2, done: 2 } as const
type Kind = keyof typeof WORDS

function setup() {
  const memory = linearMemory(BATCH)
  const { mover, jobs, view, allocate } = memory
  const pool = allocate(64 + CHUNKS * 4)
  PoolRecord.write(view, pool, { free: pool + 64, count: CHUNKS })
  for (let chunk = 0; chunk < CHUNKS; chunk++) view.setUint32(pool + 64 + chunk * 4, chunk * PM_CHUNK, true)
  const frames = allocate(CHUNKS * PM_CHUNK)
  const rings = Object.fromEntries(
    Object.entries(WORDS).map(([kind, words]) => [
      kind,
      { producer: allocate(64), consumer: allocate(64), entries: allocate(PM_XSK_ENTRIES * words * 4) },
    ]),
  ) as Record<Kind, { producer: number; consumer: number; entries: number }>
  const queue = allocate(QueueRecord.size)
  QueueRecord.write(view, queue, {
    rxProducer: rings.rx.producer,
    rxConsumer: rings.rx.consumer,
    rxEntries: rings.rx.entries,
    txProducer: rings.tx.producer,
    txConsumer: rings.tx.consumer,
    txEntries: rings.tx.entries,
    fillProducer: rings.fill.producer,
    fillConsumer: rings.fill.consumer,
    fillEntries: rings.fill.entries,
    doneProducer: rings.done.producer,
    doneConsumer: rings.done.consumer,
    doneEntries: rings.done.entries,
    frames,
    pool,
    txNext: 0,
    ifindex: IFINDEX,
    port: 5,
  })
  const word = (address: number) => view.getUint32(address, true)
  const entry = (kind: Kind, i: number) => rings[kind].entries + (i & MASK) * WORDS[kind] * 4
  const tell = (address: number) => view.setUint32(address, word(address) + 1, true)
  const waiting = (kind: Kind) => word(rings[kind].producer) - word(rings[kind].consumer)

  /** The kernel's side: one entry taken from a ring we fill, or null. */
  const consume = (kind: 'fill' | 'tx'): { offset: number; length: number } | null => {
    if (waiting(kind) === 0) return null
    const at = entry(kind, word(rings[kind].consumer))
    tell(rings[kind].consumer)
    return { offset: word(at), length: kind === 'tx' ? word(at + 8) : 0 }
  }
  const produce = (kind: 'rx' | 'done', offset: number, length = 0): void => {
    const at = entry(kind, word(rings[kind].producer))
    view.setUint32(at, offset, true)
    if (kind === 'rx') view.setUint32(at + 8, length, true)
    tell(rings[kind].producer)
  }
  const chunkOf = (offset: number) => Math.floor(offset / PM_CHUNK)
  const inRing = (kind: Kind): number[] =>
    Array.from({ length: waiting(kind) }, (_, i) =>
      chunkOf(word(entry(kind, word(rings[kind].consumer) + i))),
    )
  const inPool = (): number[] =>
    Array.from({ length: word(pool + PoolRecord.offsets.count) }, (_, i) => chunkOf(word(pool + 64 + i * 4)))
  return { mover, jobs, view, queue, frames, rings, consume, produce, chunkOf, inRing, inPool, word }
}

test('frames become jobs in the order they came, and are sent from where they lie', () => {
  const { mover, jobs, view, queue, frames, consume, produce, rings } = setup()
  mover.queueGive(queue, jobs.arrivalAt(0), 0)
  for (let i = 0; i < 3; i++) produce('rx', consume('fill')!.offset + 256, 60 + i)
  assert.equal(mover.queueTake(queue, jobs.jobAt(0), jobs.arrivalAt(0), BATCH), 3)
  for (let i = 0; i < 3; i++) {
    const job = JobRecord.read(view, jobs.jobAt(i))
    assert.deepEqual(
      [job.length, job.linear, job.ifindex, jobs.tap(i), jobs.toHost(i)],
      [60 + i, 60 + i, IFINDEX, 5, true],
    )
  }
  const starts = [0, 1, 2].map((i) => jobs.start(i) - frames)
  const job = (i: number) => JobRecord.read(view, jobs.jobAt(i))
  JobRecord.write(view, jobs.jobAt(0), { ...job(0), action: Action.Send, moved: -20, length: 80 })
  JobRecord.write(view, jobs.jobAt(1), { ...job(1), action: Action.Drop })
  JobRecord.write(view, jobs.jobAt(2), { ...job(2), action: Action.Send })
  assert.equal(mover.queuePut(queue, jobs.base, jobs.arrivalAt(0), 0, 3), 3)
  view.setUint32(rings.tx.producer, QueueRecord.getTxNext(view, queue), true)
  assert.deepEqual(consume('tx'), { offset: starts[0]! - 20, length: 80 })
  assert.deepEqual(consume('tx'), { offset: starts[2], length: 62 })
  assert.equal(consume('tx'), null)
})

test('a frame of another source, for another interface or for the stack is left to the caller', () => {
  const { mover, jobs, view, queue } = setup()
  const put = () => mover.queuePut(queue, jobs.base, jobs.arrivalAt(0), 0, 1)
  const arrival = (chunk: number) => view.setUint32(jobs.arrivalAt(0) + 8, chunk, true)
  const blank = JobRecord.read(view, jobs.jobAt(0))
  JobRecord.write(view, jobs.jobAt(0), { ...blank, action: Action.Send, ifindex: IFINDEX })
  arrival(PM_NONE)
  assert.equal(put(), 0)
  arrival(0)
  assert.equal(put(), 1)
  arrival(0)
  JobRecord.setIfindex(view, jobs.jobAt(0), IFINDEX + 1)
  assert.equal(put(), 0)
  JobRecord.write(view, jobs.jobAt(0), { ...blank, action: Action.Pass, ifindex: IFINDEX })
  assert.equal(put(), 0)
})

test('every piece of frame memory is in one place, whatever happens', () => {
  const step = fc.record({ receive: fc.nat(60), room: fc.nat(BATCH), send: fc.nat(60), drop: fc.nat(3) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
      const { mover, jobs, view, queue, rings, consume, produce, chunkOf, inRing, inPool } = setup()
      const check = () => {
        const all = [...inPool(), ...inRing('fill'), ...inRing('rx'), ...inRing('tx'), ...inRing('done')]
        assert.deepEqual(
          all.sort((a, b) => a - b),
          Array.from({ length: CHUNKS }, (_, i) => i),
        )
      }
      mover.queueGive(queue, jobs.arrivalAt(0), 0)
      for (const { receive, room, send, drop } of steps) {
        for (let i = 0; i < receive; i++) {
          const buffer = consume('fill')
          if (buffer !== null) produce('rx', buffer.offset + 256, 60)
        }
        const count = mover.queueTake(queue, jobs.jobAt(0), jobs.arrivalAt(0), room)
        for (let i = 0; i < count; i++) {
          const action = i % 4 < drop ? Action.Drop : Action.Send
          JobRecord.write(view, jobs.jobAt(i), { ...JobRecord.read(view, jobs.jobAt(i)), action })
        }
        assert.equal(mover.queuePut(queue, jobs.base, jobs.arrivalAt(0), 0, count), count)
        view.setUint32(rings.tx.producer, QueueRecord.getTxNext(view, queue), true)
        for (let i = 0; i < send; i++) {
          const frame = consume('tx')
          if (frame !== null) produce('done', chunkOf(frame.offset) * PM_CHUNK + 256)
        }
        mover.queueGive(queue, jobs.arrivalAt(0), count)
        check()
      }
    }),
    { numRuns: 60 },
  )
})
