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

/** Words of an address at the end of a key, before the port. */
const ADDRESS_WORDS = 4
/** Mark, family, protocol, address, port. */
const SERVICE_WORDS = 3 + ADDRESS_WORDS + 1
const SERVER_WORDS = ADDRESS_WORDS + 1

function serviceKey(id: ServiceId): readonly number[] {
  const family = FAMILY_NUMBERS[id.family]
  if (id.kind === 'fwmark') return [id.mark, family, 0, 0, 0, 0, 0, 0]
  const [a, b, c, d] = addressWords(id.address)
  return [0, family, PROTOCOL_NUMBERS[id.protocol], a!, b!, c!, d!, id.port]
}

function serverKey(id: ServerId): readonly number[] {
  const [a, b, c, d] = addressWords(id.address)
  return [a!, b!, c!, d!, id.port]
}

/** Numbers to compare one after the other, of items that are known by their places. */
class Keys {
  readonly #width: number
  readonly #words: Int32Array
  readonly #isIpv4: Uint8Array

  constructor(count: number, width: number) {
    this.#width = width
    this.#words = new Int32Array(count * width)
    this.#isIpv4 = new Uint8Array(count)
  }

  set(item: number, family: Family, words: readonly number[]): void {
    this.#words.set(words, item * this.#width)
    if (family === 4) this.#isIpv4[item] = 1
  }

  compare(a: number, b: number): number {
    const port = this.#width - 1
    const address = port - ADDRESS_WORDS
    for (let i = 0; i <= port; i++) {
      // An IPv4 address on the left is compared by its one word, even with an IPv6 address.
      if (this.#isIpv4[a] === 1 && i > address && i < port) continue
      const difference = (this.#words[a * this.#width + i]! - this.#words[b * this.#width + i]!) | 0
      if (difference !== 0) return difference
    }
    return 0
  }
}

/** Sorts `items[from..to]` in place, using `spare` of the same size: halves first, the left one smaller. */
function mergeSort(keys: Keys, items: Uint32Array, spare: Uint32Array, from: number, to: number): void {
  const count = to - from
  if (count <= 1) return
  const middle = from + (count >> 1)
  mergeSort(keys, items, spare, from, middle)
  mergeSort(keys, items, spare, middle, to)
  let left = from
  let right = middle
  let out = from
  while (left < middle && right < to)
    spare[out++] = keys.compare(items[left]!, items[right]!) <= 0 ? items[left++]! : items[right++]!
  while (left < middle) spare[out++] = items[left++]!
  // What remains on the right is in its place already.
  for (let i = from; i < out; i++) items[i] = spare[i]!
}

function sorted<T>(list: readonly T[], keys: Keys): T[] {
  const items = Uint32Array.from(list, (_, place) => place)
  mergeSort(keys, items, new Uint32Array(items.length), 0, items.length)
  return Array.from(items, (place) => list[place]!)
}

export function sortServices<T extends { readonly id: ServiceId }>(services: readonly T[]): T[] {
  const keys = new Keys(services.length, SERVICE_WORDS)
  for (const [i, { id }] of services.entries()) keys.set(i, id.family, serviceKey(id))
  return sorted(services, keys)
}

export function sortServers<T extends { readonly id: ServerId }>(servers: readonly T[]): T[] {
  const keys = new Keys(servers.length, SERVER_WORDS)
  for (const [i, { id }] of servers.entries()) keys.set(i, id.family, serverKey(id))
  return sorted(servers, keys)
}
