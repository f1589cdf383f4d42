/** `wrap.bpf.c` at work: one program run over many flows by BPF_PROG_TEST_RUN, the wrapper's cost known. */
import { testRun } from '../dataplane/kernel/test-run.ts'
import { BpfObject, costNs, updateMap } from './bpf.ts'
import type { Traffic } from './traffic.ts'

/** Bytes of frame in `struct plan`. */
const PLAN_FRAME = 64
/** And of the numbers behind it. */
const PLAN_WORDS = 9
/** `struct progress`, one per possible CPU. */
const PROGRESS_BYTES = 16

export interface FlowRange {
  readonly traffic: Traffic
  /** A power of two. */
  readonly flows: number
  readonly first?: number
  /** In random order with repeats, else each in turn. */
  readonly random?: boolean
  /** Each CPU has as many flows of its own: none is met on two of them. */
  readonly apart?: boolean
}

export interface Timed {
  readonly ns: number
  readonly action: number
}

export class Wrapper {
  readonly #object = new BpfObject('wrap.bpf.o')
  readonly #wrap = this.#object.program('wrap')
  readonly #plan = this.#object.map('bench_plan')
  readonly #progress = this.#object.map('bench_progress')
  readonly #target = this.#object.map('bench_target')
  readonly #cpus: number
  readonly references = {
    nop: this.#object.program('ref_nop'),
    drop: this.#object.program('ref_drop'),
    swap: this.#object.program('ref_swap'),
    swapTc: this.#object.program('ref_swap_tc'),
    encap: this.#object.program('ref_encap'),
  } as const
  #range: FlowRange | undefined
  #seed = 0x9e3779b97f4a7c15n

  constructor(cpus: number) {
    this.#cpus = cpus
  }

  get programFd(): number {
    return this.#wrap
  }

  /** What the following runs send. */
  choose(range: FlowRange): void {
    const plan = Buffer.alloc(PLAN_FRAME + PLAN_WORDS * 4)
    plan.set(range.traffic.frame.subarray(0, PLAN_FRAME))
    const words = [
      range.traffic.frame.length,
      range.flows - 1,
      range.random === true ? 1 : 0,
      range.traffic.addressOffset,
      range.traffic.portOffset,
      range.first ?? 0,
      range.traffic.family === 4 ? 1 : 0,
      range.traffic.checkOffset <= PLAN_FRAME - 2 ? range.traffic.checkOffset : 0,
      range.apart === true ? 1 : 0,
    ]
    words.forEach((word, index) => {
      plan.writeUInt32LE(word, PLAN_FRAME + index * 4)
    })
    updateMap(this.#plan, 0, plan)
    this.#range = range
    this.#restart()
  }

  #restart(): void {
    const progress = Buffer.alloc(PROGRESS_BYTES * this.#cpus)
    for (let cpu = 0; cpu < this.#cpus; cpu++) {
      this.#seed = BigInt.asUintN(64, this.#seed * 6364136223846793005n + 1442695040888963407n)
      progress.writeBigUInt64LE(this.#seed | 1n, cpu * PROGRESS_BYTES + 8)
    }
    updateMap(this.#progress, 0, progress)
  }

  /** The program that the following runs end in. */
  aim(programFd: number): void {
    updateMap(this.#target, 0, new Uint8Array(new Uint32Array([programFd]).buffer))
  }

  /** Sends `packets` from the interface; nanoseconds per packet with the wrapper's share. */
  run(programFd: number, ifindex: number, packets: number): Timed {
    const range = this.#range
    if (range === undefined) throw new Error('Choose the flows before a run')
    this.aim(programFd)
    let action = -1
    const ns = costNs(() => {
      action = testRun(this.#wrap, range.traffic.frame, { ifindex, repeat: packets }).action
    })
    return { ns: ns / packets, action }
  }

  close(): void {
    this.#object.close()
  }
}
