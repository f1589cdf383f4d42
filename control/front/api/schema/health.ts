/** Health as the API tells it. */
import { z } from 'zod'
import { endpointText } from '../../../../net/endpoint.ts'
import type { CheckedServer, CheckedService } from '../../../health/health.ts'
import { serviceText } from '../../../model/identity.ts'

const time = z.string().meta({ description: 'RFC 3339' })
const state = z.enum(['up', 'down'])

const checkAnswer = z
  .object({
    name: z.string(),
    kind: z.string(),
    path: z
      .enum(['service', 'direct'])
      .meta({ description: 'the way that clients take, or the address itself' }),
    asked: z.string().meta({ description: 'address and port of the question' }),
    state: z.enum(['unknown', 'up', 'down']),
    since: time,
    result: z.string().meta({ description: 'in words: HTTP 503, wanted 200-399' }),
    trouble: z.string().nullable().meta({ description: 'why it could not be asked the last time' }),
    ms: z.number().nullable().meta({ description: 'how long the last answer took' }),
    lastAt: time.nullable(),
    changes: z.array(z.object({ at: time, state, result: z.string() })),
  })
  .meta({ id: 'Check' })

export const healthAnswer = z
  .array(
    z
      .object({
        service: z.string(),
        state: state.meta({ description: 'whether it has its quorum' }),
        since: time,
        weightUp: z.number(),
        quorum: z.number(),
        sorry: z.boolean().meta({ description: 'the sorry server serves' }),
        servers: z.array(
          z.object({
            server: z.string(),
            state,
            since: time,
            why: z.string(),
            share: z.number().meta({ description: 'of its weight; below 1 in a slow start' }),
            checks: z.array(checkAnswer),
          }),
        ),
      })
      .meta({ id: 'ServiceHealth' }),
  )
  .meta({ id: 'Health' })

export type HealthShown = z.infer<typeof healthAnswer>

const iso = (ms: number): string => new Date(ms).toISOString()

function checkJson({
  check,
  probe,
}: CheckedServer['probes'][number]): HealthShown[number]['servers'][number]['checks'][number] {
  const { asking, last } = probe
  return {
    name: check.name,
    kind: check.question.kind,
    path: asking.way === null ? 'direct' : 'service',
    asked: endpointText(asking.to),
    state: probe.state,
    since: iso(probe.sinceMs),
    result: probe.words,
    trouble: last?.state === 'void' ? last.words : null,
    ms: last === null || last.state === 'void' ? null : last.ms,
    lastAt: last === null ? null : iso(last.atMs),
    changes: probe.changes.map(({ atMs, state: became, words }) => ({
      at: iso(atMs),
      state: became,
      result: words,
    })),
  }
}

export function healthJson(services: readonly CheckedService[]): HealthShown {
  return services.map((one) => ({
    service: serviceText(one.service.id),
    state: one.state,
    since: iso(one.sinceMs),
    weightUp: one.weight,
    quorum: one.quorum,
    sorry: one.sorry,
    servers: one.servers.map((server) => ({
      server: endpointText(server.real.id),
      state: server.state,
      since: iso(server.sinceMs),
      why: server.words,
      share: Math.round(server.share * 1000) / 1000,
      checks: server.probes.map(checkJson),
    })),
  }))
}
