/**
 * BPF_PROG_TEST_RUN straight through bpf(2) with buffers made once: for millions of frames, where the
 * allocations of `dataplane/kernel/test-run.ts` would be most of the time.
 */
import koffi from 'koffi'

const libc = koffi.load('libc.so.6')
const syscall = libc.func('long syscall(long, long, void *, long)')
const readClock = libc.func('syscall', 'long', ['long', 'long', 'void *'])
const setAffinity = libc.func('int sched_setaffinity(int, size_t, void *)')
const strerror = libc.func('str strerror(int)')

const SYS_BPF = process.arch === 'arm64' ? 280 : 321
const BPF_PROG_TEST_RUN = 10
const SYS_CLOCK_GETTIME = process.arch === 'arm64' ? 113 : 228
const CLOCK_MONOTONIC_COARSE = 6

/** Offsets in union bpf_attr, command BPF_PROG_TEST_RUN. */
const ATTR = {
  program: 0,
  retval: 4,
  sizeIn: 8,
  sizeOut: 12,
  dataIn: 16,
  dataOut: 24,
  repeat: 32,
  contextSize: 40,
  context: 48,
  size: 80,
} as const
/** struct xdp_md: data_end and ingress_ifindex; 24 bytes in all. */
const CONTEXT = { end: 4, ifindex: 12, size: 24 } as const

/** Frames in and out; one page less headroom and tail is what a linear XDP buffer holds. */
const FRAME_MAX = 4096

export class ProgramRun {
  /** The frame after the run: `length` bytes of it. */
  readonly output = Buffer.alloc(FRAME_MAX)
  length = 0
  readonly #input = Buffer.alloc(FRAME_MAX)
  readonly #attributes = Buffer.alloc(ATTR.size)
  readonly #context = Buffer.alloc(CONTEXT.size)
  readonly #attributeWords: DataView
  readonly #contextWords: DataView

  constructor(programFd: number) {
    this.#attributeWords = new DataView(this.#attributes.buffer, this.#attributes.byteOffset)
    this.#contextWords = new DataView(this.#context.buffer, this.#context.byteOffset)
    this.#attributes.writeUInt32LE(programFd, ATTR.program)
    this.#attributes.writeBigUInt64LE(koffi.address(this.#input), ATTR.dataIn)
    this.#attributes.writeBigUInt64LE(koffi.address(this.output), ATTR.dataOut)
    this.#attributes.writeUInt32LE(1, ATTR.repeat)
    this.#attributes.writeUInt32LE(CONTEXT.size, ATTR.contextSize)
    this.#attributes.writeBigUInt64LE(koffi.address(this.#context), ATTR.context)
  }

  /** Runs one frame; returns the XDP action. */
  run(frame: Uint8Array, length: number, ifindex: number): number {
    for (let i = 0; i < length; i++) this.#input[i] = frame[i] ?? 0
    this.#attributeWords.setUint32(ATTR.sizeIn, length, true)
    this.#attributeWords.setUint32(ATTR.sizeOut, FRAME_MAX, true)
    this.#contextWords.setUint32(CONTEXT.end, length, true)
    this.#contextWords.setUint32(CONTEXT.ifindex, ifindex, true)
    if (Number(syscall(SYS_BPF, BPF_PROG_TEST_RUN, this.#attributes, ATTR.size)) < 0) {
      throw new Error(
        `Cannot run a frame of ${length} bytes from ifindex ${ifindex}: ${strerror(koffi.errno())}`,
      )
    }
    this.length = this.#attributeWords.getUint32(ATTR.sizeOut, true)
    return this.#attributeWords.getUint32(ATTR.retval, true)
  }
}

const time = Buffer.alloc(16)
const timeWords = new DataView(time.buffer, time.byteOffset)

/**
 * The clock the program in the kernel reads, in its ticks of 2^23 ns. By system call: the copy that is mapped
 * into processes is renewed a moment before the kernel's own.
 */
export function coarseTicks(): number {
  readClock(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC_COARSE, time)
  // Seconds stay far below 2^31 and the product below 2^53.
  const nanoseconds = timeWords.getUint32(0, true) * 1e9 + timeWords.getUint32(8, true)
  return Math.floor(nanoseconds / 2 ** 23) >>> 0
}

/** Keeps this thread on one CPU, so that its per-CPU records stay the same. */
export function stayOnCpu(cpu: number): void {
  const mask = Buffer.alloc(128)
  mask[cpu >> 3] = 1 << (cpu & 7)
  if (setAffinity(0, mask.length, mask) !== 0)
    throw new Error(`Cannot stay on CPU ${cpu}: ${strerror(koffi.errno())}`)
}
