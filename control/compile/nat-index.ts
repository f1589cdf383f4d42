/**
 * The index of NAT real servers by the address and port they send from (`pm_find_nat_real` in
 * bpf/lookup.h), for the sysctl nat_icmp_send and for services with a persistence engine: kept while there are such,
 * empty otherwise. One entry per address, port and protocol, however many services share the real server.
 *
 * Left out are real servers of firewall marks, whose connections are not known here.
 */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import { Method, RealRecord, ServiceRecord, Slot } from '../../dataplane/layout/layout.gen.ts'
import { REAL_WORDS, SERVICE_WORDS } from './images.ts'
import { entriesOf, entrySlot, indexEntry, planPlace, serviceHash } from './service-index.ts'

const REAL = RealRecord.offsets
const SERVICE = ServiceRecord.offsets

export interface NatMaps {
  readonly natIndex: MapMemory
  readonly reals: MapMemory
  readonly services: MapMemory
}

/** Real servers that send from the same address and port; one of them has the entry. */
interface Senders {
  readonly hash: number
  readonly reals: Set<number>
}

export class NatIndex {
  readonly #maps: NatMaps
  /** By key; null while nobody asks. */
  #senders: Map<string, Senders> | null = null
  /** The key each indexed real server stands under. */
  readonly #keys = new Map<number, string>()
  readonly #touched = new Set<number>()
  readonly #scratch = new Uint32Array(SERVICE_WORDS)

  constructor(maps: NatMaps) {
    this.#maps = maps
  }

  /** Addresses and ports with an entry. */
  get size(): number {
    return this.#senders?.size ?? 0
  }

  /** Takes over the entries that an earlier director left, drops wrong ones, adds what is missing. */
  fill(): void {
    if (this.#senders !== null) return
    const senders = new Map<string, Senders>()
    this.#senders = senders
    const { natIndex, reals } = this.#maps
    for (let at = 0; at < natIndex.u64.length; at++) {
      const entry = natIndex.u64[at]!
      if (entry !== 0n && !this.#adopt(senders, at, entrySlot(entry))) Atomics.store(natIndex.u64, at, 0n)
    }
    for (let real = 0; real < reals.entries; real++) this.#follow(real)
  }

  /** The packet program must not look any more. */
  clear(): void {
    if (this.#senders === null) return
    this.#senders = null
    this.#keys.clear()
    this.#touched.clear()
    this.#maps.natIndex.u32.fill(0)
  }

  /** The record of a real server is about to change; `update` looks at it when its service's is there too. */
  touch(real: number): void {
    if (this.#senders !== null) this.#touched.add(real)
  }

  /** Brings the entries of all touched real servers in line with their records. */
  update(): void {
    for (const real of this.#touched) this.#follow(real)
    this.#touched.clear()
  }

  /** Whether the entry at `at` is right: in one of its key's buckets, and the only one of this key. */
  #adopt(senders: Map<string, Senders>, at: number, real: number): boolean {
    const { natIndex, reals } = this.#maps
    const key = real < reals.entries ? this.#keyOf(real) : null
    if (key === null || senders.has(key)) return false
    const hash = serviceHash(this.#scratch, 0)
    if (natIndex.u64[at] !== indexEntry(hash, real) || !entriesOf(natIndex, hash, real).includes(at))
      return false
    senders.set(key, { hash, reals: new Set([real]) })
    this.#keys.set(real, key)
    return true
  }

  #follow(real: number): void {
    const senders = this.#senders
    if (senders === null) return
    const before = this.#keys.get(real) ?? null
    const key = this.#keyOf(real)
    if (key === before) return
    if (before !== null) this.#leave(senders, before, real)
    if (key !== null) this.#join(senders, key, real)
  }

  #join(senders: Map<string, Senders>, key: string, real: number): void {
    this.#keys.set(real, key)
    const known = senders.get(key)
    if (known !== undefined) {
      known.reals.add(real)
      return
    }
    const hash = serviceHash(this.#scratch, 0)
    senders.set(key, { hash, reals: new Set([real]) })
    this.#publish(hash, real)
  }

  /** Another real server of the same address and port takes the entry over; the last one takes it away. */
  #leave(senders: Map<string, Senders>, key: string, real: number): void {
    this.#keys.delete(real)
    const known = senders.get(key)
    if (known === undefined) return
    known.reals.delete(real)
    if (known.reals.size === 0) senders.delete(key)
    const { natIndex } = this.#maps
    const [next] = known.reals
    const entry = next === undefined ? 0n : indexEntry(known.hash, next)
    for (const at of entriesOf(natIndex, known.hash, real)) Atomics.store(natIndex.u64, at, entry)
  }

  /** Without room the real server's packets go on as if the sysctl were off. */
  #publish(hash: number, real: number): void {
    const { natIndex } = this.#maps
    const hashOf = (other: number): number => this.#senders?.get(this.#keys.get(other) ?? '')?.hash ?? 0
    for (const { at, entry } of planPlace(natIndex, hashOf, real, hash) ?? []) {
      Atomics.store(natIndex.u64, at, entry)
    }
  }

  /** What the packets of a real server are found by, null if they are not to be; its words are in #scratch. */
  #keyOf(real: number): string | null {
    const { view, u32 } = this.#maps.reals
    const base = real * RealRecord.size
    if (RealRecord.getSlot(view, base) !== Slot.Live || RealRecord.getMethod(view, base) !== Method.Nat)
      return null
    const service = RealRecord.getService(view, base)
    const { services } = this.#maps
    if (service >= services.entries) return null
    const protocol = ServiceRecord.getProtocol(services.view, service * ServiceRecord.size)
    if (protocol === 0) return null
    const key = this.#scratch
    const family = RealRecord.getFamily(view, base)
    // Family, protocol and port share a word of the service's record; the port is in network order there.
    const port = u32[real * REAL_WORDS + REAL.port / 4]! & 0xffff
    key[SERVICE.family / 4] = family | (protocol << 8) | (port << 16)
    const addr = real * REAL_WORDS + REAL.addr / 4
    for (let i = 0; i < 4; i++) key[SERVICE.addr / 4 + i] = u32[addr + i]!
    return key.subarray(SERVICE.family / 4, SERVICE.addr / 4 + 4).join(' ')
  }
}
