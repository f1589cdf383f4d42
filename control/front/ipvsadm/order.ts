/**
 * The order of sorted listings.
 *
 * The original compares 32-bit numbers by subtracting them as signed ones, so an address at or above
 * 128.0.0.0 may come before a smaller one, and the relation is no total order. What comes out then depends
 * on the sorting algorithm too; this is the merge sort of glibc's qsort(3).
 */

import type { Family } from '../../../net/address.ts'
import { addressWords } from '../../../net/address.ts'
import { PROTOCOL_NUMBERS } from '../../../net/protocol.ts'
import type { ServerId } from '../../model/server.ts'
import type { ServiceId } from '../../model/service.ts'

/** AF_INET and AF_INET6 of Linux. */
const FAMILY_NUMBERS = { 4: 2, 6: 10 } as const

/** Numbers to compare one after the other: address (four words) and port at the end. */
interface Key {
  readonly words: readonly number[]
  readonly family: Family
}

/** Words of an address at the end of a key, before the port. */
const ADDRESS_WORDS = 4

function serviceKey(id: ServiceId): Key {
  const family = id.family
  const head = [id.kind === 'fwmark' ? id.mark : 0, FAMILY_NUMBERS[family]]
  if (id.kind === 'fwmark') return { words: [...head, 0, 0, 0, 0, 0, 0], family }
  return { words: [...head, PROTOCOL_NUMBERS[id.protocol], ...addressWords(id.address), id.port], family }
}

function serverKey(id: ServerId): Key {
  return { words: [...addressWords(id.address), id.port], family: id.family }
}

function compare(a: Key, b: Key): number {
  const port = a.words.length - 1
  const address = port - ADDRESS_WORDS
  for (let i = 0; i <= port; i++) {
    // An IPv4 address on the left is compared by its one word, even with an IPv6 address.
    if (a.family === 4 && i > address && i < port) continue
    const difference = (a.words[i]! - b.words[i]!) | 0
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
