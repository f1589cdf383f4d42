/** Why a scheduler chose whom, in words and with the numbers it went by. */
import type { MemberRead } from './reading.ts'

export interface Considered {
  readonly member: MemberRead
  /** The numbers that count, or why it is passed over. */
  readonly words: string
  readonly chosen: boolean
}

export interface Choice {
  /** The rule, in a sentence. */
  readonly rule: string
  readonly considered: readonly Considered[]
}

const RULES: Readonly<Record<string, string>> = {
  rr: 'the next one in the list after the last choice',
  wrr: 'the next one in the list, each as often as its weight says',
  lc: 'the least load: 256 for each active connection, 1 for each connection',
  wlc: 'the least load for its weight: 256 for each active connection, 1 for each connection',
  sed: 'the least active connections plus one, for its weight',
  nq: 'the first without an active connection, else the least active connections plus one for its weight',
  fo: 'the largest weight',
  ovf: 'the largest weight among those with no more active connections than their weight',
  dh: "by the virtual address: a table's slot",
  sh: "by the client's address: a table's slot",
  mh: "by the client's address: a slot of a table of thousands",
}

/** @param chosen index in reals; null when nobody was */
export function choice(scheduler: string, members: readonly MemberRead[], chosen: number | null): Choice {
  return {
    rule: RULES[scheduler] ?? 'this version cannot schedule by it yet',
    considered: members.map((member) => ({
      member,
      words: wordsOf(scheduler, member),
      chosen: member.real === chosen,
    })),
  }
}

function wordsOf(scheduler: string, { weight, active, inactive, overloaded }: MemberRead): string {
  if (weight <= 0) return 'weight 0 takes no new connections'
  if (overloaded) return 'has reached its upper threshold, and not fallen to the lower one'
  const ratio = (load: number): string =>
    weight === 1 ? `load ${load}` : `load ${load} / ${weight} = ${Number((load / weight).toFixed(2))}`
  switch (scheduler) {
    case 'lc':
      return `load ${257 * active + inactive}`
    case 'wlc':
      return ratio(257 * active + inactive)
    case 'sed':
    case 'nq':
      return ratio(active + 1)
    case 'ovf':
      return active > weight ? 'has more active connections than its weight' : 'has room'
    default:
      return ''
  }
}
