/** Health with answers that the test gives, and a clock that it sets. */
import type { Answered, Asking } from '../../../control/health/checker-link.ts'
import { Health, type HealthOptions } from '../../../control/health/health.ts'
import { type HealthMemory, NOTHING_KNOWN } from '../../../control/health/memory.ts'
import type { Check } from '../../../control/model/check.ts'
import {
  DEFAULT_HEALTH_POLICY,
  type HealthPolicy,
  NO_SERVER_POLICY,
} from '../../../control/model/health-policy.ts'
import type { SiteService } from '../../../control/model/site.ts'
import { HandClock, server, service } from '../support.ts'

export function check(changes: Partial<Check> = {}): Check {
  return {
    name: 'web',
    question: { kind: 'tcp' },
    path: 'direct',
    ...{ address: null, port: null, source: null },
    ...{ intervalMs: 1000, retryIntervalMs: 1000, timeoutMs: 500, rise: 2, fall: 3, startJitterMs: 0 },
    ...changes,
  }
}

/** `tcp 10.0.0.1:80` with real servers of this weight, all with these checks. */
export function site(
  name: string,
  servers: readonly string[],
  checks: readonly Check[],
  health: Partial<HealthPolicy> = {},
  weight = 1,
): SiteService {
  return {
    service: service(name),
    servers: servers.map((text) => ({
      real: server(text, { weight }),
      checks,
      policy: NO_SERVER_POLICY,
      pool: null,
    })),
    health: { ...DEFAULT_HEALTH_POLICY, ...health },
    filters: [],
    limit: null,
    at: { file: 'pointsman.yaml', line: 1, column: 1 },
  }
}

export function stage(options: Partial<HealthOptions> = {}, memory: HealthMemory = NOTHING_KNOWN) {
  const clock = new HandClock()
  const asked: Asking[] = []
  const hooks: { readonly command: readonly string[]; readonly state: string | undefined }[] = []
  const lines: string[] = []
  const told: string[] = []
  let saved = memory
  /** What every real server answers, by address. */
  const answers = new Map<string, Answered>()
  const health = new Health({
    prober: {
      ask: async (asking) => {
        asked.push(asking)
        return answers.get(asking.to.address) ?? { state: 'good', words: 'connected', ms: 1 }
      },
    },
    after: (ms, action) => clock.after(ms, action),
    nowMs: () => clock.nowMs(),
    wallMs: () => 1_000_000 + clock.nowMs(),
    random: () => 0,
    file: {
      load: () => saved,
      save: (next) => {
        saved = structuredClone(next)
      },
    },
    runHook: ({ command }, environment) => void hooks.push({ command, state: environment.POINTSMAN_STATE }),
    isLocal: () => false,
    overlay: (_overlays, services) => void told.push(...services),
    log: {
      info: (_details, message) => void lines.push(message),
      warn: (_details, message) => void lines.push(message),
    },
    ...options,
  })
  return {
    ...{ clock, asked, hooks, lines, told, answers, health },
    saved: () => saved,
    say(address: string, state: Answered['state'], words: string, more: Partial<Answered> = {}): void {
      answers.set(address, { state, words, ms: 1, ...more })
    },
    /** Lets time pass, and answers be heard as they come. */
    async pass(ms: number): Promise<void> {
      for (let left = ms; left > 0; left -= 10) {
        clock.advance(Math.min(10, left))
        await Promise.resolve()
        await Promise.resolve()
      }
    },
  }
}
