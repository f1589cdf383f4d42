/**
 * The lookup tables of the hashing schedulers: which real server stands in which slot. Built whenever
 * IPVS would rebuild its own; the packet program hashes a client to a slot (schedulers.md of the
 * specification, §6 to §9; equality with the kernel is checked by recorded vectors).
 */

import type { Family, IpAddress } from '../../net/address.ts'
import { addressWords } from '../../net/address.ts'
import { MH_TABLE_SIZE } from '../model/scheduler.ts'
import { gcd } from '../rules/scheduler-state.ts'
import { siphash13Word } from './siphash.ts'

/** What a table needs to know of a real server; in list order, newest first. */
export interface TableEntry {
  readonly address: IpAddress
  readonly port: number
  readonly weight: number
  /** The last weight that was not 0. */
  readonly lastWeight: number
}

export const DH_TABLE_SIZE = 256
export const SH_TABLE_SIZE = 256
/** The kernel halves weights until they fit this many bits: half the table index. */
const MH_WEIGHT_BITS = 6
/** Keys of the two hashes, fixed in the kernel. */
const MH_KEY_OFFSET = 2654435761
const MH_KEY_SKIP = 2654446892

/** Multiplicative hash with the golden ratio: the top `bits` of the product. */
export function hash32(value: number, bits: number): number {
  return Math.imul(value, 0x61c88647) >>> (32 - bits)
}

/** IPv4: the address as a number; IPv6: its four words, XORed. Unsigned 32-bit. */
export function foldAddress(address: IpAddress, family: Family): number {
  const [a, b, c, d] = addressWords(address)
  return family === 4 ? a : (a ^ b ^ c ^ d) >>> 0
}

/** Slot of a destination in a dh table. */
export function dhSlot(destination: IpAddress, family: Family): number {
  return hash32(foldAddress(destination, family), 8)
}

/**
 * Slot of a client in a sh table.
 * @param port the client's, or 0 without the flag sh-port.
 */
export function shSlot(client: IpAddress, family: Family, port: number, offset = 0): number {
  return (offset + hash32((port + foldAddress(client, family)) >>> 0, 8)) % SH_TABLE_SIZE
}

/** Hash of a client in a mh table; its slot is this modulo the table size. */
export function mhHash(client: IpAddress, family: Family, port: number, offset = 0): number {
  return siphash13Word((offset + port + foldAddress(client, family)) >>> 0, MH_KEY_OFFSET)
}

/** Every slot of a dh table as an index into `entries`; empty without entries. Weights play no part. */
export function dhTable(entries: readonly TableEntry[]): Uint32Array {
  if (entries.length === 0) return new Uint32Array(0)
  return Uint32Array.from({ length: DH_TABLE_SIZE }, (_, slot) => slot % entries.length)
}

/** Every slot of a sh table as an index into `entries`: max(1, weight) slots each, round and round. */
export function shTable(entries: readonly TableEntry[]): Uint32Array {
  if (entries.length === 0) return new Uint32Array(0)
  const table = new Uint32Array(SH_TABLE_SIZE)
  let at = 0
  let left = Math.max(1, entries[0]!.weight)
  for (let slot = 0; slot < SH_TABLE_SIZE; slot++) {
    table[slot] = at
    if (--left > 0) continue
    at = (at + 1) % entries.length
    left = Math.max(1, entries[at]!.weight)
  }
  return table
}

/** First slot and stride of a real server in the mh permutation. */
export function mhStart(entry: TableEntry, family: Family): { offset: number; skip: number } {
  const key = (entry.port + foldAddress(entry.address, family)) >>> 0
  return {
    offset: siphash13Word(key, MH_KEY_OFFSET) % MH_TABLE_SIZE,
    skip: (siphash13Word(key, MH_KEY_SKIP) % (MH_TABLE_SIZE - 1)) + 1,
  }
}

/** Slots each entry claims per round. */
export function mhTurns(entries: readonly TableEntry[]): number[] {
  let step = 0
  let max = 0
  for (const { lastWeight } of entries) {
    if (lastWeight === 0) continue
    step = gcd(step, lastWeight)
    max = Math.max(max, lastWeight)
  }
  if (step === 0) return entries.map(() => 0)
  const bits = 32 - Math.clz32(Math.floor(max / step))
  const shift = Math.max(0, bits - MH_WEIGHT_BITS)
  return entries.map(({ lastWeight }) =>
    lastWeight === 0 ? 0 : Math.max(1, Math.floor(lastWeight / step) >> shift),
  )
}

/**
 * Every slot of a mh (Maglev) table as an index into `entries`; empty when no entry ever had a weight
 * or there are more entries than slots.
 * @param family of the service: it decides how addresses are folded.
 */
export function mhTable(entries: readonly TableEntry[], family: Family): Uint32Array {
  const turns = mhTurns(entries)
  if (entries.length > MH_TABLE_SIZE || turns.every((count) => count === 0)) return new Uint32Array(0)
  const starts = entries.map((entry) => mhStart(entry, family))
  const position = starts.map(({ offset }) => offset)
  const free = 0xffffffff
  const table = new Uint32Array(MH_TABLE_SIZE).fill(free)
  let taken = 0
  for (;;) {
    for (let i = 0; i < entries.length; i++) {
      const { skip } = starts[i]!
      for (let turn = turns[i]!; turn > 0; turn--) {
        let slot = position[i]!
        while (table[slot] !== free) slot = (slot + skip) % MH_TABLE_SIZE
        table[slot] = i
        position[i] = slot
        if (++taken === MH_TABLE_SIZE) return table
      }
    }
  }
}
