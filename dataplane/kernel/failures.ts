/**
 * Frames that the kernel took from an XDP program and did not send, by interface and error: counted by
 * programs of ours on the kernel's tracepoints, as long as this process holds them.
 */
import { readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import { type Handle, libbpf, loadNow, need, needPointer, takeLog } from '../../linux/libbpf.ts'
import { Errno, errorName, libc, type Mapping, mapShared } from '../../linux/libc.ts'
import { MachineError } from '../../linux/machine-error.ts'
import { DataplaneError } from '../dataplane.ts'
import { readOnlyData } from './read-only-data.ts'

export interface SendFailure {
  readonly ifindex: number
  /** `EOPNOTSUPP` and the like; `queue full` where the driver gave no error. */
  readonly error: string
  readonly frames: bigint
}

/** FAILURES of bpf/failures.bpf.c, and struct failure in 64-bit words. */
const FAILURES = 256
const RECORD_WORDS = 2
const PROGRAMS = ['on_redirect_err', 'on_devmap_xmit', 'on_bulk_tx', 'on_exception'] as const

export class SendFailures {
  readonly #mapping: Mapping
  readonly #words: BigUint64Array
  readonly #release: () => void

  /** Begins to count; throws `MachineError` where the kernel does not let us look. */
  constructor(objectPath: string) {
    const what = basename(objectPath)
    const links: number[] = []
    takeLog()
    const object = needPointer(libbpf().bpf_object__open_file(objectPath, null), `open ${what}`)
    const release = (): void => {
      for (const fd of links) libc.close(fd)
      libbpf().bpf_object__close(object)
    }
    try {
      nameNamespace(object)
      need(loadNow(object), `load ${what}`, why)
      for (const name of PROGRAMS) {
        const program = needPointer(libbpf().bpf_object__find_program_by_name(object, name), `find ${name}`)
        const fd = need(libbpf().bpf_program__fd(program), `open program ${name}`)
        links.push(need(libbpf().bpf_raw_tracepoint_open(null, fd), `attach ${name}`, why))
      }
      const map = needPointer(libbpf().bpf_object__find_map_by_name(object, 'failures'), 'find map failures')
      const fd = need(libbpf().bpf_map__fd(map), 'open map failures')
      this.#mapping = mapShared(fd, FAILURES * RECORD_WORDS * 8, 'map failures')
      this.#words = new BigUint64Array(this.#mapping.buffer)
      this.#release = release
    } catch (error) {
      release()
      throw error
    }
  }

  read(): readonly SendFailure[] {
    return Array.from({ length: FAILURES }, (_, i) => ({
      key: Atomics.load(this.#words, i * RECORD_WORDS),
      frames: Atomics.load(this.#words, i * RECORD_WORDS + 1),
    }))
      .filter(({ frames }) => frames > 0n)
      .map(({ key, frames }) => {
        const number = Number((key >> 32n) & 0xffffn)
        return {
          ifindex: Number(key & 0xffffffffn),
          error: number === 0 ? 'queue full' : errorName(number),
          frames,
        }
      })
  }

  close(): void {
    this.#mapping.unmap()
    this.#release()
  }
}

function why(number: number): string {
  if (number === Errno.EPERM) return 'it takes CAP_BPF and CAP_PERFMON'
  return 'it takes a kernel with BTF: ls /sys/kernel/btf/vmlinux'
}

/** The only variable in the object's read-only data: the inode number of our network namespace. */
function nameNamespace(object: Handle): void {
  const inode = /\[(\d+)\]/.exec(readlinkSync('/proc/thread-self/ns/net'))?.[1]
  if (inode === undefined)
    throw new DataplaneError('Cannot tell the network namespace: see /proc/self/ns/net')
  readOnlyData(object).setUint32(0, Number(inode), true)
}

/** Begins to count, or says why not: nothing else depends on it. */
export function countSendFailures(objectPath: string): SendFailures | string {
  try {
    return new SendFailures(objectPath)
  } catch (error) {
    if (error instanceof MachineError) return error.message.split('\n')[0] ?? ''
    throw error
  }
}
