import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Action, JobFlag, JobRecord, RingRecord, Verdict } from '../../../dataplane/layout/layout.gen.ts'
import { SEND_OFFSET, SendStatus, Slot, Status } from '../../../dataplane/userspace/packet/rings.ts'
import { GsoType, Vnet } from '../../../dataplane/userspace/worker/jobs.ts'
import { ethernet, ipv4, sctp } from '../../packets/frame.ts'
import fc from '../../property.ts'
import { type LinearMemory, linearMemory } from './linear-memory.ts'

const SLOT = 2048
/** Where the kernel puts a frame in its slot: 2 bytes behind a multiple of 16. */
const MAC = 226
const BATCH = 16
const OUT_IFINDEX = 7

class Ring {
  readonly record: number
  readonly base: number
  readonly slots: number
  readonly #memory: LinearMemory

  constructor(memory: LinearMemory, slots: number, ifindex: number) {
    this.#memory = memory
    this.slots = slots
    this.record = memory.allocate(RingRecord.size)
    this.base = memory.allocate(slots * SLOT)
    const ring = { base: this.base, slotBytes: SLOT, slots, next: 0, first: 0, ifindex, port: 9 }
    RingRecord.write(memory.view, this.record, ring)
  }

  at(slot: number): number {
    return this.base + slot * SLOT
  }

  status(slot: number): number {
    return this.#memory.view.getUint32(this.at(slot), true)
  }

  setStatus(slot: number, status: number): void {
    this.#memory.view.setUint32(this.at(slot), status, true)
  }

  get next(): number {
    return RingRecord.getNext(this.#memory.view, this.record)
  }

  /** What the kernel does with a frame that has arrived. */
  arrive(
    slot: number,
    frame: Uint8Array,
    more: { vnet?: readonly number[]; status?: number; type?: number; vlan?: number; length?: number } = {},
  ): void {
    const { view, jobs } = this.#memory
    const at = this.at(slot)
    view.setUint32(at + Slot.length, more.length ?? frame.length, true)
    view.setUint32(at + Slot.captured, frame.length, true)
    view.setUint16(at + Slot.mac, MAC, true)
    view.setUint16(at + Slot.vlan, more.vlan ?? 0, true)
    view.setUint8(at + Slot.packetType, more.type ?? 0)
    for (let i = 0; i < Vnet.words; i++) view.setUint16(at + MAC - 10 + i * 2, more.vnet?.[i] ?? 0, true)
    jobs.u8.set(frame, at + MAC)
    this.setStatus(slot, Status.USER | (more.status ?? 0))
  }

  /** The frame in a slot that is to be sent, and its virtio header. */
  sent(slot: number): { vnet: number[]; frame: Buffer } {
    const { view, jobs } = this.#memory
    const at = this.at(slot) + SEND_OFFSET
    const length = view.getUint32(this.at(slot) + Slot.length, true)
    const vnet = [0, 1, 2, 3, 4].map((i) => view.getUint16(at + i * 2, true))
    return { vnet, frame: Buffer.from(jobs.u8.slice(at + 10, at + length)) }
  }
}

const bytes = (length: number, seed = 1): Uint8Array => new Uint8Array(length).map((_, i) => i * 7 + seed)

function setup(slots = 8) {
  const memory = linearMemory(BATCH)
  const ring = new Ring(memory, slots, 3)
  const { mover, jobs, view } = memory
  const take = (room = BATCH, from = 0) =>
    mover.ringTake(ring.record, jobs.jobAt(from), jobs.arrivalAt(from), room)
  const put = (out: Ring, from: number, end: number) =>
    mover.ringPut(out.record, jobs.base, jobs.arrivalAt(0), from, end)
  /** As the program would have decided. */
  const decide = (index: number, answer: Partial<JobRecord>): void => {
    const job = jobs.jobAt(index)
    JobRecord.write(view, job, {
      ...JobRecord.read(view, job),
      action: Action.Send,
      ifindex: OUT_IFINDEX,
      ...answer,
    })
  }
  return { memory, ring, mover, jobs, view, take, put, decide }
}

/** What this plane tells the program of every frame: what it can do with it. */
const EVERY_JOB = JobFlag.Waits | JobFlag.Cuts

describe('a receive ring', () => {
  test("frames become jobs, up to the first slot that is the kernel's, around the end of the ring", () => {
    const { ring, jobs, view, take, mover } = setup(4)
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 3; i++)
        ring.arrive((round * 3 + i) % 4, bytes(60 + i, round), { type: i === 1 ? 3 : 0 })
      assert.equal(take(), 3)
      for (let i = 0; i < 3; i++) {
        const job = JobRecord.read(view, jobs.jobAt(i))
        assert.deepEqual(
          [job.length, job.linear, job.ifindex, job.flags, job.segment, job.moved],
          [60 + i, 60 + i, 3, EVERY_JOB, 0, 0],
        )
        assert.deepEqual(jobs.u8.slice(job.data, job.data + 60 + i), bytes(60 + i, round))
        assert.deepEqual(
          [jobs.tap(i), jobs.toHost(i), jobs.received(i), jobs.gsoType(i)],
          [9, i !== 1, 60 + i, GsoType.NONE],
        )
      }
      assert.equal(take(), 0)
      for (let i = 0; i < 3; i++)
        assert.equal(ring.status((round * 3 + i) % 4), Status.USER, 'ours until given back')
      mover.ringGive(ring.record)
      for (let slot = 0; slot < 4; slot++) assert.equal(ring.status(slot), 0)
    }
  })

  test('no more than there is room for', () => {
    const { ring, jobs, view, take } = setup()
    for (let i = 0; i < 6; i++) ring.arrive(i, bytes(60 + i))
    assert.equal(take(4), 4)
    assert.equal(take(12, 4), 2)
    assert.deepEqual(
      [0, 3, 4, 5].map((i) => JobRecord.getLength(view, jobs.jobAt(i))),
      [60, 63, 64, 65],
    )
  })

  test('a ring smaller than a batch is read in parts', () => {
    const { ring, take, mover } = setup(4)
    for (let slot = 0; slot < 4; slot++) ring.arrive(slot, bytes(60))
    assert.equal(take(), 3)
    mover.ringGive(ring.record)
    assert.equal(take(), 1)
    mover.ringGive(ring.record)
    for (let slot = 0; slot < 4; slot++) assert.equal(ring.status(slot), 0)
  })

  for (const [name, odd] of [
    ['larger than its slot', { length: 4000 }],
    ['an outgoing one', { type: 4 }],
    ['of a VLAN', { status: Status.VLAN_VALID, vlan: 5 }],
  ] as const) {
    test(`a frame ${name} is left to the caller`, () => {
      const { ring, take } = setup()
      ring.arrive(0, bytes(60))
      ring.arrive(1, bytes(60), odd)
      ring.arrive(2, bytes(60))
      assert.equal(take(), 1)
      assert.equal(ring.next, 1)
      assert.equal(take(), 0)
    })
  }

  test('a priority tag is no VLAN', () => {
    const { ring, take } = setup()
    ring.arrive(0, bytes(60), { status: Status.VLAN_VALID, vlan: 0xe000 })
    assert.equal(take(), 1)
  })

  test('super-packets: where the payload begins, and how large a packet will be', () => {
    const { ring, jobs, view, take } = setup()
    const frame = bytes(900)
    frame[34 + 12] = 8 << 4
    ring.arrive(0, frame, { vnet: [1 | (GsoType.TCPV4 << 8), 66, 500, 34, 16] })
    ring.arrive(1, frame, { vnet: [1 | (GsoType.UDP_SEGMENTS << 8), 42, 400, 34, 6] })
    // Nonsense: the transport header would lie behind the frame.
    ring.arrive(2, bytes(60), { vnet: [1 | (GsoType.TCPV6 << 8), 0, 400, 65_000, 16] })
    assert.equal(take(), 3)
    const job = (i: number) => JobRecord.read(view, jobs.jobAt(i))
    assert.deepEqual(
      [jobs.headerBytes(0), job(0).segment, job(0).flags],
      [34 + 32, 34 + 32 - 14 + 500, JobFlag.PartialCsum | EVERY_JOB],
    )
    assert.deepEqual([jobs.headerBytes(1), job(1).segment], [42, 42 - 14 + 400])
    assert.equal(jobs.headerBytes(2), 65_000)
    assert.deepEqual(
      [0, 1].map((i) => jobs.gsoType(i)),
      [GsoType.TCPV4, GsoType.UDP_SEGMENTS],
    )
  })

  test('an unfinished checksum of SCTP is finished: the kernel would put a sum in its place', () => {
    const { ring, jobs, view, take, put, decide, memory } = setup()
    const packet = ipv4(
      { src: '10.0.2.11', dst: '198.51.100.7' },
      sctp({}, [{ type: 0, value: 'some data' }]),
    )
    const frame = ethernet({}, packet)
    const unfinished = Uint8Array.from(frame)
    unfinished.fill(0, 42, 46)
    ring.arrive(0, unfinished, { vnet: [1, 0, 0, 34, 8] })
    // Nonsense: it would lie behind the frame.
    ring.arrive(1, bytes(60), { vnet: [1, 0, 0, 50, 8] })
    assert.equal(take(), 2)
    const job = JobRecord.read(view, jobs.jobAt(0))
    assert.equal(job.flags, EVERY_JOB)
    assert.deepEqual(jobs.u8.slice(job.data, job.data + frame.length), frame)
    assert.equal(JobRecord.read(view, jobs.jobAt(1)).flags, JobFlag.PartialCsum | EVERY_JOB)
    const out = new Ring(memory, 4, OUT_IFINDEX)
    decide(0, { verdict: Verdict.ForwardNat })
    assert.equal(put(out, 0, 1), 1)
    assert.deepEqual(out.sent(0).vnet, [0, frame.length, 0, 0, 0])
  })
})

describe('a send ring', () => {
  test('frames go in with an empty virtio header, grown and shrunk ones too', () => {
    const { ring, jobs, take, put, decide, memory } = setup()
    const out = new Ring(memory, 8, OUT_IFINDEX)
    const lengths = [60, 61, 1514]
    for (const [i, length] of lengths.entries()) ring.arrive(i, bytes(length, i))
    take()
    decide(0, {})
    decide(1, { moved: -20, length: 81 })
    decide(2, { moved: 4, length: 1510 })
    const want = lengths.map((_, i) =>
      Buffer.from(jobs.u8.slice(jobs.start(i), jobs.start(i) + jobs.length(i))),
    )
    assert.equal(put(out, 0, 3), 3)
    for (let i = 0; i < 3; i++) {
      assert.equal(out.status(i), SendStatus.SEND_REQUEST)
      const { vnet, frame } = out.sent(i)
      assert.deepEqual(vnet, [0, want[i]!.length, 0, 0, 0], 'all of it linear')
      assert.deepEqual(frame, want[i])
    }
    assert.equal(out.status(3), SendStatus.AVAILABLE)
  })

  test('an unfinished checksum stays one, but not in an answer', () => {
    const { ring, take, put, decide, memory } = setup()
    const out = new Ring(memory, 8, OUT_IFINDEX)
    for (let i = 0; i < 2; i++) ring.arrive(i, bytes(80), { vnet: [1, 54, 0, 34, 16] })
    take()
    decide(0, { verdict: Verdict.ForwardNat })
    decide(1, { verdict: Verdict.AnswerPortUnreachable })
    assert.equal(put(out, 0, 2), 2)
    assert.deepEqual(out.sent(0).vnet, [1, 80, 0, 34, 16])
    assert.deepEqual(out.sent(1).vnet, [0, 80, 0, 0, 0])
  })

  for (const [name, vnet, answer] of [
    ['for the stack', [], { action: Action.Pass }],
    ['for another interface', [], { ifindex: 8 }],
    ['that is a super-packet', [1 | (GsoType.TCPV4 << 8), 54, 500, 34, 16], {}],
    ['in a tunnel with an unfinished checksum', [1, 54, 0, 34, 16], { moved: -20 }],
    ['that is larger than a slot', [], { length: SLOT - SEND_OFFSET - 9 }],
  ] as const) {
    test(`a frame ${name} is left to the caller, dropped ones are passed over`, () => {
      const { ring, take, put, decide, memory } = setup()
      const out = new Ring(memory, 8, OUT_IFINDEX)
      for (let i = 0; i < 4; i++) ring.arrive(i, bytes(80), i === 2 ? { vnet } : {})
      take()
      for (let i = 0; i < 4; i++) decide(i, i === 1 ? { action: Action.Drop } : i === 2 ? answer : {})
      assert.equal(put(out, 0, 4), 2)
      assert.equal(out.next, 1)
      assert.equal(put(out, 3, 4), 4)
      assert.equal(out.next, 2)
    })
  }

  test('a full ring takes no more until the kernel has sent and the host has told', () => {
    const { ring, take, put, decide, memory, view } = setup()
    const out = new Ring(memory, 4, OUT_IFINDEX)
    for (let i = 0; i < 6; i++) ring.arrive(i, bytes(80, i))
    take()
    for (let i = 0; i < 6; i++) decide(i, {})
    assert.equal(put(out, 0, 6), 3)
    RingRecord.setFirst(view, out.record, out.next)
    assert.equal(put(out, 3, 6), 4, 'one slot was never filled')
    RingRecord.setFirst(view, out.record, out.next)
    assert.equal(put(out, 4, 6), 4)
    for (let slot = 0; slot < 4; slot++) out.setStatus(slot, SendStatus.SENDING)
    assert.equal(put(out, 4, 6), 4, 'on their way, the buffers still belong to the kernel')
    for (let slot = 0; slot < 4; slot++) out.setStatus(slot, SendStatus.AVAILABLE)
    assert.equal(put(out, 4, 6), 6)
  })

  test('whatever comes in goes out in order, whole, and no slot is lost', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ arrive: fc.nat(8), take: fc.nat(BATCH), send: fc.nat(8) }), { maxLength: 60 }),
        (rounds) => {
          const { ring, take, put, decide, memory, mover, view } = setup(8)
          const out = new Ring(memory, 8, OUT_IFINDEX)
          const inFlight: number[] = []
          const received: Buffer[] = []
          const given: Buffer[] = []
          let head = 0
          let tail = 0
          let made = 0
          for (const round of rounds) {
            for (let i = 0; i < round.arrive && ring.status(head) === 0; i++, head = (head + 1) % 8) {
              const frame = bytes(60 + (made % 50), made++)
              ring.arrive(head, frame)
              received.push(Buffer.from(frame))
            }
            const count = take(round.take)
            for (let i = 0; i < count; i++) decide(i, {})
            let done = 0
            while (done < count) {
              done = put(out, done, count)
              // The kernel: takes all that is asked for, in order; ...
              for (; out.status(tail) === SendStatus.SEND_REQUEST; tail = (tail + 1) % 8) {
                given.push(out.sent(tail).frame)
                out.setStatus(tail, SendStatus.SENDING)
                inFlight.push(tail)
              }
              RingRecord.setFirst(view, out.record, out.next)
              // ... and lets go of slots some time later.
              const gone = done < count ? inFlight.length : Math.min(round.send, inFlight.length)
              for (const slot of inFlight.splice(0, gone)) out.setStatus(slot, SendStatus.AVAILABLE)
            }
            mover.ringGive(ring.record)
          }
          assert.deepEqual(given, received.slice(0, given.length))
          const waiting = Array.from({ length: 8 }, (_, slot) => ring.status(slot)).filter(
            (status) => status !== 0,
          )
          assert.equal(waiting.length, received.length - given.length)
        },
      ),
      { numRuns: 60 },
    )
  })
})
