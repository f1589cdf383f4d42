/**
 * BPF_PROG_TEST_RUN straight through bpf(2) with buffers made once: for millions of frames, where the
 * allocations of `dataplane/kernel/test-run.ts` would be most of the time.
 */
import { readFileSync } from 'node:fs'
import koffi from 'koffi'
import { builtFile } from '../../dataplane/assets.ts'
import { mapInfo } from '../../dataplane/kernel/object-info.ts'
import { parseElf } from '../../dataplane/layout/elf.ts'
import { mapShared } from '../../linux/libc.ts'

const libc = koffi.load('libc.so.6')
const syscall = libc.func('long syscall(long, long, void *, long)')
const readClock = libc.func('syscall', 'long', ['long', 'long', 'void *'])
const setAffinity = libc.func('int sched_setaffinity(int, size_t, void *)')
const strerror = libc.func('str strerror(int)')
const closeFile = libc.func('int close(int)')

const SYS_BPF = process.arch === 'arm64' ? 280 : 321
const BPF_PROG_TEST_RUN = 10
const BPF_MAP_GET_FD_BY_ID = 14
const BPF_OBJ_GET_INFO_BY_FD = 15
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
/** Where packets come to the program in the kernel. */
export type KernelHost = 'xdp' | 'tc'
/**
 * struct xdp_md and struct __sk_buff: where the interface stands, and the end of the frame, if it has to be said; in all.
 */
const CONTEXTS: Readonly<Record<KernelHost, { ifindex: number; end: number | null; size: number }>> = {
  xdp: { ifindex: 12, end: 4, size: 24 },
  tc: { ifindex: 40, end: null, size: 192 },
}

/** Frames in and out; one page less headroom and tail is what a linear XDP buffer holds. */
const FRAME_MAX = 4096

export class ProgramRun {
  /** The frame after the run: `length` bytes of it. */
  readonly output = Buffer.alloc(FRAME_MAX)
  length = 0
  readonly #input = Buffer.alloc(FRAME_MAX)
  readonly #attributes = Buffer.alloc(ATTR.size)
  readonly #fields: (typeof CONTEXTS)[KernelHost]
  readonly #context: Buffer
  readonly #attributeWords: DataView
  readonly #contextWords: DataView

  constructor(programFd: number, host: KernelHost = 'xdp') {
    this.#fields = CONTEXTS[host]
    this.#context = Buffer.alloc(this.#fields.size)
    this.#attributeWords = new DataView(this.#attributes.buffer, this.#attributes.byteOffset)
    this.#contextWords = new DataView(this.#context.buffer, this.#context.byteOffset)
    this.#attributes.writeUInt32LE(programFd, ATTR.program)
    this.#attributes.writeBigUInt64LE(koffi.address(this.#input), ATTR.dataIn)
    this.#attributes.writeBigUInt64LE(koffi.address(this.output), ATTR.dataOut)
    this.#attributes.writeUInt32LE(1, ATTR.repeat)
    this.#attributes.writeUInt32LE(this.#fields.size, ATTR.contextSize)
    this.#attributes.writeBigUInt64LE(koffi.address(this.#context), ATTR.context)
  }

  /** Runs one frame; returns the action. */
  run(frame: Uint8Array, length: number, ifindex: number): number {
    for (let i = 0; i < length; i++) this.#input[i] = frame[i] ?? 0
    this.#attributeWords.setUint32(ATTR.sizeIn, length, true)
    this.#attributeWords.setUint32(ATTR.sizeOut, FRAME_MAX, true)
    if (this.#fields.end !== null) this.#contextWords.setUint32(this.#fields.end, length, true)
    this.#contextWords.setUint32(this.#fields.ifindex, ifindex, true)
    if (Number(syscall(SYS_BPF, BPF_PROG_TEST_RUN, this.#attributes, ATTR.size)) < 0) {
      throw new Error(
        `Cannot run a frame of ${length} bytes from ifindex ${ifindex}: ${strerror(koffi.errno())}`,
      )
    }
    this.length = this.#attributeWords.getUint32(ATTR.sizeOut, true)
    return this.#attributeWords.getUint32(ATTR.retval, true)
  }
}

/** struct bpf_prog_info: how many maps a program has, and where their ids are to go. */
const PROGRAM_INFO = { mapCount: 52, mapIds: 56, size: 64 } as const
const MAPS_MAX = 128

/**
 * What the program in the kernel takes for the time (`pm_asked`). It asks the coarse clock once a jiffy, and where it
 * does so when the kernel has counted the jiffy and not moved that clock yet, it is a jiffy behind until the next.
 */
export class ProgramClock {
  readonly #asked: DataView

  constructor(programFd: number, host: KernelHost = 'xdp') {
    const object = host === 'xdp' ? 'pointsman.bpf.o' : 'pointsman-tc.bpf.o'
    const symbol = parseElf(readFileSync(builtFile(object))).symbols.find(({ name }) => name === 'pm_asked')
    if (symbol === undefined) throw new Error('The program remembers no pm_asked')
    const fd = mapOfProgram(programFd, symbol.section)
    const { buffer } = mapShared(fd, mapInfo(fd).valueSize, symbol.section)
    closeFile(fd)
    this.#asked = new DataView(buffer, symbol.offset, symbol.size)
  }

  /** In ticks: that of the last packet for which it looked at the time. */
  ticks(): number {
    return this.#asked.getUint32(0, true)
  }

  /** The program is so many ticks behind until the kernel counts the next jiffy. */
  fallBehind(ticks: number): void {
    this.#asked.setUint32(0, (this.ticks() - ticks) >>> 0, true)
  }
}

/** A file descriptor of the map of a program whose name ends so. */
function mapOfProgram(programFd: number, end: string): number {
  const ids = Buffer.alloc(4 * MAPS_MAX)
  const info = Buffer.alloc(PROGRAM_INFO.size)
  info.writeUInt32LE(MAPS_MAX, PROGRAM_INFO.mapCount)
  info.writeBigUInt64LE(koffi.address(ids), PROGRAM_INFO.mapIds)
  const question = Buffer.alloc(16)
  question.writeUInt32LE(programFd, 0)
  question.writeUInt32LE(info.length, 4)
  question.writeBigUInt64LE(koffi.address(info), 8)
  if (Number(syscall(SYS_BPF, BPF_OBJ_GET_INFO_BY_FD, question, question.length)) < 0)
    throw new Error(`Cannot ask for the maps of a program: ${strerror(koffi.errno())}`)
  for (let i = 0; i < info.readUInt32LE(PROGRAM_INFO.mapCount); i++) {
    const map = Buffer.alloc(12)
    map.writeUInt32LE(ids.readUInt32LE(4 * i), 0)
    const fd = Number(syscall(SYS_BPF, BPF_MAP_GET_FD_BY_ID, map, map.length))
    if (fd < 0) throw new Error(`Cannot open a map of the program: ${strerror(koffi.errno())}`)
    if (mapInfo(fd).name.endsWith(end)) return fd
    closeFile(fd)
  }
  throw new Error(`The program has no map ${end}`)
}

const time = Buffer.alloc(16)
const timeWords = new DataView(time.buffer, time.byteOffset)

/**
 * The clock that the program in the kernel asks, in its ticks of 2^23 ns. By system call: the copy that is mapped
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
