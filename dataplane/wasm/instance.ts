/**
 * The packet program in wasm32: one module, one linear memory, one instance per thread that runs it.
 *
 * The memory is shared and imported, so that every instance sees the same maps and frames. Each
 * instance needs a stack of its own (`__stack_pointer`) and its own block of thread-local variables
 * (`__wasm_init_tls`): the clock and the row of the per-CPU maps are such variables.
 */
import { DataplaneError } from '../dataplane.ts'

/** Bytes of C stack per instance; the deepest path of the program needs a few hundred. */
const STACK_BYTES = 64 * 1024
/** Below every stack: an overflow shows here before it shows in somebody else's records. */
const GUARD_BYTES = 256
const GUARD_WORD = 0x6b6e_7573
/** Bytes to start with: the program's own data and its first stack. `pm_alloc` grows it. */
const INITIAL_PAGES = 64
/** The most wasm32 can address, 4 GiB; must match `--max-memory` of the build. */
const MAXIMUM_PAGES = 65_536

/** Answers one next hop query: the argument is the address of a `struct pm_fib` in linear memory. */
export type FibHost = (address: number) => number

/** What one instance needs to be set up in another thread; plain data, may be posted. */
export interface InstanceSeat {
  readonly module: WebAssembly.Module
  readonly memory: WebAssembly.Memory
  /** Address behind the instance's stack. */
  readonly stackTop: number
  /** Address of the instance's thread-local block. */
  readonly threadLocals: number
  /** Row in `counters` and `verdicts`. */
  readonly cpu: number
}

/** The program, ready to run in the thread that made it. */
export interface ProgramInstance {
  /** Sets the clock of the following runs, in ticks. */
  setNow(ticks: number): void
  /** Runs `count` records of `struct pm_job`. */
  runBatch(jobs: number, count: number): void
}

/**
 * What is done with every frame before and after the program: rings to jobs and back. All arguments are
 * addresses in linear memory, counts and indices; described where it is written, in bpf/intake.h,
 * bpf/packet-ring.h and bpf/xsk-queue.h.
 */
export interface FrameMover {
  arrive(
    job: number,
    arrival: number,
    data: number,
    length: number,
    ifindex: number,
    port: number,
    toHost: number,
  ): void
  ringTake(ring: number, jobs: number, arrivals: number, room: number): number
  ringGive(ring: number): void
  ringPut(ring: number, jobs: number, arrivals: number, from: number, end: number): number
  queueTake(queue: number, jobs: number, arrivals: number, room: number): number
  queuePut(queue: number, jobs: number, arrivals: number, from: number, end: number): number
  queueCollect(queue: number): void
  queueGive(queue: number, arrivals: number, count: number): void
}

/** An instance in a worker thread. */
export interface SeatedInstance extends ProgramInstance, FrameMover {
  /** False when the program has written below its stack: memory of others can no longer be trusted. */
  stackIsWhole(): boolean
}

interface ProgramExports extends FrameMover {
  readonly alloc: (bytes: number) => number
  readonly mapSet: (index: number, base: number, entries: number) => void
  readonly limitsPtr: () => number
  readonly setNow: (ticks: number) => void
  readonly setCpu: (row: number) => void
  readonly runBatch: (jobs: number, count: number) => void
  readonly stackPointer: WebAssembly.Global
  readonly initThreadLocals: (address: number) => void
  readonly threadLocalBytes: number
}

/** The memory every instance of one plane shares. */
export function createMemory(maximum = MAXIMUM_PAGES): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared: true })
}

/**
 * The first instance of a program, owner of the memory's layout: only it allocates. Its own stack is
 * the one the linker laid out.
 */
export class ProgramOwner implements ProgramInstance {
  readonly module: WebAssembly.Module
  readonly memory: WebAssembly.Memory
  readonly #exports: ProgramExports

  constructor(module: WebAssembly.Module, memory: WebAssembly.Memory, fib: FibHost) {
    this.module = module
    this.memory = memory
    this.#exports = instantiate(module, memory, fib)
    this.#exports.initThreadLocals(this.allocate(this.#exports.threadLocalBytes))
    this.#exports.setCpu(0)
  }

  /** Bytes of linear memory, zeroed, never given back; the address is a multiple of `alignment`. */
  allocate(bytes: number, alignment = 64): number {
    const slack = alignment > 64 ? alignment : 0
    const address = this.#exports.alloc(bytes + slack) >>> 0
    if (address === 0) {
      throw new DataplaneError(`Cannot allocate ${bytes} bytes of wasm memory: its limit is 4 GiB`)
    }
    return Math.ceil(address / alignment) * alignment
  }

  /** What workers do around the program; here for tests. */
  get mover(): FrameMover {
    return this.#exports
  }

  /** Stack and thread-local block for an instance in another thread. */
  seat(cpu: number): InstanceSeat {
    return {
      module: this.module,
      memory: this.memory,
      stackTop: this.allocate(GUARD_BYTES + STACK_BYTES) + GUARD_BYTES + STACK_BYTES,
      threadLocals: this.allocate(this.#exports.threadLocalBytes),
      cpu,
    }
  }

  setMap(index: number, base: number, entries: number): void {
    this.#exports.mapSet(index, base, entries)
  }

  /** Address of `struct pm_limits`. */
  limits(): number {
    return this.#exports.limitsPtr() >>> 0
  }

  setNow(ticks: number): void {
    this.#exports.setNow(ticks)
  }

  runBatch(jobs: number, count: number): void {
    this.#exports.runBatch(jobs, count)
  }
}

/** A further instance over the same memory, for a worker thread. */
export function seatInstance(seat: InstanceSeat, fib: FibHost): SeatedInstance {
  const exports = instantiate(seat.module, seat.memory, fib)
  exports.stackPointer.value = seat.stackTop
  exports.initThreadLocals(seat.threadLocals)
  exports.setCpu(seat.cpu)
  const guard = stackGuard(seat)
  return {
    ...exports,
    runBatch(jobs, count) {
      try {
        exports.runBatch(jobs, count)
      } catch (error) {
        // A trap unwinds JavaScript's stack, not the program's: whatever its functions had taken stays taken.
        exports.stackPointer.value = seat.stackTop
        throw error
      }
    },
    stackIsWhole: () => guard.every((word) => word === GUARD_WORD),
  }
}

/** Words below the stack that nobody writes. */
function stackGuard(seat: InstanceSeat): Uint32Array {
  const guard = new Uint32Array(
    seat.memory.buffer,
    seat.stackTop - STACK_BYTES - GUARD_BYTES,
    GUARD_BYTES / 4,
  )
  guard.fill(GUARD_WORD)
  return guard
}

function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory, fib: FibHost): ProgramExports {
  const instance = new WebAssembly.Instance(module, {
    env: { memory, pm_host_fib: (address: number) => fib(address >>> 0) },
  })
  const exported = instance.exports
  const threadLocalBytes = exported.__tls_size
  return {
    alloc: callable(exported, 'pm_alloc'),
    mapSet: callable(exported, 'pm_map_set'),
    limitsPtr: callable(exported, 'pm_limits_ptr'),
    setNow: callable(exported, 'pm_set_now'),
    setCpu: callable(exported, 'pm_set_cpu'),
    runBatch: callable(exported, 'pm_run_batch'),
    arrive: callable(exported, 'pm_arrive'),
    ringTake: callable(exported, 'pm_ring_take'),
    ringGive: callable(exported, 'pm_ring_give'),
    ringPut: callable(exported, 'pm_ring_put'),
    queueTake: callable(exported, 'pm_queue_take'),
    queuePut: callable(exported, 'pm_queue_put'),
    queueCollect: callable(exported, 'pm_queue_collect'),
    queueGive: callable(exported, 'pm_queue_give'),
    stackPointer: variable(exported, '__stack_pointer'),
    // The linker leaves both out of a program without thread-local variables.
    initThreadLocals:
      exported.__wasm_init_tls === undefined ? () => {} : callable(exported, '__wasm_init_tls'),
    threadLocalBytes: Math.max(
      64,
      threadLocalBytes instanceof WebAssembly.Global ? Number(threadLocalBytes.value) : 0,
    ),
  }
}

function callable(exports: WebAssembly.Exports, name: string): (...numbers: number[]) => number {
  const value = exports[name]
  if (typeof value !== 'function') {
    throw new DataplaneError(`The packet program does not export ${name}: build it again (npm run build)`)
  }
  return value as (...numbers: number[]) => number
}

function variable(exports: WebAssembly.Exports, name: string): WebAssembly.Global {
  const value = exports[name]
  if (!(value instanceof WebAssembly.Global)) {
    throw new DataplaneError(`The packet program does not export ${name}: build it again (npm run build)`)
  }
  return value
}
