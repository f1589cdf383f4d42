/** What the bench needs of libbpf and libc beyond what the product binds. */
import { setPriority } from 'node:os'
import koffi from 'koffi'
import { builtFile } from '../dataplane/assets.ts'
import { type Handle, libbpf, need, needPointer } from '../linux/libbpf.ts'
import { check } from '../linux/libc.ts'

const libc = koffi.load(null)
const setAffinity = libc.func('int sched_setaffinity(int pid, size_t size, void *mask)')
const clockGettime = libc.func('int clock_gettime(int clock, void *time)')
let updateElement: ((map: number, key: Uint8Array, value: Uint8Array, flags: number) => number) | undefined

/** Keeps this thread, and the processes it starts, on one CPU. */
export function stayOnCpu(cpu: number): void {
  const mask = new Uint8Array(128)
  mask[cpu >> 3] = 1 << (cpu & 7)
  check(setAffinity(0, mask.length, mask), `stay on CPU ${cpu}`)
}

const CLOCK_THREAD_CPUTIME_ID = 3
const time = new BigInt64Array(2)
const timeBytes = new Uint8Array(time.buffer)

/**
 * Nanoseconds that this thread has run, in the kernel and outside: on a machine that others use too, wall
 * time would count their turns as ours.
 */
export function threadNs(): number {
  check(clockGettime(CLOCK_THREAD_CPUTIME_ID, timeBytes), 'read the clock of this thread')
  return Number(time[0]! * 1_000_000_000n + time[1]!)
}

/** What a call costs this thread, in nanoseconds. */
export function costNs(action: () => void): number {
  const started = threadNs()
  action()
  return threadNs() - started
}

const AHEAD = -10

/**
 * Lets this process and those it starts go before others on the machine, where wall time is measured:
 * all contenders alike, without effect when nothing else runs.
 */
export function goAhead(): void {
  try {
    setPriority(AHEAD)
  } catch {
    // Not permitted: the numbers are only noisier.
  }
}

export function updateMap(map: number, key: number, value: Uint8Array): void {
  updateElement ??= koffi
    .load('libbpf.so.1')
    .func('int bpf_map_update_elem(int map, void *key, void *value, uint64_t flags)')
  need(updateElement(map, new Uint8Array(new Uint32Array([key]).buffer), value, 0), 'write to a map')
}

/** A loaded object file; its programs and maps by name. */
export class BpfObject {
  readonly #object: Handle

  constructor(file: string) {
    this.#object = needPointer(libbpf().bpf_object__open_file(builtFile(file), null), `open ${file}`)
    need(libbpf().bpf_object__load(this.#object), `load ${file}`)
  }

  program(name: string): number {
    const program = needPointer(
      libbpf().bpf_object__find_program_by_name(this.#object, name),
      `find program ${name}`,
    )
    return need(libbpf().bpf_program__fd(program), `open program ${name}`)
  }

  map(name: string): number {
    const map = needPointer(libbpf().bpf_object__find_map_by_name(this.#object, name), `find map ${name}`)
    return need(libbpf().bpf_map__fd(map), `open map ${name}`)
  }

  close(): void {
    libbpf().bpf_object__close(this.#object)
  }
}
