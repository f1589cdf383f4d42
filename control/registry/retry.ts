/** Attempt after attempt, ever more seldom as long as none comes to anything. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Entry, Follower, Heard } from './registry.ts'

export const PAUSE_MS_MIN = 100
export const PAUSE_MS_MAX = 10_000

/** A pause with jitter: those who lost the same registry must not all come back at the same moment. */
export function pauseMs(failures: number, random: () => number = Math.random): number {
  const whole = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** Math.min(failures - 1, 16))
  return whole * (0.5 + random() / 2)
}

export interface Told<T = Entry> {
  heard(heard: Heard<T>): void
  /** It cannot be asked at this time; said again whenever the reason is another one. */
  away(why: string): void
}

/** Until the signal. */
export async function keepFollowing<T>(
  follower: Follower<T>,
  told: Told<T>,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0
  while (!signal.aborted) {
    try {
      await follower.attempt((heard) => {
        failures = 0
        told.heard(heard)
      }, signal)
    } catch (error) {
      if (signal.aborted) return
      failures++
      told.away(reasonOf(error))
    }
    await sleep(pauseMs(Math.max(1, failures)), undefined, { signal }).catch(() => {})
  }
}

/** Node wraps several failed addresses of one name into one error without words. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0])
  return error instanceof Error ? error.message || String(error) : String(error)
}
