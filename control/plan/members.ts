/**
 * The members of a schedule in the making: those in force with what has changed, copied within the map, or all of them
 * anew. One change among 100,000 real servers does not visit the other 99,999.
 */
import type { ServerEntry } from '../rules/entries.ts'
import { type Draft, indexOf, membersInForce } from './draft.ts'
import type { MemberRange } from './ledger.ts'
import type { Operation } from './operations.ts'

export interface Members {
  /** What writes them, the lookup table, and room for a bracket. */
  readonly operations: readonly Operation[]
  /** So many, from the end of the list, are where they are in the list in force. */
  readonly unmoved: number
}

/** Fewer changes than this are made in a copy of the members in force. */
const PATCH_MAX = 16

/**
 * @param first where they are to stand: a range that no packet reads
 * @param bracket entries behind them that stay empty
 * @param anew nothing is known about what those in force have to do with these
 */
export function planMembers(
  draft: Draft,
  first: number,
  table: Uint32Array,
  bracket: number,
  anew: boolean,
): Members {
  const inForce = membersInForce(draft)
  const patched = anew || inForce === null ? null : patchMembers(draft, first, inForce)
  if (patched === null) {
    const words = memberWords(draft, table, bracket)
    const operations: Operation[] = words.length === 0 ? [] : [{ op: 'fill-members', first, words }]
    return { operations, unmoved: inForce === null ? 0 : countUnmoved(draft, words, inForce) }
  }
  const operations = [...patched.operations]
  const behind = first + draft.servers.length
  if (table.length > 0) {
    operations.push({ op: 'fill-members', first: behind, words: tableWords(draft, table) })
  }
  if (bracket > 0) operations.push({ op: 'clear-members', first: behind + table.length, count: bracket })
  return { operations, unmoved: patched.unmoved }
}

/**
 * Members in list order, then the lookup table: each entry is the index of a real server and its weight. Or then room
 * for a bracket of so many entries, empty.
 */
export function memberWords(draft: Draft, table: Uint32Array, bracket: number): Uint32Array {
  const { servers } = draft
  const words = new Uint32Array((servers.length + table.length + bracket) * 2)
  for (let i = servers.length - 1, at = 0; i >= 0; i--) at = putMember(draft, words, at, servers[i]!)
  words.set(tableWords(draft, table), servers.length * 2)
  return words
}

function tableWords(draft: Draft, table: Uint32Array): Uint32Array {
  const { servers } = draft
  const words = new Uint32Array(table.length * 2)
  let at = 0
  for (const index of table) at = putMember(draft, words, at, servers[servers.length - 1 - index]!)
  return words
}

function putMember(draft: Draft, words: Uint32Array, at: number, server: ServerEntry): number {
  words[at] = indexOf(draft, server.key)
  words[at + 1] = server.value.weight
  return at + 2
}

/**
 * The members in force without the changed ones that have left or moved, behind the added ones, with edited weights.
 * Null if that does not come to the list that is wanted, because the maps did not hold what was there before.
 */
function patchMembers(draft: Draft, first: number, inForce: MemberRange): Members | null {
  const { view, service, servers, change, holding } = draft
  if (change.servers.size > PATCH_MAX) return null
  // Removed and added again stands in front, too: newest first. Whatever changed and is not among the
  // newest has kept its place, unless it is not wanted any more.
  const newest = new Set<string>()
  for (let i = servers.length - 1; i >= 0 && change.servers.has(servers[i]!.key); i--) {
    newest.add(servers[i]!.key)
  }
  const { u32 } = view.maps.members
  const old = u32.subarray(inForce.first * 2, (inForce.first + inForce.count) * 2)
  const gaps: number[] = []
  const edited: { readonly server: ServerEntry; readonly place: number }[] = []
  for (const key of change.servers) {
    const server = newest.has(key) ? undefined : service.byKey.get(key)
    const place = findMember(old, holding?.reals.get(key))
    if (server !== undefined && place < 0) return null
    if (server !== undefined) edited.push({ server, place })
    else if (place >= 0) gaps.push(place)
  }
  if (inForce.count - gaps.length + newest.size !== servers.length) return null
  gaps.sort((a, b) => a - b)
  const operations: Operation[] = []
  let to = first
  if (newest.size > 0) {
    const words = new Uint32Array(newest.size * 2)
    for (let i = 0, at = 0; i < newest.size; i++) {
      at = putMember(draft, words, at, servers[servers.length - 1 - i]!)
    }
    operations.push({ op: 'fill-members', first: to, words })
    to += newest.size
  }
  let from = 0
  for (const gap of [...gaps, inForce.count]) {
    const count = gap - from
    if (count > 0) operations.push({ op: 'copy-members', from: inForce.first + from, count, first: to })
    to += count
    from = gap + 1
  }
  for (const { server, place } of edited) {
    const moved = newest.size - gaps.filter((gap) => gap < place).length
    const words = new Uint32Array(2)
    putMember(draft, words, 0, server)
    operations.push({ op: 'fill-members', first: first + place + moved, words })
  }
  return { operations, unmoved: inForce.count - 1 - (gaps.at(-1) ?? -1) }
}

/** Which member stands for a real server, -1 if none does. */
function findMember(words: Uint32Array, real: number | undefined): number {
  for (let at = 0; at < words.length; at += 2) if (words[at] === real) return at / 2
  return -1
}

function countUnmoved({ view, servers }: Draft, words: Uint32Array, { first, count }: MemberRange): number {
  const { u32 } = view.maps.members
  const most = Math.min(servers.length, count)
  let same = 0
  for (let at = (first + count) * 2 - 2, to = servers.length * 2 - 2; same < most; same++, at -= 2, to -= 2) {
    if (u32[at] !== words[to]) break
  }
  return same
}
