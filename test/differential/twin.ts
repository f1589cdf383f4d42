/**
 * The packet program twice, in the kernel and in wasm, over maps with the same contents: every frame goes
 * through both, and whatever differs is told.
 *
 * In traffic control the kernel resolves the neighbour itself that wasm drops a packet for: then it goes on, and its
 * maps are made equal again.
 *
 * Time is the only input that is not ours. What the program in the kernel takes for it is read before and after each
 * run, and the wasm side gets the same value; a run during which it moved must equal that of one of the two, or is
 * made again.
 */

import { builtFile } from '../../dataplane/assets.ts'
import type { KernelDataplane } from '../../dataplane/kernel/plane.ts'
import { XdpAction } from '../../dataplane/kernel/test-run.ts'
import {
  Action,
  actionNames,
  Conn4Record,
  Conn6Record,
  ConnRecord,
  ConnStatus,
  InterfaceRecord,
  JobFlag,
  JobRecord,
  MAP_NAMES,
  type MapName,
  NeighbourRecord,
  PM_CONN_STATUS,
  PM_HEADROOM,
  PM_INTERFACE_MACS,
  PM_INTERFACES,
  PM_TIMEOUT_LBLC,
  PM_VERDICT_MAX,
  SettingsRecord,
  Verdict,
  verdictNames,
} from '../../dataplane/layout/layout.gen.ts'
import { stampLayout } from '../../dataplane/layout/stamp.ts'
import { openWasm } from '../../dataplane/userspace/wasm-file.ts'
import type { WasmDataplane } from '../../dataplane/wasm/program.ts'
import { MAC } from '../packets/bench.ts'
import { BenchRoutes } from '../packets/bench-routes.ts'
import { macBytes } from '../packets/bytes.ts'
import { decode, diff } from '../packets/decode.ts'
import type { Wire } from '../packets/vectors.ts'
import { lastFragment } from './last-fragment.ts'
import { type KernelHost, ProgramClock, ProgramRun } from './program-run.ts'
import { carriesError } from './sctp-error.ts'
import { tagIsBeside } from './tag-beside.ts'

/** Longest frame plus what a tunnel adds. */
const SCRATCH = PM_HEADROOM + 4096
const ETHERNET_ALIGN = 2
const ACTIONS: Readonly<Record<KernelHost, Readonly<Record<number, number>>>> = {
  xdp: {
    [XdpAction.Pass]: Action.Pass,
    [XdpAction.Drop]: Action.Drop,
    [XdpAction.Tx]: Action.Send,
    [XdpAction.Redirect]: Action.Send,
  },
  // TC_ACT_UNSPEC, TC_ACT_SHOT, TC_ACT_REDIRECT
  tc: { 4294967295: Action.Pass, 2: Action.Drop, 7: Action.Send },
}

/** BPF_PROG_TEST_RUN runs no program of traffic control on less than a header of IP (Linux 6.18). */
const SHORTEST_OF_STACK: Readonly<Record<number, number>> = { 2048: 14 + 20, 34525: 14 + 40 }

/** What runs the kernel's program. */
export type Run = Pick<ProgramRun, 'run' | 'output' | 'length'>

export interface Indices {
  readonly c0: number
  readonly r0: number
}

/** Times that a frame is played again because the time moved: a busy machine may stop us in the midst of it. */
const PLAYED_AGAIN = 20

const NO_MORE = Array.from({ length: PM_INTERFACE_MACS }, () => 0n)

export class Twin {
  readonly wasm: WasmDataplane
  readonly kernel: KernelDataplane
  readonly indices: Indices
  readonly host: KernelHost
  readonly #run: Run
  readonly #clock: Pick<ProgramClock, 'ticks'>
  readonly #jobs: number
  readonly #scratch: number
  readonly #memory: Uint8Array
  readonly #view: DataView
  readonly #pairs: readonly {
    readonly name: MapName
    readonly kernel: Buffer
    readonly wasm: Buffer
    readonly kept: Buffer
  }[]
  readonly #kernelVerdicts: BigUint64Array
  readonly #wasmVerdicts: BigUint64Array
  readonly #verdicts: number[] = new Array(PM_VERDICT_MAX).fill(0)
  /** Bytes that wasm saw of the frame when it came to its verdict. */
  #shown = 0
  /** How often a wrong checksum of SCTP was carried by one and made anew by the other (`sctp-error.ts`). */
  excused = 0
  /** How many frames left in fragments. */
  cut = 0
  /** How many wasm dropped for a neighbour that the kernel resolves. */
  resolved = 0
  frames = 0

  /** The calling thread must be in a network namespace that looks like the bench. */
  constructor(
    kernel: KernelDataplane,
    indices: Indices,
    run: Run = new ProgramRun(kernel.programFd, kernel.plane),
    clock: Pick<ProgramClock, 'ticks'> = new ProgramClock(kernel.programFd, kernel.plane),
  ) {
    this.kernel = kernel
    this.host = kernel.plane
    this.indices = indices
    const routes = new BenchRoutes(indices)
    this.wasm = openWasm({ sizes: kernel.sizes, wasmPath: builtFile('pointsman.wasm'), fib: routes.lookup })
    this.#run = run
    this.#clock = clock
    this.#jobs = this.wasm.owner.allocate(JobRecord.size)
    this.#scratch = this.wasm.owner.allocate(SCRATCH) + PM_HEADROOM + ETHERNET_ALIGN
    this.#memory = new Uint8Array(this.wasm.owner.memory.buffer)
    this.#view = new DataView(this.wasm.owner.memory.buffer)
    this.#pairs = MAP_NAMES.map((name) => ({
      name,
      kernel: bufferOf(kernel.map(name).bytes),
      wasm: bufferOf(this.wasm.map(name).bytes),
      kept: Buffer.alloc(kernel.map(name).bytes.length),
    }))
    this.#kernelVerdicts = kernel.map('verdicts').u64
    this.#wasmVerdicts = this.wasm.map('verdicts').u64
  }

  /** How often each verdict came since the beginning. */
  verdicts(): readonly (readonly [verdict: number, count: number])[] {
    this.#keepVerdicts()
    return Array.from(this.#verdicts, (count, verdict) => [verdict, count] as const).filter(
      ([, count]) => count > 0,
    )
  }

  #keepVerdicts(): void {
    for (const [verdict, count] of this.#wasmVerdicts.entries()) {
      this.#verdicts[verdict % PM_VERDICT_MAX] =
        (this.#verdicts[verdict % PM_VERDICT_MAX] ?? 0) + Number(count)
    }
  }

  /** Empty maps on both sides; the interfaces are those of the bench. */
  reset(hashSeed: number): void {
    this.#keepVerdicts()
    for (const name of MAP_NAMES) this.wasm.map(name).bytes.fill(0)
    stampLayout(this.wasm.map('settings').view)
    SettingsRecord.setHashSeed(this.wasm.map('settings').view, 0, hashSeed)
    // A daemon looks after the tables: packets expire only what they meet.
    SettingsRecord.setSwept(this.wasm.map('settings').view, 0, (this.kernel.nowTicks() + 2 ** 29) >>> 0)
    const interfaces = this.wasm.map('interfaces')
    for (const device of ['c0', 'r0'] as const) {
      const ifindex = this.indices[device]
      const record = { ifindex, mac: macBytes(MAC[device]), mtu: 1500, macs: 0, more: NO_MORE }
      InterfaceRecord.write(interfaces.view, (ifindex % PM_INTERFACES) * interfaces.entrySize, record)
    }
    this.copyToKernel()
    this.frames = 0
  }

  /** The kernel's maps become equal to those of wasm, where the rules are made. */
  copyToKernel(): void {
    for (const { kernel, wasm } of this.#pairs) wasm.copy(kernel)
  }

  /** No connection ends by itself, so that a sequence leads to the same however long it takes. */
  stopTimeouts(): void {
    const at = SettingsRecord.offsets.timeouts
    for (const map of [this.wasm.map('settings'), this.kernel.map('settings')]) {
      for (let i = 0; i < PM_TIMEOUT_LBLC; i++) map.view.setUint32(at + 4 * i, 0x1000_0000 + (i << 16), true)
    }
  }

  /** Ends the time of every n-th live line. */
  age(n: number): void {
    const past = (this.kernel.nowTicks() - 0x1000) >>> 0
    for (const name of ['connections4', 'connections6'] as const) {
      const offset = ConnRecord.offsets.expires
      for (const map of [this.wasm.map(name), this.kernel.map(name)]) {
        for (let i = 0; i < map.entries; i += n) {
          const base = i * map.entrySize
          if ((map.view.getUint32(base, true) & PM_CONN_STATUS) === ConnStatus.Live)
            map.view.setUint32(base + offset, past, true)
        }
      }
    }
  }

  /**
   * Sends one frame through both; null when they agree. At first the wasm side sees so many bytes of it. Where the time
   * has moved between two looks of the kernel's at it, no tick leads to what the kernel has made: both play the frame
   * again on what was before it.
   */
  step(frame: Uint8Array, length: number, wire: Wire, shown: number, tries = PLAYED_AGAIN): string[] | null {
    if (this.host === 'tc' && (length < (SHORTEST_OF_STACK[typeOf(frame)] ?? 0) || isToLoopback(frame)))
      return null
    if (tries === PLAYED_AGAIN) this.frames++
    const ifindex = wire === 'c' ? this.indices.c0 : this.indices.r0
    const before = this.#clock.ticks()
    const action = this.#run.run(frame, length, ifindex)
    const after = this.#clock.ticks()
    if (before === after) {
      this.#runWasm(frame, length, ifindex, shown, before)
      const found = this.#compareAnswers(action, ifindex, frame.subarray(0, length))
      return found === null ? null : this.#tell(frame, length, wire, found)
    }
    for (const { wasm, kept } of this.#pairs) wasm.copy(kept)
    const told: string[] = []
    for (const now of [after, before]) {
      for (const { wasm, kept } of this.#pairs) kept.copy(wasm)
      this.#runWasm(frame, length, ifindex, shown, now)
      const found = this.#compareAnswers(action, ifindex, frame.subarray(0, length)) ?? this.compareMaps()
      if (found === null) return null
      told.push(`at tick ${now} of ${before} and ${after}:`, ...found)
    }
    for (const { wasm, kernel, kept } of this.#pairs) for (const map of [wasm, kernel]) kept.copy(map)
    return tries > 0
      ? this.step(frame, length, wire, shown, tries - 1)
      : this.#tell(frame, length, wire, told)
  }

  #compareAnswers(action: number, ifindex: number, frame: Uint8Array): string[] | null {
    const found = this.#answersDiffer(action, ifindex, frame)
    return found === null ? null : [...found, ...(this.compareMaps() ?? [])]
  }

  #answersDiffer(action: number, ifindex: number, frame: Uint8Array): string[] | null {
    const view = this.#view
    const verdict = view.getUint32(this.#jobs + JobRecord.offsets.verdict, true)
    if (this.#isResolved(verdict)) {
      this.resolved++
      this.copyToKernel()
      return null
    }
    if (this.#kernelVerdicts[verdict] !== this.#wasmVerdicts[verdict]) {
      return [`wasm says ${verdictNames[verdict]}, the kernel ${this.#kernelVerdict()}`]
    }
    const wasmAction = view.getUint32(this.#jobs + JobRecord.offsets.action, true)
    if (ACTIONS[this.host][action] !== wasmAction)
      return [`wasm: ${actionNames[wasmAction]}, kernel: action ${action}`]
    if (wasmAction === Action.Drop) return null
    const other = this.#run.output.subarray(0, this.#run.length)
    const out = this.#wasmOutput(other)
    // Of a frame that wasm was not shown all of it has not made the checksum anew.
    const differs = Buffer.compare(out, other) !== 0
    const excused = differs && this.#shown < frame.length && carriesError(frame, out, other)
    if (excused) this.excused++
    const isBeside = this.host === 'tc' && verdict === Verdict.PassVlan && tagIsBeside(out, other)
    if (differs && !excused && !isBeside)
      return [`${verdictNames[verdict]}: - wasm, + kernel`, ...diff(out, other)]
    const egress = view.getUint32(this.#jobs + JobRecord.offsets.ifindex, true)
    if (
      this.host === 'xdp' &&
      wasmAction === Action.Send &&
      (egress === ifindex) !== (action === XdpAction.Tx)
    ) {
      return [`wasm sends to interface ${egress}, the kernel by XDP action ${action}`]
    }
    return null
  }

  /** Whether wasm has dropped the frame for a neighbour that the kernel resolves: there it goes on, to whatever end. */
  #isResolved(verdict: number): boolean {
    if (this.host !== 'tc' || verdict !== Verdict.DropNextHopUnresolved) return false
    return this.#kernelVerdicts[verdict] !== this.#wasmVerdicts[verdict]
  }

  #runWasm(frame: Uint8Array, length: number, ifindex: number, shownFirst: number, now: number): void {
    this.wasm.owner.setNow(now)
    const view = this.#view
    const { offsets } = JobRecord
    const put = (shown: number, flags: number): void => {
      this.#memory.set(frame.subarray(0, length), this.#scratch)
      view.setUint32(this.#jobs + offsets.data, this.#scratch, true)
      view.setUint32(this.#jobs + offsets.linear, shown, true)
      view.setUint32(this.#jobs + offsets.length, length, true)
      this.#shown = shown
      view.setUint32(this.#jobs + offsets.ifindex, ifindex, true)
      view.setUint32(this.#jobs + offsets.flags, flags, true)
      view.setInt32(this.#jobs + offsets.moved, 0, true)
      view.setUint32(this.#jobs + offsets.segment, 0, true)
      this.wasm.owner.runBatch(this.#jobs, 1)
    }
    put(Math.min(length, shownFirst), this.host === 'tc' ? JobFlag.Cuts : 0)
    if (view.getUint32(this.#jobs + offsets.action, true) === Action.Again) {
      put(length, view.getUint32(this.#jobs + offsets.flags, true))
    }
  }

  /** The frame as it leaves, or the last of its fragments. */
  #wasmOutput(kernel: Buffer): Buffer {
    const view = this.#view
    const { offsets } = JobRecord
    const start = this.#scratch + view.getInt32(this.#jobs + offsets.moved, true)
    const frame = Buffer.from(this.#memory.buffer, start, view.getUint32(this.#jobs + offsets.length, true))
    const mtu = view.getUint32(this.#jobs + offsets.cut, true)
    if (mtu === 0) return frame
    this.cut++
    return lastFragment(frame, mtu, kernel)
  }

  #kernelVerdict(): string {
    const differs = Array.from(this.#kernelVerdicts).findIndex(
      (count, i) => count > (this.#wasmVerdicts[i] ?? 0n),
    )
    return differs < 0 ? 'nothing of its own' : (verdictNames[differs] ?? String(differs))
  }

  /** Only the kernel's FIB says which gateway it was: records that differ in that are made equal. */
  #adoptGateways(): void {
    const { gateway } = NeighbourRecord.offsets
    for (const { name, kernel, wasm } of this.#pairs) {
      if (name !== 'neighbours' || kernel.equals(wasm)) continue
      const { entrySize } = this.wasm.map(name)
      for (let at = gateway; at < wasm.length; at += entrySize) kernel.copy(wasm, at, at, at + 4)
    }
  }

  /** Null when all maps are equal, else every record that differs, up to a few. */
  compareMaps(): string[] | null {
    this.#adoptGateways()
    const differing = this.#pairs.filter(({ kernel, wasm }) => Buffer.compare(kernel, wasm) !== 0)
    if (differing.length === 0) return null
    return differing.flatMap(({ name }) => this.#differingRecords(name)).slice(0, 30)
  }

  #differingRecords(name: MapName): string[] {
    const [left, right] = [this.wasm.map(name), this.kernel.map(name)]
    const told: string[] = []
    for (let index = 0; index < left.entries; index++) {
      const base = index * left.entrySize
      const one = bufferOf(left.bytes).subarray(base, base + left.entrySize)
      const other = bufferOf(right.bytes).subarray(base, base + left.entrySize)
      if (Buffer.compare(one, other) !== 0) {
        told.push(`map ${name}, record ${index}: - wasm, + kernel`, ...recordLines(name, one, other))
      }
    }
    return told
  }

  #tell(frame: Uint8Array, length: number, wire: Wire, lines: readonly string[]): string[] {
    return [
      `frame ${this.frames} on wire ${wire}:`,
      ...decode(frame.slice(0, length)).map((line) => `    ${line}`),
      ...lines,
    ]
  }
}

/** It takes every frame for one that came by `lo`, and what is to that one's address (zeroes) for one to the host. */
function isToLoopback(frame: Uint8Array): boolean {
  return frame.subarray(0, 6).every((byte) => byte === 0)
}

function typeOf(frame: Uint8Array): number {
  return (frame[12]! << 8) | frame[13]!
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function recordLines(name: MapName, one: Buffer, other: Buffer): string[] {
  const codec = name === 'connections4' ? Conn4Record : name === 'connections6' ? Conn6Record : null
  const text = (bytes: Buffer): string => {
    if (codec === null) return bytes.toString('hex')
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    return JSON.stringify(codec.read(view, 0), (_, value: unknown) =>
      value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
    )
  }
  return [`  - ${text(one)}`, `  + ${text(other)}`]
}
