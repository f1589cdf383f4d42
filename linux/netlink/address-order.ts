/**
 * A set of addresses in their order, to ask which of them lie within a prefix. In chunks, so that one more or
 * one less among a hundred thousand moves some hundred entries and not all.
 */
import { addressToBytes, familyOf, type IpAddress } from '../../net/address.ts'
import type { Prefix } from './rtnetlink.ts'

const CHUNK_MAX = 512

export class AddressOrder {
  readonly #v4 = new Chunks<number>()
  readonly #v6 = new Chunks<string>()

  add(address: IpAddress): void {
    const bytes = addressToBytes(address)
    if (familyOf(address) === 4) this.#v4.add(numberOf(bytes), address)
    else this.#v6.add(textOf(bytes), address)
  }

  delete(address: IpAddress): void {
    const bytes = addressToBytes(address)
    if (familyOf(address) === 4) this.#v4.delete(numberOf(bytes))
    else this.#v6.delete(textOf(bytes))
  }

  /** Calls back for each address within a prefix; how many there were. */
  within({ family, bytes, length }: Prefix, found: (address: IpAddress) => void): number {
    if (family === 6) return this.#v6.isEmpty ? 0 : this.#v6.between(...rangeOf(bytes, length), found)
    const size = 2 ** (32 - length)
    const low = Math.floor(numberOf(bytes) / size) * size
    return this.#v4.between(low, low + size - 1, found)
  }
}

interface Chunk<Key> {
  readonly keys: Key[]
  readonly addresses: IpAddress[]
}

class Chunks<Key extends number | string> {
  /** None is empty. */
  readonly #chunks: Chunk<Key>[] = []

  get isEmpty(): boolean {
    return this.#chunks.length === 0
  }

  /** The chunk that has the key, or would have it: the last that does not begin behind it. */
  #chunkOf(key: Key): number {
    let [low, high] = [0, this.#chunks.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#chunks[middle]!.keys[0]! <= key) low = middle + 1
      else high = middle
    }
    return Math.max(0, low - 1)
  }

  add(key: Key, address: IpAddress): void {
    const index = this.#chunkOf(key)
    const chunk = this.#chunks[index]
    if (chunk === undefined) {
      this.#chunks.push({ keys: [key], addresses: [address] })
      return
    }
    const at = lowerBound(chunk.keys, key)
    if (chunk.keys[at] === key) return
    chunk.keys.splice(at, 0, key)
    chunk.addresses.splice(at, 0, address)
    if (chunk.keys.length <= CHUNK_MAX) return
    const half = CHUNK_MAX / 2
    const second = { keys: chunk.keys.splice(half), addresses: chunk.addresses.splice(half) }
    this.#chunks.splice(index + 1, 0, second)
  }

  delete(key: Key): void {
    const index = this.#chunkOf(key)
    const chunk = this.#chunks[index]
    if (chunk === undefined) return
    const at = lowerBound(chunk.keys, key)
    if (chunk.keys[at] !== key) return
    chunk.keys.splice(at, 1)
    chunk.addresses.splice(at, 1)
    if (chunk.keys.length === 0) this.#chunks.splice(index, 1)
  }

  between(low: Key, high: Key, found: (address: IpAddress) => void): number {
    let count = 0
    for (let index = this.#chunkOf(low); index < this.#chunks.length; index++) {
      const { keys, addresses } = this.#chunks[index]!
      for (let at = lowerBound(keys, low); at < keys.length; at++) {
        if (keys[at]! > high) return count
        found(addresses[at]!)
        count += 1
      }
    }
    return count
  }
}

function lowerBound<Key extends number | string>(keys: readonly Key[], key: Key): number {
  let [low, high] = [0, keys.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if (keys[middle]! < key) low = middle + 1
    else high = middle
  }
  return low
}

/** An IPv4 address in the order of its bytes. */
function numberOf(bytes: Uint8Array): number {
  return ((bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!) >>> 0
}

/** An IPv6 address in the order of its bytes. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

function rangeOf(bytes: Uint8Array, length: number): readonly [string, string] {
  const low = bytes.slice()
  const high = bytes.slice()
  for (let i = 0; i < bytes.length; i++) {
    const mask = 0xff >> Math.min(8, Math.max(0, length - i * 8))
    low[i] = low[i]! & ~mask
    high[i] = high[i]! | mask
  }
  return [textOf(low), textOf(high)]
}
