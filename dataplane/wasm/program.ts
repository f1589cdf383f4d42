/**
 * The packet program without packets of its own: maps in wasm linear memory, frames handed in by the
 * caller. The userspace plane puts raw sockets around it; tests, `explain` and conformance runs use it
 * as it is.
 */
import type { NextHop } from '../../linux/netlink/next-hop.ts'
import {
  type AttachedInterface,
  type Dataplane,
  DataplaneError,
  type MapMemory,
  presentName,
  type Sizes,
  type WantedInterface,
} from '../dataplane.ts'
import {
  Action,
  FibResult as Fib,
  type FibRecord as FibQuery,
  FibRecord,
  type FibResult,
  JobRecord,
  LimitsRecord,
  MAP_NAMES,
  MAPS,
  type MapName,
  PM_HEADROOM,
} from '../layout/layout.gen.ts'
import { stampLayout } from '../layout/stamp.ts'
import { mapMemory } from '../map-memory.ts'
import { checkSizes, limitsOf, mapEntries } from '../sizes.ts'
import { createMemory, type InstanceSeat, ProgramOwner } from './instance.ts'

/** Answers the program's question for a next hop, at once. */
export type NextHopLookup = (query: FibQuery) => NextHop

export type { NextHop }

export interface WasmOptions {
  readonly sizes: Sizes
  readonly module: WebAssembly.Module
  readonly fib: NextHopLookup
  /** Clock in ticks. */
  readonly now: () => number
  /** The most that linear memory may grow to, in pages; all that wasm32 can address if left out. */
  readonly maximumPages?: number
  /** Told where the maps lie from, before anything is written there; not of memory of the caller's. */
  readonly placed?: (memory: WebAssembly.Memory, from: number) => void
  /** Puts memory of the caller's in the place of the maps'; memory of their own if left out. */
  readonly backing?: MapsBacking
}

/** Memory that maps lie in, one after the other, and how it becomes linear memory. */
export interface MapsBacking {
  readonly bytes: number
  /** Multiples of `MAP_ALIGNMENT` from the start of that memory. */
  offset(name: MapName): number
  /** In the place of `bytes` of linear memory from `base` on. */
  mapInto(memory: WebAssembly.Memory, base: number): void
}

/** Pages of the machine: maps that lie in memory of others start at one. */
export const MAP_ALIGNMENT = 4096

/** A frame for the program. */
export interface FrameIn {
  readonly frame: Uint8Array
  /** Received from. */
  readonly ifindex: number
  /** `JobFlag` bits. */
  readonly flags?: number
  /** IP bytes of the largest segment of a super-packet. */
  readonly segment?: number
  /** Bytes of `frame` to show the program at first, all if left out. */
  readonly linear?: number
}

/** What the program made of it. */
export interface FrameOut {
  readonly verdict: number
  readonly action: number
  /** The frame after rewriting, copied out. */
  readonly frame: Uint8Array
  /** Send to; meaningful when `action` is to send. */
  readonly ifindex: number
  /** IP bytes of the largest fragment that it is to be sent in (`JobFlag.Cuts`); 0: in one piece. */
  readonly cut: number
}

/** Frames of one call of the program, together with their headroom. */
const SCRATCH_BYTES = 512 * 1024
/** Jobs of one call of the program. */
const BATCH = 64
/** A frame starts 2 bytes behind a multiple of 16, so that its IP header is aligned. */
const FRAME_ALIGN = 16
const ETHERNET_SHIFT = 2
/** Of wasm memory. */
const PAGE = 65_536

const RESULTS: Readonly<Record<NextHop['result'], FibResult>> = {
  ok: Fib.Ok,
  'no-route': Fib.NoRoute,
  local: Fib.Local,
  'no-neighbour': Fib.NoNeighbour,
  'forwarding-off': Fib.ForwardingOff,
}

/** Puts a query into JavaScript's terms and its answer back into `struct pm_fib`. */
export function fibHost(memory: WebAssembly.Memory, lookup: NextHopLookup): (address: number) => FibResult {
  let view = new DataView(memory.buffer)
  return (address) => {
    // Shared memory grows in place: an old view stays valid, but ends where memory once ended.
    if (address + FibRecord.size > view.byteLength) view = new DataView(memory.buffer)
    const query = FibRecord.read(view, address)
    const hop = lookup(query)
    if (hop.result === 'ok') {
      FibRecord.write(view, address, {
        ...query,
        ifindex: hop.ifindex,
        smac: hop.smac,
        dmac: hop.dmac,
        mtu: hop.mtu,
      })
    }
    return RESULTS[hop.result]
  }
}

export class WasmDataplane implements Dataplane {
  readonly plane = 'memory'
  readonly sizes: Sizes
  readonly owner: ProgramOwner
  readonly #maps: ReadonlyMap<MapName, MapMemory>
  readonly #now: () => number
  readonly #jobs: number
  readonly #scratch: number
  readonly #view: DataView
  readonly #bytes: Uint8Array

  constructor(options: WasmOptions) {
    const { sizes } = options
    checkSizes(sizes)
    this.sizes = sizes
    this.#now = options.now
    const memory = createMemory(options.maximumPages)
    this.owner = new ProgramOwner(options.module, memory, fibHost(memory, options.fib))

    const entries = mapEntries(sizes)
    const { backing } = options
    const start = backing === undefined ? 0 : this.owner.allocate(backing.bytes, PAGE)
    const bases = MAP_NAMES.map((name) => {
      const bytes = entries[name] * MAPS[name].entrySize
      const base = backing === undefined ? this.owner.allocate(bytes) : start + backing.offset(name)
      this.owner.setMap(MAPS[name].index, base, entries[name])
      return [name, base] as const
    })
    if (backing === undefined) options.placed?.(memory, bases[0]![1])
    else backing.mapInto(memory, start)
    this.#jobs = this.owner.allocate(BATCH * JobRecord.size)
    this.#scratch = this.owner.allocate(SCRATCH_BYTES)
    // All of the above may have grown the memory: views are made when it has its size.
    this.#maps = new Map(
      bases.map(([name, base]) => [name, mapMemory(name, entries[name], memory.buffer, base)] as const),
    )
    this.#view = new DataView(memory.buffer)
    this.#bytes = new Uint8Array(memory.buffer)
    LimitsRecord.write(this.#view, this.owner.limits(), limitsOf(sizes, sizes.cpus))
    stampLayout(this.map('settings').view)
  }

  map(name: MapName): MapMemory {
    const map = this.#maps.get(name)
    if (map === undefined) throw new DataplaneError(`No map "${name}"`)
    return map
  }

  nowTicks(): number {
    return this.#now()
  }

  /**
   * Runs frames through the program in their order. The clock is read once per call. A frame of which
   * the program wants more than `linear` bytes is run again with all of them.
   */
  run(frames: readonly FrameIn[]): FrameOut[] {
    const results: FrameOut[] = []
    this.owner.setNow(this.nowTicks())
    let next = 0
    while (next < frames.length) {
      let count = 0
      let used = 0
      while (next + count < frames.length && count < BATCH) {
        const input = frames[next + count]!
        const room = align(PM_HEADROOM + ETHERNET_SHIFT + input.frame.length)
        if (room > SCRATCH_BYTES) {
          throw new RangeError(`Frame of ${input.frame.length} bytes, expected at most ${SCRATCH_BYTES}`)
        }
        if (used + room > SCRATCH_BYTES) break
        const data = this.#scratch + used + PM_HEADROOM + ETHERNET_SHIFT
        this.#bytes.set(input.frame, data)
        this.#writeJob(count, data, input, input.linear ?? input.frame.length)
        used += room
        count += 1
      }
      this.owner.runBatch(this.#jobs, count)
      for (let i = 0; i < count; i++) this.#runAgain(this.#jobs + i * JobRecord.size, frames[next + i]!)
      for (let i = 0; i < count; i++) results.push(this.#readJob(i, frames[next + i]!))
      next += count
    }
    return results
  }

  /** With the whole frame, if the program asked for it. */
  #runAgain(job: number, { frame }: FrameIn): void {
    if (JobRecord.getAction(this.#view, job) !== Action.Again) return
    // The first run may have taken a tag off.
    this.#bytes.set(frame, JobRecord.getData(this.#view, job))
    JobRecord.setLength(this.#view, job, frame.length)
    JobRecord.setLinear(this.#view, job, frame.length)
    this.owner.runBatch(job, 1)
  }

  #writeJob(index: number, data: number, input: FrameIn, linear: number): void {
    JobRecord.write(this.#view, this.#jobs + index * JobRecord.size, {
      data,
      linear,
      length: input.frame.length,
      ifindex: input.ifindex,
      verdict: 0,
      action: 0,
      flags: input.flags ?? 0,
      moved: 0,
      segment: input.segment ?? 0,
      connection: 0,
      cut: 0,
    })
  }

  #readJob(index: number, input: FrameIn): FrameOut {
    const job = JobRecord.read(this.#view, this.#jobs + index * JobRecord.size)
    const start = job.data + job.moved
    const rest = job.length - job.linear
    const frame = new Uint8Array(job.length)
    frame.set(this.#bytes.subarray(start, start + job.linear))
    // The payload the program did not see follows its last byte, where the frame was laid down.
    frame.set(this.#bytes.subarray(start + job.linear, start + job.linear + rest), job.linear)
    return {
      verdict: job.verdict,
      action: job.action,
      frame,
      ifindex: job.ifindex || input.ifindex,
      cut: job.cut,
    }
  }

  /** For the threads of the userspace plane. */
  seat(cpu: number): InstanceSeat {
    return this.owner.seat(cpu)
  }

  interfaces(): readonly AttachedInterface[] {
    return []
  }

  async attach(interfaces: readonly WantedInterface[]): Promise<never> {
    throw new DataplaneError(
      `Cannot attach ${interfaces.map(presentName).join(', ')}: the program in wasm has no packets of its own, use the userspace plane`,
    )
  }

  async detach(): Promise<void> {}

  async close(): Promise<void> {}

  program(): { readonly name: string; readonly id: null; readonly tag: null } {
    return { name: 'pointsman.wasm', id: null, tag: null }
  }
}

function align(bytes: number): number {
  return Math.ceil(bytes / FRAME_ALIGN) * FRAME_ALIGN
}
