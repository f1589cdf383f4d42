/**
 * Waits for BPF programs that are under way. Whoever changes a map of maps gets its answer from the kernel only
 * when every program is through that may have found the map before (kernel/bpf/syscall.c: it waits for RCU,
 * whose readers programs are): so an array of maps of our own, which no program reads, is changed for nothing.
 */

import { libbpf, need, updateMapLater } from './libbpf.ts'
import { libc } from './libc.ts'
import { MachineError } from './machine-error.ts'

const BPF_MAP_TYPE_ARRAY = 2
const BPF_MAP_TYPE_ARRAY_OF_MAPS = 12
/** struct bpf_map_create_opts of <bpf/bpf.h>. */
const OPTIONS = { size: 64, innerMapFd: 24 } as const

export class BpfReaders {
  readonly #inner: number
  readonly #outer: number
  #closed = false

  constructor() {
    this.#inner = need(
      libbpf().bpf_map_create(BPF_MAP_TYPE_ARRAY, 'pm_quiet', 4, 4, 1, null),
      'make a map to wait for readers',
    )
    const options = Buffer.alloc(OPTIONS.size)
    options.writeBigUInt64LE(BigInt(OPTIONS.size), 0)
    options.writeInt32LE(this.#inner, OPTIONS.innerMapFd)
    const outer = libbpf().bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, 'pm_quiet', 4, 4, 1, options)
    if (outer < 0) libc.close(this.#inner)
    this.#outer = need(outer, 'make a map of maps to wait for readers')
  }

  /** Returns when every program has ended that was running at the call. */
  async wait(): Promise<void> {
    if (this.#closed) return
    const error = await updateMapLater(this.#outer, 0, this.#inner)
    // Closed meanwhile: nobody waits for the answer any more.
    if (error < 0 && !this.#closed) {
      throw new MachineError(`Cannot wait for BPF programs that are under way: ${libc.strerror(-error)}`)
    }
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    libc.close(this.#outer)
    libc.close(this.#inner)
  }
}
