/** systemd's watchdog (sd_watchdog_enabled(3)): this thread says, twice per period, that it is not stuck. */
import { notify } from '../../linux/sd-notify.ts'

export interface WatchdogEnvironment {
  readonly WATCHDOG_USEC?: string | undefined
  readonly WATCHDOG_PID?: string | undefined
}

/** Time between two signs of life; null when nobody waits for ours. */
export function watchdogIntervalMs(environment: WatchdogEnvironment, pid = process.pid): number | null {
  const { WATCHDOG_USEC: period, WATCHDOG_PID: wanted } = environment
  if (period === undefined || !/^[1-9]\d{0,15}$/.test(period)) return null
  // Inherited from a parent that is the one being watched.
  if (wanted !== undefined && wanted !== '' && wanted !== String(pid)) return null
  return Number(period) / 1000 / 2
}

/** @returns stops it; the period then ends with the process */
export function startWatchdog(
  environment: WatchdogEnvironment = process.env,
  say: (state: string) => void = notify,
): () => void {
  const interval = watchdogIntervalMs(environment)
  if (interval === null) return () => {}
  const sign = (): void => {
    try {
      say('WATCHDOG=1')
    } catch {
      // systemd is being replaced, or is late to read; the next sign comes within the period.
    }
  }
  sign()
  const timer = setInterval(sign, interval)
  timer.unref()
  return () => clearInterval(timer)
}
