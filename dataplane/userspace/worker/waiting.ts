/**
 * Fragments that came before the first of their datagram, which alone says where they go. They wait for it in
 * memory of their own, since the rings need theirs back: so many, so large, so long; whoever finds no room takes
 * the place of the one that has waited longest. What has waited in vain gets the verdict that it would have had
 * at once on a host that keeps nothing. Each is asked for again when a first of its own datagram has come: were it
 * with any, whoever sends firsts would have all of them run each time.
 */
import type { Region } from '../../wasm/region.ts'
import { VNET_HEADER } from '../packet/rings.ts'
import { fragmentAt } from './datagram.ts'
import type { JobTable } from './jobs.ts'

/** Frames of an MTU of 1500 with the room for headers in front; what is larger does not wait. */
const SLOT_BYTES = 2048
const SLOTS = 64
export const WAITING_BYTES = SLOTS * SLOT_BYTES
/** Linux: net.ipv4.ipfrag_time. The note of a first fragment is good for as long. */
const WAIT_MS = 30_000

export interface Waiting {
  /** Address of the frame, a virtio header in front of it. */
  readonly data: number
  readonly bytes: number
  readonly ifindex: number
  readonly tap: number
  readonly toHost: number
  readonly untilMs: number
  /** Null: it cannot be told. */
  readonly datagram: string | null
  /** In the order of their coming. */
  readonly number: number
}

export class WaitingFragments {
  readonly #jobs: JobTable
  readonly #headroom: number
  /** Frames by age, and places without one. */
  #waiting: Waiting[] = []
  readonly #free: number[]
  #last = 0

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

  /** Of the last one that has come. */
  get last(): number {
    return this.#last
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
    const datagram = fragmentAt(jobs.u8, data, bytes)?.datagram ?? null
    this.#last += 1
    this.#waiting.push({
      ...{ data, bytes, ifindex, tap: jobs.tap(index), toHost, datagram },
      ...{ untilMs: nowMs + WAIT_MS, number: this.#last },
    })
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

  /** Datagrams whose first is among the jobs of a batch that was not run yet: with NAT it has other addresses then. */
  firsts(count: number): ReadonlySet<string> {
    const found = new Set<string>()
    const jobs = this.#jobs
    for (let i = 0; i < count; i++) {
      const fragment = fragmentAt(jobs.u8, jobs.data(i), jobs.received(i))
      if (fragment?.isFirst === true) found.add(fragment.datagram)
    }
    return found
  }
}
