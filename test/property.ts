/**
 * fast-check for tests: the same cases in every run, so that a run fails for what was changed and for nothing
 * else. `POINTSMAN_SEED=N` tries others.
 */
import fc from 'fast-check'

export const SEED = Number(process.env.POINTSMAN_SEED ?? 1)
fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: SEED })

export default fc
