/** Limits of services for each source, as they cross the API. */
import { z } from 'zod'
import {
  CONNECTIONS_MAX,
  type LimitListing,
  RATE_MAX,
  SOURCE_LENGTH,
  type SourceLimit,
} from '../../../model/limit.ts'
import { SOURCES } from '../../../model/source.ts'
import { serviceBody, serviceIdOf } from './filter.ts'
import { serviceIdJson, serviceNameAnswer } from './service.ts'

const limitBody = z
  .strictObject({
    service: serviceBody,
    rate: z.int().min(1).max(RATE_MAX).optional().meta({ description: 'new connections in a second' }),
    connections: z
      .int()
      .min(1)
      .max(CONNECTIONS_MAX)
      .optional()
      .meta({ description: 'connections at a time' }),
    prefix: z.int().min(1).max(128).optional().meta({
      description:
        'addresses with so many bits in common are one source; each of IPv4, each /64 of IPv6 unless given',
    }),
  })
  .refine(({ rate, connections }) => rate !== undefined || connections !== undefined, {
    error: 'expected rate, connections or both',
  })
  .meta({ id: 'Limit', description: 'rate, connections or both' })

export const limitsBody = z
  .strictObject({
    delete: z.array(serviceBody).default([]),
    add: z.array(limitBody).default([]).meta({ description: 'instead of what the service had' }),
  })
  .meta({ id: 'LimitChange', description: 'all of it, or nothing' })

export function limitOf({ service, rate, connections, prefix }: z.infer<typeof limitBody>): SourceLimit {
  const id = serviceIdOf(service)
  return {
    service: id,
    rate: rate ?? 0,
    connections: connections ?? 0,
    length: prefix ?? SOURCE_LENGTH[id.family],
  }
}

export const limitsAnswer = z
  .array(
    z.object({
      service: serviceNameAnswer,
      rate: z.int().optional().meta({ description: 'new connections in a second' }),
      connections: z.int().optional().meta({ description: 'connections at a time' }),
      prefix: z.int(),
      source: z.enum(SOURCES).meta({ description: 'who states it' }),
    }),
  )
  .meta({ id: 'Limits' })
export type LimitsShown = z.infer<typeof limitsAnswer>

export function limitsJson(limits: readonly LimitListing[]): LimitsShown {
  return limits.map(({ service, rate, connections, length, owner }) => ({
    service: serviceIdJson(service),
    ...(rate === 0 ? {} : { rate }),
    ...(connections === 0 ? {} : { connections }),
    prefix: length,
    source: owner,
  }))
}
