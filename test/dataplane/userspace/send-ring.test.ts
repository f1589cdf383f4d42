import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, test } from 'node:test'
import { Action, JobRecord, PM_HEADROOM, RingRecord } from '../../../dataplane/layout/layout.gen.ts'
import { SEND_OFFSET } from '../../../dataplane/userspace/packet/rings.ts'
import { SendRing } from '../../../dataplane/userspace/packet/send-ring.ts'
import type { SendRoom } from '../../../dataplane/userspace/worker/messages.ts'
import { addressOf, libc } from '../../../linux/libc.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, sysctl } from '../private-network.ts'
import { type LinearMemory, linearMemory } from './linear-memory.ts'

const BATCH = 16
const RING_BYTES = 1 << 16
const SLOTS = RING_BYTES / 2048
const PAGE = 65_536

/** An Ethernet frame of a protocol nobody answers. */
function frameOf(number: number, length = 60): Uint8Array {
  const frame = new Uint8Array(length).map((_, i) => i + number)
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, number])
  return frame
}

describe('a send ring in the kernel', { skip: skipWithoutPrivileges }, () => {
  let memory: LinearMemory
  let frames: number
  let ring: SendRing
  let room: SendRoom
  let wire: PacketSocket
  let closed = 0

  before(() => {
    enterPrivateNetwork()
    ip('link add out type veth peer name far')
    for (const name of ['out', 'far']) {
      sysctl(`net/ipv6/conf/${name}/disable_ipv6`, 1)
      ip(`link set ${name} up`)
    }
    wire = new PacketSocket('far')
    memory = linearMemory(BATCH)
    const { jobs, mover, allocate } = memory
    frames = allocate(BATCH * 2048) + PM_HEADROOM + 2
    room = {
      base: Math.ceil(allocate(RING_BYTES + PAGE) / PAGE) * PAGE,
      bytes: RING_BYTES,
      record: allocate(RingRecord.size),
    }
    const address = addressOf(new Uint8Array(jobs.u8.buffer))
    ring = new SendRing(libc.if_nametoindex('out'), true, address, room, mover, jobs, () => closed++)
  })
  after(() => {
    wire?.close()
    ring?.close()
    assert.equal(closed, 1)
  })
  beforeEach(() => {
    while (wire.receive() !== null);
  })

  /** Jobs as after the program, one for each frame. */
  const put = (...list: readonly Uint8Array[]): number => {
    const { jobs, view, mover } = memory
    for (const [i, frame] of list.entries()) {
      const data = frames + i * 2048
      jobs.u8.fill(0, data - 10, data)
      jobs.u8.set(frame, data)
      mover.arrive(jobs.jobAt(i), jobs.arrivalAt(i), data, frame.length, 1, 1, 1)
      JobRecord.setAction(view, jobs.jobAt(i), Action.Send)
      JobRecord.setIfindex(view, jobs.jobAt(i), libc.if_nametoindex('out'))
    }
    return ring.put(0, list.length)
  }
  const flush = (): Buffer[] => {
    const left: Buffer[] = []
    ring.flush((address, length) => {
      left.push(Buffer.from(memory.jobs.u8.slice(address + 10, address + length)))
    })
    return left
  }
  const arrived = (): Buffer[] => {
    const list: Buffer[] = []
    for (let frame = wire.receive(); frame !== null; frame = wire.receive()) list.push(Buffer.from(frame))
    return list
  }
  const some = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => frameOf(from + i, 60 + i))

  test('frames arrive whole and in order, many times around', () => {
    for (let round = 0; round < 3 * SLOTS; round += 11) {
      const list = some(round, 11)
      assert.equal(put(...list), 11)
      assert.equal(ring.waiting, true)
      assert.deepEqual(flush(), [])
      assert.equal(ring.waiting, false)
      assert.deepEqual(
        arrived(),
        list.map((frame) => Buffer.from(frame)),
      )
    }
  })

  test('what an interface that is down does not take is handed back, and the ring goes on afterwards', () => {
    ip('link set out down')
    const list = some(1, 5)
    assert.equal(put(...list), 5)
    assert.deepEqual(
      flush(),
      list.map((frame) => Buffer.from(frame)),
    )
    assert.equal(ring.waiting, false)
    ip('link set out up')
    const more = some(40, 9)
    assert.equal(put(...more), 9)
    // The first call after that may report that it was down.
    const left = flush()
    if (left.length > 0) {
      assert.deepEqual(
        left,
        more.map((frame) => Buffer.from(frame)),
      )
      put(...more)
      assert.deepEqual(flush(), [])
    }
    assert.deepEqual(
      arrived(),
      more.map((frame) => Buffer.from(frame)),
    )
  })

  test('a virtio header that the kernel refuses stops nothing but its frame and those behind it', () => {
    const list = some(1, 6)
    assert.equal(put(...list), 6)
    const { view } = memory
    const spoiled = slotOf(2)
    // An unfinished checksum behind the end of the frame.
    view.setUint16(spoiled + SEND_OFFSET, 1, true)
    view.setUint16(spoiled + SEND_OFFSET + 6, 60_000, true)
    assert.deepEqual(
      flush(),
      list.slice(2).map((frame) => Buffer.from(frame)),
    )
    assert.deepEqual(
      arrived(),
      list.slice(0, 2).map((frame) => Buffer.from(frame)),
    )
    assert.equal(put(...list), 6)
    assert.deepEqual(flush(), [])
    assert.deepEqual(
      arrived(),
      list.map((frame) => Buffer.from(frame)),
    )
  })

  /** Address of the n-th slot that waits. */
  function slotOf(n: number): number {
    return room.base + ((RingRecord.getFirst(memory.view, room.record) + n) % SLOTS) * 2048
  }
})
