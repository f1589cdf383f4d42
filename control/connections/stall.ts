/**
 * As long as this a CPU may be kept from going on in the midst of a change (a hypervisor that gives it to
 * others; a thread of the userspace plane that is not scheduled), in ticks: 10 s. Sweeps of small tables are
 * milliseconds apart, so that seeing the same twice means nothing.
 */
const STALL_TICKS = 1192

/** Whether what was first met at `since` has stayed longer than any stall. */
export function hasStalled(since: number, now: number): boolean {
  return (now - since) >>> 0 >= STALL_TICKS
}
