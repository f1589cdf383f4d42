/** Health checks of a running daemon: who asks, and what hears of it. */
import { join } from 'node:path'
import type { Logger } from 'pino'
import { builtFile } from '../../dataplane/assets.ts'
import { bootId } from '../../linux/boot.ts'
import { CHECK_DEVICE } from '../../linux/netlink/probe-pair.ts'
import { systemClock } from '../apply/clock.ts'
import type { ProbeWays } from '../apply/probe-way.ts'
import { CheckerLink } from '../health/checker-link.ts'
import { Health } from '../health/health.ts'
import { Hooks } from '../health/hooks.ts'
import { healthFile } from '../health/memory.ts'
import type { Journal } from '../model/journal.ts'
import type { RuleDirector } from '../rules/director.ts'
import { type Host, isLocalAddress, localAddresses } from '../rules/host.ts'

const CHECKER = 'pointsman-checker.js'
export const HEALTH_FILE = 'health.json'

export interface ChecksOptions {
  readonly runDirectory: string
  readonly director: RuleDirector
  readonly host: Host
  readonly ways: () => ProbeWays | null
  readonly isAttached: (ifindex: number) => boolean
  /** Packets are to be taken from this link, too. */
  readonly takeAlso: (name: string) => void
  readonly takeNoLonger: (name: string) => void
  readonly log: Logger
  readonly journal: Journal
}

export interface Checks {
  readonly health: Health
  /** The maps are about to be exchanged. */
  interrupt(): void
  stop(): void
}

/** Nothing runs before there is something to ask. */
export function openChecks(options: ChecksOptions): Checks {
  const { director, host, log } = options
  const warn = (message: string): void => log.warn(message)
  const checker = new CheckerLink({
    program: builtFile(CHECKER),
    ways: options.ways,
    isAttached: options.isAttached,
    resolveSource: (address) => host.resolveSource(address),
    log: warn,
  })
  const hooks = new Hooks(warn)
  const health = new Health({
    ...{ prober: checker, after: systemClock.after, nowMs: systemClock.nowMs },
    wallMs: Date.now,
    random: Math.random,
    journal: options.journal,
    file: healthFile(join(options.runDirectory, HEALTH_FILE), bootId(), warn),
    runHook: hooks.run,
    isLocal: (address) => isLocalAddress(address, localAddresses(host)),
    overlay: (overlays, services) => {
      director.overlay(overlays, services)
      if (health.isWanted) {
        checker.start()
        options.takeAlso(CHECK_DEVICE)
      } else {
        checker.rest()
        options.takeNoLonger(CHECK_DEVICE)
      }
      // What cannot be brought in force is tried again by itself, and status says so.
      director.settle([]).catch((error: unknown) => log.error({ err: error }, 'Cannot bring health in force'))
    },
    log,
  })
  return {
    health,
    interrupt: () => checker.interrupt(),
    stop(): void {
      health.stop()
      hooks.hurry()
      checker.stop()
    },
  }
}
