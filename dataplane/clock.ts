import { PM_TICK_SHIFT } from './layout/layout.gen.ts'

/**
 * CLOCK_MONOTONIC in ticks of 2^PM_TICK_SHIFT ns, unsigned 32-bit. The packet program reads the coarse
 * clock of the same name, which lags by up to one jiffy: a time it wrote is never in the future.
 */
export function monotonicTicks(): number {
  return Number((process.hrtime.bigint() >> BigInt(PM_TICK_SHIFT)) & 0xffffffffn)
}
