/**
 * The order of sorted listings.
 *
 * The original compares 32-bit numbers by subtracting them as signed ones, so an address at or above
 * 128.0.0.0 may come before a smaller one, and the relation is no total order. What comes out then depends
 * on the sorting algorithm too; this is the merge sort of glibc's qsort(3).
 */
import { addressWords } from '../address.ts'
import type { ServerId, ServiceId } from '../model.ts'

const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const
/** AF_INET and AF_INET6 of Linux. */
const FAMILY_NUMBERS = { 4: 2, 6: 10 } as const

/** A key to sort by: words compared one after the other. */
type Key = readonly number[]

function serviceKey(id: ServiceId): Key {
  if (id.kind === 'fwmark') return [id.mark, FAMILY_NUMBERS[id.family], 0, 0, 0, 0, 0, 0]
  return [0, FAMILY_NUMBERS[id.family], PROTOCOL_NUMBERS[id.protocol], ...addressWords(id.address), id.port]
}

function serverKey(id: ServerId): Key {
  return [FAMILY_NUMBERS[id.family], ...addressWords(id.address), id.port]
}

function compare(a: Key, b: Key): number {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i]! - b[i]!) | 0
    if (difference !== 0) return difference
  }
  return 0
}

interface Keyed<T> {
  readonly key: Key
  readonly item: T
}

/** Sorts `items[from..to]` in place, using `spare` of the same size: halves first, the left one smaller. */
function mergeSort<T>(items: Keyed<T>[], spare: Keyed<T>[], from: number, to: number): void {
  const count = to - from
  if (count <= 1) return
  const middle = from + (count >> 1)
  mergeSort(items, spare, from, middle)
  mergeSort(items, spare, middle, to)
  let left = from
  let right = middle
  let out = from
  while (left < middle && right < to) {
    spare[out++] = compare(items[left]!.key, items[right]!.key) <= 0 ? items[left++]! : items[right++]!
  }
  while (left < middle) spare[out++] = items[left++]!
  // What remains on the right is in its place already.
  for (let i = from; i < out; i++) items[i] = spare[i]!
}

function sorted<T>(list: readonly T[], key: (item: T) => Key): T[] {
  const items = list.map((item) => ({ key: key(item), item }))
  mergeSort(items, items.slice(), 0, items.length)
  return items.map(({ item }) => item)
}

export function sortServices<T extends { readonly id: ServiceId }>(services: readonly T[]): T[] {
  return sorted(services, (service) => serviceKey(service.id))
}

export function sortServers<T extends { readonly id: ServerId }>(servers: readonly T[]): T[] {
  return sorted(servers, (server) => serverKey(server.id))
}
