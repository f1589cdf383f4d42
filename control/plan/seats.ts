/** Who sits where in the bracket of a schedule in the making (bpf/bracket.h). */
import { RealRecord, ScheduleRecord, ServiceRecord, Slot } from '../../dataplane/layout/layout.gen.ts'
import { seatOf, seatWord } from '../compile/bracket.ts'
import { REAL_WORDS, SERVICE_WORDS, schedulerNumber } from '../compile/images.ts'
import { activeSchedule, type Draft, indexOf } from './draft.ts'
import { SCHEDULE_WORDS } from './operations.ts'

const SLOT_WORD = RealRecord.offsets.slot / 4
const SCHEDULE_WORD = ServiceRecord.offsets.schedule / 4
const BRACKET = ScheduleRecord.offsets.bracket / 4

/**
 * Real servers get their seats in the bracket, those that have another one or none; without a bracket none. Which they
 * have is known of a list that this daemon has brought in force; else the maps say it: an earlier one may have been
 * killed between seats and list.
 * @param first where the members stand by then
 * @param unmoved so many of them, from the end of the list, are where they are in the list in force
 */
export function planSeats(draft: Draft, first: number, order: number, unmoved: number): void {
  const { servers, operations, holding, service } = draft
  if (order === 0 && (holding === null || bracketInForce(draft) === 0)) return
  const seated = order === 0 ? 0 : isSeatingKnown(draft) ? unmoved : countSeated(draft)
  const count = servers.length - seated
  if (count === 0) return
  operations.push({ op: 'seat', first, count, order, seated, scheduler: service.value.scheduler })
}

function bracketInForce(draft: Draft): number {
  const base = (draft.slot * 2 + activeSchedule(draft)) * SCHEDULE_WORDS
  return draft.view.maps.schedules.u32[base + BRACKET]!
}

/** Whether those of the list in force have the seats that they are to have there. */
function isSeatingKnown(draft: Draft): boolean {
  const { view, service, change, holding, slot } = draft
  if (change.all || holding === null || holding.switchedAtMs === Number.NEGATIVE_INFINITY) return false
  const scheduler = view.maps.services.u32[slot * SERVICE_WORDS + SCHEDULE_WORD]! & 0xff
  return scheduler === schedulerNumber(service.value.scheduler) && bracketInForce(draft) !== 0
}

/** So many of the members have their seat already, from the end of the list. */
export function countSeated(draft: Draft): number {
  const { view, service, servers, fresh } = draft
  const { live, reals } = view.maps
  const none = seatWord(service.value.scheduler, 0)
  let seated = 0
  for (const { key } of servers) {
    // Its record will begin anew.
    if (fresh.has(key)) break
    const real = indexOf(draft, key)
    if (reals.u32[real * REAL_WORDS + SLOT_WORD] === Slot.Free) break
    if (seatOf(live, real) !== none + seated + 1) break
    seated++
  }
  return seated
}
