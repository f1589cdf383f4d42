/** A worker's loop with fragments that wait: who sends firsts has those of their own datagrams looked at again alone. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  Action,
  ArrivalRecord,
  JobFlag,
  JobRecord,
  PM_VERDICT_MAX,
  Verdict,
} from '../../../dataplane/layout/layout.gen.ts'
import { ClaimFilter } from '../../../dataplane/userspace/claims/filter.ts'
import { fragmentAt } from '../../../dataplane/userspace/worker/datagram.ts'
import { JobTable } from '../../../dataplane/userspace/worker/jobs.ts'
import { type LoopOptions, PacketLoop } from '../../../dataplane/userspace/worker/loop.ts'
import { WAITING_BYTES, WaitingFragments } from '../../../dataplane/userspace/worker/waiting.ts'
import { ethernet, ipv4, PROTOCOL, raw } from '../../packets/frame.ts'

const JOBS = 4096
const ARRIVALS = 16_384
const FRAMES = 32_768
const ROOM = 65_536
const BATCH = 64
const piece = raw(PROTOCOL.udp, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))
const ends = { src: '198.51.100.7', dst: '192.0.2.100' }

function fragment(id: number, isFirst: boolean): Uint8Array {
  return ethernet({}, ipv4({ ...ends, id, mf: isFirst, fragmentOffset: isFirst ? 0 : 8 }, piece))
}

/** A program that knows the datagrams whose first it has seen, and says nothing of others; it drops all frames. */
function stage() {
  const memory = new SharedArrayBuffer(ROOM + WAITING_BYTES)
  const view = new DataView(memory)
  const jobs = new JobTable(memory, JOBS, ARRIVALS, BATCH)
  const waiting = new WaitingFragments({ base: ROOM, bytes: WAITING_BYTES }, jobs, 256)
  const known = new Set<string>()
  const arrived: Uint8Array[] = []
  let runs = 0

  const put = (job: number, arrival: number, data: number, length: number): void => {
    const fields = { ...JobRecord.read(view, job), data, length, linear: length, moved: 0 }
    JobRecord.write(view, job, { ...fields, flags: JobFlag.Waits })
    ArrivalRecord.write(view, arrival, { ...ArrivalRecord.read(view, arrival), received: length, toHost: 1 })
  }
  const decide = (at: number): void => {
    runs += 1
    const job = JobRecord.read(view, at)
    const found = fragmentAt(jobs.u8, job.data, job.length)
    if (found?.isFirst === true) known.add(found.datagram)
    const waits = found !== null && !known.has(found.datagram) && (job.flags & JobFlag.Waits) !== 0
    const verdict = waits ? Verdict.WantFirst : Verdict.DropFragmentAlone
    JobRecord.write(view, at, { ...job, verdict, action: waits ? Action.Again : Action.Drop })
  }
  const program = {
    setNow: () => {},
    runBatch: (at: number, count: number) => {
      for (let i = 0; i < count; i++) decide(at + i * JobRecord.size)
    },
    arrive: put,
  }
  const loop = new PacketLoop({
    ...{ program, jobs, memory: 0n, verdicts: new BigUint64Array(PM_VERDICT_MAX), claims: new ClaimFilter() },
    ...{ waiting, scratch: { base: 0, bytes: 0 }, sendRooms: [], bypassQueue: false, ticks: () => 1 },
    onBatchDone: () => {},
  } as unknown as LoopOptions)
  loop.addTap(
    0,
    {
      ...{ ifindex: 7, takesAll: false, fd: -1, release: () => {}, takeDrops: () => 0, recover: () => {} },
      receive: (_, from, room) => {
        const frames = arrived.splice(0, room)
        for (const [i, frame] of frames.entries()) {
          const data = FRAMES + (from + i) * 256
          jobs.u8.set(frame, data)
          put(jobs.jobAt(from + i), jobs.arrivalAt(from + i), data, frame.length)
        }
        return frames.length
      },
    },
    0,
  )
  return {
    waiting,
    loop,
    /** Workers have the notes of firsts in common. */
    known,
    runs: () => runs,
    /** One batch. */
    come(...frames: Uint8Array[]) {
      arrived.push(...frames)
      loop.step()
    },
  }
}

test('a first has the fragments of its own datagram looked at again, and no others', () => {
  const { waiting, runs, come } = stage()
  come(...Array.from({ length: BATCH }, (_, id) => fragment(id, false)))
  assert.equal(waiting.size, BATCH)
  const before = runs()
  for (let id = 1000; id < 1100; id++) come(fragment(id, true))
  assert.equal(runs() - before, 100)
  come(fragment(5, true), fragment(2000, true))
  assert.equal(runs() - before, 103)
  assert.equal(waiting.size, BATCH - 1)
})

test('a first behind its later fragments in the same batch ends their waiting', () => {
  const { waiting, come } = stage()
  come(fragment(1, false), fragment(2, false), fragment(1, true))
  assert.equal(waiting.size, 1)
})

test('a first that another worker has had is found with the next look at the house', () => {
  const { waiting, loop, known, come } = stage()
  come(fragment(1, false), fragment(2, false))
  known.add(fragmentAt(fragment(1, true), 0, 60)!.datagram)
  loop.housekeep()
  assert.equal(waiting.size, 1)
})
