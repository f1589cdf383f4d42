/**
 * Fragments that came before the first of their datagram, which alone says where they go. They wait for it in
 * memory of their own, since the rings need theirs back: so many, so large, so long; whoever finds no room takes
 * the place of the one that has waited longest. What has waited in vain gets the verdict that it would have had
 * at once on a host that keeps nothing.
 */
import type { Region } from '../../wasm/region.ts'
import { VNET_HEADER } from '../packet/rings.ts'
import type { JobTable } from './jobs.ts'

/** Frames of an MTU of 1500 with the room for headers in front; what is larger does not wait. */
const SLOT_BYTES = 2048
const SLOTS = 64
export const WAITING_BYTES = SLOTS * SLOT_BYTES
/** Linux: net.ipv4.ipfrag_time. The note of a first fragment is good for as long. */
const WAIT_MS = 30_000

const ETHERNET = 14
const IPV4_FRAGMENT = ETHERNET + 6
const IPV6_NEXT = ETHERNET + 6
/** Headers that a fragment header may be, or be behind. */
const BEFORE_FRAGMENT: readonly number[] = [0, 43, 44, 60]

export interface Waiting {
  /** Address of the frame, a virtio header in front of it. */
  readonly data: number
  readonly bytes: number
  readonly ifindex: number
  readonly tap: number
  readonly toHost: number
  readonly untilMs: number
}

export class WaitingFragments {
  readonly #jobs: JobTable
  readonly #headroom: number
  /** Frames by age, and places without one. */
  #waiting: Waiting[] = []
  readonly #free: number[]

  /** `headroom`: before a frame, for headers that the program adds. */
  constructor(region: Region, jobs: JobTable, headroom: number) {
    this.#jobs = jobs
    this.#headroom = headroom
    const slots = Math.floor(region.bytes / SLOT_BYTES)
    this.#free = Array.from({ length: slots }, (_, i) => region.base + i * SLOT_BYTES + headroom)
  }

  get size(): number {
    return this.#waiting.length
  }

  fits(index: number): boolean {
    return this.#headroom + this.#jobs.length(index) <= SLOT_BYTES
  }

  /** The one whose place the next one needs, if there is no other; `free` it. */
  eldest(): Waiting | null {
    return this.#free.length > 0 ? null : (this.#waiting[0] ?? null)
  }

  /** Keeps the frame of a job that fits; there has to be room. */
  put(index: number, ifindex: number, nowMs: number): void {
    const jobs = this.#jobs
    const data = this.#free.pop()
    if (data === undefined) throw new Error('No room for another fragment that waits')
    // Not as it was received: a priority tag has been taken off.
    const from = jobs.start(index)
    const bytes = jobs.length(index)
    jobs.u8.copyWithin(data, from, from + bytes)
    // Of an early fragment nothing is unfinished that the first one would not say.
    jobs.u8.fill(0, data - VNET_HEADER, data)
    const toHost = jobs.toHost(index) ? 1 : 0
    this.#waiting.push({ data, bytes, ifindex, tap: jobs.tap(index), toHost, untilMs: nowMs + WAIT_MS })
  }

  /** Takes out those that `which` says; the oldest first. Their memory stays theirs until they are freed. */
  take(which: (one: Waiting) => boolean): readonly Waiting[] {
    const taken = this.#waiting.filter(which)
    if (taken.length > 0) this.#waiting = this.#waiting.filter((one) => !taken.includes(one))
    return taken
  }

  free(ones: readonly Waiting[]): void {
    for (const { data } of ones) this.#free.push(data)
  }

  /** Back to its place in the row: the first is not there yet. */
  keep(one: Waiting): void {
    const before = this.#waiting.findLastIndex(({ untilMs }) => untilMs <= one.untilMs)
    this.#waiting.splice(before + 1, 0, one)
  }

  /** Whether a first fragment may be among the jobs of a batch: then all that wait ask again. */
  mayHaveFirst(count: number): boolean {
    for (let i = 0; i < count; i++) if (this.#isFirst(this.#jobs.data(i))) return true
    return false
  }

  /** Headers of a tunnel end where the packet begins: what was before it they have overwritten. */
  #isFirst(data: number): boolean {
    const { u8 } = this.#jobs
    const version = u8[data + ETHERNET]! >> 4
    if (version === 4) {
      const word = (u8[data + IPV4_FRAGMENT]! << 8) | u8[data + IPV4_FRAGMENT + 1]!
      return (word & 0x3fff) === 0x2000
    }
    return version === 6 && BEFORE_FRAGMENT.includes(u8[data + IPV6_NEXT]!)
  }
}
