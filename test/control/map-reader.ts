/** The maps as the packet program reads them, for tests: what it must never meet, and whom it would choose. */
import assert from 'node:assert/strict'
import { SERVICE_WORDS, serverIdOfImage, serviceImage } from '../../control/compile/images.ts'
import { entrySlot, findService } from '../../control/compile/service-index.ts'
import { serverKey } from '../../control/model/identity.ts'
import type { VirtualService } from '../../control/model/service.ts'
import type { Dataplane } from '../../dataplane/dataplane.ts'
import {
  MemberRecord,
  PM_SCHEDULE_ACTIVE,
  RealRecord,
  ScheduleRecord,
  Scheduler,
  ServiceRecord,
  Slot,
} from '../../dataplane/layout/layout.gen.ts'

export function activeSchedule(
  dataplane: Dataplane,
  slot: number,
): { schedule: ScheduleRecord; base: number; word: number } {
  const word = ServiceRecord.getSchedule(dataplane.map('services').view, slot * ServiceRecord.size)
  const base = (slot * 2 + ((word & PM_SCHEDULE_ACTIVE) === 0 ? 0 : 1)) * ScheduleRecord.size
  return { schedule: ScheduleRecord.read(dataplane.map('schedules').view, base), base, word }
}

/** Throws when a packet arriving now could be misdirected. */
export function checkReadable(dataplane: Dataplane): void {
  const members = dataplane.map('members')
  const reals = dataplane.map('reals')
  const owner = new Map<number, number>()
  for (const entry of dataplane.map('service_index').u64) {
    if (entry === 0n) continue
    const slot = entrySlot(entry)
    assert.equal(
      dataplane.map('services').u32[slot * SERVICE_WORDS],
      Slot.Live,
      `service ${slot} is published`,
    )
    const { schedule } = activeSchedule(dataplane, slot)
    const ranges = [
      [schedule.first, schedule.count],
      // A bracket's entries are no real servers.
      [schedule.tableFirst, schedule.bracket === 0 ? schedule.tableCount : 0],
    ] as const
    for (const [first, count] of ranges) {
      assert.ok(first + count <= members.entries)
      for (let i = first; i < first + count; i++) {
        assert.equal(owner.get(i) ?? slot, slot, `member ${i} has one service`)
        owner.set(i, slot)
        const { real } = MemberRecord.read(members.view, i * MemberRecord.size)
        const record = RealRecord.read(reals.view, real * RealRecord.size)
        assert.notEqual(record.slot, Slot.Free, `real server ${real} of service ${slot} is not free`)
        assert.equal(record.service, slot, `real server ${real} belongs to service ${slot}`)
      }
    }
  }
}

/** Slot of a service as the packet program would find it, -1 if it would not. */
export function lookUp(dataplane: Dataplane, service: VirtualService): number {
  return findService(dataplane.map('service_index'), dataplane.map('services'), serviceImage(service, 0, 0))
}

/** Indices of a service's real servers in list order. */
export function realsOf(dataplane: Dataplane, service: VirtualService): number[] {
  const slot = lookUp(dataplane, service)
  if (slot < 0) return []
  const { schedule } = activeSchedule(dataplane, slot)
  const { view } = dataplane.map('members')
  return Array.from(
    { length: schedule.count },
    (_, i) => MemberRecord.read(view, (schedule.first + i) * MemberRecord.size).real,
  )
}

/** Identities of a service's real servers in list order. */
export function membersOf(dataplane: Dataplane, service: VirtualService): string[] {
  return realsOf(dataplane, service).map((real) =>
    serverKey(serverIdOfImage(dataplane.map('reals').view, real * RealRecord.size)),
  )
}

/** Whom rr and wrr of the packet program choose next; moves the cursor in the maps. */
export function choose(dataplane: Dataplane, service: VirtualService): string | null {
  const slot = lookUp(dataplane, service)
  const { schedule, base, word } = activeSchedule(dataplane, slot)
  const view = dataplane.map('schedules').view
  const at = (position: number) =>
    MemberRecord.read(dataplane.map('members').view, (schedule.first + position) * MemberRecord.size)
  const keyOf = (real: number) =>
    serverKey(serverIdOfImage(dataplane.map('reals').view, real * RealRecord.size))
  const start = Number(schedule.cursor & 0xffffffffn)
  const store = (position: number, weight: number): void =>
    ScheduleRecord.setCursor(view, base, BigInt(position + 1) | (BigInt.asUintN(32, BigInt(weight)) << 32n))
  if ((word & 0xff) === Scheduler.Rr) {
    for (let i = 0; i < schedule.count; i++) {
      const position = (start + i) % schedule.count
      if (at(position).weight <= 0) continue
      store(position, 0)
      return keyOf(at(position).real)
    }
    return null
  }
  assert.equal(word & 0xff, Scheduler.Wrr)
  if (schedule.weightMax === 0) return null
  let cw = Number(BigInt.asIntN(32, schedule.cursor >> 32n))
  let position = start
  for (let passes = 0; passes < 100_000; passes++) {
    for (; position < schedule.count; position++) {
      if (at(position).weight < cw) continue
      store(position, cw)
      return keyOf(at(position).real)
    }
    cw -= schedule.weightStep
    if (cw <= 0) cw = schedule.weightMax
    position = 0
  }
  throw new Error('the maps run in circles')
}
