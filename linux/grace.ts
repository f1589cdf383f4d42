import { libc } from './libc.ts'

/** __NR_membarrier */
const SYS_MEMBARRIER: Readonly<Record<string, number>> = { x64: 324, arm64: 283 }
const MEMBARRIER_CMD_GLOBAL = 1
/** Longer than any packet is worked on; for kernels that refuse membarrier (nohz_full). */
const LONG_ENOUGH_MS = 50

/**
 * Returns when every program that was running on a packet has ended: membarrier(2) waits for an RCU grace
 * period, and XDP programs run inside of a read-side section.
 */
export function waitForGracePeriod(): void {
  const number = SYS_MEMBARRIER[process.arch]
  if (number !== undefined && libc.syscall(number, MEMBARRIER_CMD_GLOBAL, 0, 0) === 0) return
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LONG_ENOUGH_MS)
}
