/**
 * fast-check for tests: the same cases in every run, so that a run fails for what was changed and for nothing
 * else. `POINTSMAN_SEED=N` tries others.
 */
import fc from 'fast-check'

export const SEED = Number(process.env.POINTSMAN_SEED ?? 1)
fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: SEED })

/**
 * The hash seed of the maps that are made n-th in a test: places in tables, ports of full NAT and what is left to chance
 * are the same in every run. Not 0: that is none.
 */
export function hashSeed(n = 0): number {
  return Math.imul(SEED + 1009 * n, 0x9e37_79b1) >>> 0 || 1
}

export default fc
