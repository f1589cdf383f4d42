/** Fragments that wait for the first of their datagram: how many, how large, how long. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ArrivalRecord, JobRecord } from '../../../dataplane/layout/layout.gen.ts'
import { JobTable } from '../../../dataplane/userspace/worker/jobs.ts'
import { WaitingFragments } from '../../../dataplane/userspace/worker/waiting.ts'
import {
  type Extension,
  ethernet,
  fragmentHeader,
  ipv4,
  ipv6,
  PROTOCOL,
  padOptions,
  raw,
  tcp,
} from '../../packets/frame.ts'

const FRAME = 1024
const ROOM = { base: 8192, bytes: 3 * 2048 }
const piece = raw(PROTOCOL.udp, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))
const ends4 = { src: '198.51.100.7', dst: '192.0.2.100' }
const ends6 = { src: '2001:db8:c::7', dst: '2001:db8:1::100' }

/** A job for a frame, as the program leaves it; `moved` bytes of it were taken off. */
function stage(): {
  waiting: WaitingFragments
  jobs: JobTable
  job: (frame: Uint8Array, moved?: number) => void
} {
  const memory = new SharedArrayBuffer(16_384)
  const jobs = new JobTable(memory, 4096, 6144, 1)
  const view = new DataView(memory)
  return {
    waiting: new WaitingFragments(ROOM, jobs, 256),
    jobs,
    job(frame, moved = 0) {
      jobs.u8.set(frame, FRAME)
      const empty = JobRecord.read(view, 4096)
      JobRecord.write(view, 4096, { ...empty, data: FRAME, length: frame.length - moved, moved })
      const arrival = ArrivalRecord.read(view, 6144)
      ArrivalRecord.write(view, 6144, { ...arrival, received: frame.length, port: 3, toHost: 1 })
    },
  }
}

test('a frame is kept as the program has it, with where it came from', () => {
  const { waiting, jobs, job } = stage()
  const frame = Uint8Array.from({ length: 100 }, (_, i) => i)
  job(frame, 4)
  assert.ok(waiting.fits(0))
  waiting.put(0, 7, 1000)
  const [one] = waiting.take(() => true)
  assert.ok(one !== undefined)
  assert.deepEqual(
    { ...one, data: 0 },
    { data: 0, bytes: 96, ifindex: 7, tap: 3, toHost: 1, untilMs: 31_000, datagram: null, number: 1 },
  )
  assert.deepEqual(jobs.u8.slice(one.data, one.data + 96), frame.slice(4))
  assert.equal(waiting.size, 0)
})

test('the one that has waited longest is the one to go, also when it was asked in between', () => {
  const { waiting, job } = stage()
  job(new Uint8Array(60))
  for (const now of [1, 2, 3]) {
    assert.equal(waiting.eldest(), null)
    waiting.put(0, now, now)
  }
  for (const one of waiting.take(({ ifindex }) => ifindex !== 2)) waiting.keep(one)
  const eldest = waiting.eldest()
  assert.equal(eldest?.ifindex, 1)
  assert.throws(() => waiting.put(0, 4, 4), /No room/)
  waiting.free(waiting.take((one) => one === eldest))
  waiting.put(0, 4, 4)
  assert.deepEqual(
    waiting.take(({ untilMs }) => untilMs <= 30_003).map(({ ifindex }) => ifindex),
    [2, 3],
  )
})

test('a frame that is larger than its place does not wait', () => {
  const { waiting, job } = stage()
  job(new Uint8Array(2048 - 256))
  assert.ok(waiting.fits(0))
  job(new Uint8Array(2048 - 255))
  assert.ok(!waiting.fits(0))
})

test('firsts are told from whole packets and later fragments, and by the datagram that they are of', () => {
  const { waiting, job } = stage()
  const firsts = (packet: Parameters<typeof ethernet>[1], macs: Parameters<typeof ethernet>[0] = {}) => {
    job(ethernet(macs, packet))
    return [...waiting.firsts(1)]
  }
  const waits = (packet: Parameters<typeof ethernet>[1]) => {
    job(ethernet({}, packet))
    waiting.put(0, 7, 1)
    const [one] = waiting.take(() => true)
    waiting.free([one!])
    return one!.datagram
  }
  const first4 = ipv4({ ...ends4, id: 9, mf: true }, piece)
  const [datagram4] = firsts(first4)
  assert.ok(datagram4 !== undefined)
  assert.deepEqual(firsts(first4, { vlan: [{ id: 0 }] }), [datagram4], 'behind a priority tag')
  assert.equal(waits(ipv4({ ...ends4, id: 9, fragmentOffset: 8 }, piece)), datagram4)
  for (const [other, ends] of [
    [8, ends4],
    [9, { ...ends4, src: '198.51.100.8' }],
    [9, { ...ends4, dst: '192.0.2.101' }],
  ] as const)
    assert.notEqual(waits(ipv4({ ...ends, id: other, fragmentOffset: 8 }, piece)), datagram4)
  assert.deepEqual(firsts(ipv4({ ...ends4, mf: true, fragmentOffset: 8 }, piece)), [])
  assert.deepEqual(firsts(ipv4({ ...ends4, df: true }, tcp({ sport: 1, dport: 80, flags: 'S' }))), [])

  const piece6 = (id: number, offset: number, more: boolean, before: readonly Extension[] = []) =>
    ipv6({ ...ends6, extensions: [...before, fragmentHeader(id, offset, more)] }, piece)
  const [datagram6] = firsts(piece6(9, 0, true))
  assert.ok(datagram6 !== undefined)
  assert.deepEqual(firsts(piece6(9, 0, true, [padOptions(60)])), [datagram6])
  assert.equal(waits(piece6(9, 8, false)), datagram6)
  assert.notEqual(waits(piece6(8, 8, false)), datagram6)
  assert.deepEqual(firsts(piece6(9, 0, false)), [], 'whole, and alone (RFC 6946)')
  assert.deepEqual(firsts(ipv6(ends6, tcp({ sport: 1, dport: 80, flags: 'S' }))), [])
})
