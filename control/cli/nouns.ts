/** The words of `pointsman` that show something: what is asked for, and how it reads. */
import type { z } from 'zod'
import { get } from '../front/api/client.ts'
import { connectionsAnswer } from '../front/api/schema/connection.ts'
import { healthAnswer } from '../front/api/schema/health.ts'
import { servicesAnswer } from '../front/api/schema/service.ts'
import { sysctlsAnswer, verdictsAnswer } from '../front/api/schema/settings.ts'
import { sourcesAnswer } from '../front/api/schema/source.ts'
import { statusAnswer } from '../front/api/schema/status.ts'
import { diagnose } from '../insight/doctor/checks.ts'
import { gatherFacts } from '../insight/doctor/gather.ts'
import { healthText } from './health-text.ts'
import { findService } from './service-name.ts'
import {
  connectionsText,
  diagnosisText,
  servicesText,
  settingsText,
  sourcesText,
  statusText,
  verdictsText,
} from './text.ts'

export interface Shown {
  readonly json: unknown
  readonly text: () => string
  /** Otherwise the exit status is 1. */
  readonly good: boolean
}

export interface Noun {
  readonly name: string
  readonly description: string
  /** Flag and description of an option of its own. */
  readonly option?: readonly [flags: string, description: string]
  /** Name and description of what has to follow. */
  readonly argument?: readonly [name: string, description: string]
  readonly show: (
    socket: string,
    options: Readonly<Record<string, unknown>>,
    argument?: string,
  ) => Promise<Shown>
}

/** A noun that is one question to the daemon. */
function asked<T>(
  path: (options: Readonly<Record<string, unknown>>) => string,
  schema: z.ZodType<T>,
  text: (value: T) => string,
  good: (value: T) => boolean = () => true,
): Noun['show'] {
  return async (socket, options) => {
    const { value, raw } = await get(socket, path(options), schema)
    return { json: raw, text: () => text(value), good: good(value) }
  }
}

export const NOUNS: readonly Noun[] = [
  {
    name: 'services',
    description: 'virtual services, their real servers and connections (also without any word)',
    show: asked(() => '/v1/services', servicesAnswer, servicesText),
  },
  {
    name: 'status',
    description: 'data plane, interfaces and numbers; exit status 0 only when forwarding',
    show: asked(
      () => '/v1/status',
      statusAnswer,
      statusText,
      ({ forwarding }) => forwarding,
    ),
  },
  {
    name: 'health',
    description: 'checks and what they came to; exit status 0 only when every real server is up',
    show: asked(
      () => '/v1/health',
      healthAnswer,
      healthText,
      (services) => services.every(({ servers }) => servers.every(({ state }) => state === 'up')),
    ),
  },
  {
    name: 'show',
    description: 'one virtual service, its real servers, who states it, and holds by hand',
    argument: ['service', 'tcp/192.0.2.10:80, 192.0.2.10:80, fwmark/7'],
    show: async (socket, _options, name = '') => {
      const { service, raw } = await findService(socket, name)
      return { json: raw, text: () => servicesText([service]), good: true }
    },
  },
  {
    name: 'sources',
    description: 'where services come from, and how that stands',
    show: asked(
      () => '/v1/sources',
      sourcesAnswer,
      sourcesText,
      (sources) =>
        sources.every(
          ({ state, pools }) =>
            state !== 'refused' && pools.every((pool) => pool.state !== 'away' && pool.state !== 'held'),
        ),
    ),
  },
  {
    name: 'verdicts',
    description: 'what became of packets',
    show: asked(() => '/v1/verdicts', verdictsAnswer, verdictsText),
  },
  {
    name: 'connections',
    description: 'live connections',
    option: ['--limit <count>', 'at most so many'],
    show: asked(
      ({ limit }) =>
        typeof limit === 'string' ? `/v1/connections?limit=${encodeURIComponent(limit)}` : '/v1/connections',
      connectionsAnswer,
      connectionsText,
    ),
  },
  {
    name: 'settings',
    description: 'settings, by the names of net.ipv4.vs',
    show: asked(() => '/v1/sysctls', sysctlsAnswer, settingsText),
  },
  {
    name: 'doctor',
    description: 'look for known traps: cause, consequence and what mends it',
    show: async (socket) => {
      const diagnosis = diagnose(await gatherFacts(socket))
      return { json: diagnosis, text: () => diagnosisText(diagnosis), good: diagnosis.healthy }
    },
  },
]
