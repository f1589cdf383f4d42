/** Limits of services for each source, as they cross the API. */
import { z } from 'zod'
import { type LimitListing, RATE_MAX, SOURCE_LENGTH, type SourceLimit } from '../../../model/limit.ts'
import { SOURCES } from '../../../model/source.ts'
import { serviceBody, serviceIdOf } from './filter.ts'
import { serviceIdJson, serviceNameAnswer } from './service.ts'

const limitBody = z
  .strictObject({
    service: serviceBody,
    rate: z.int().min(1).max(RATE_MAX).meta({ description: 'new connections in a second' }),
    prefix: z.int().min(1).max(128).optional().meta({
      description:
        'addresses with so many bits in common are one source; each of IPv4, each /64 of IPv6 unless given',
    }),
  })
  .meta({ id: 'Limit' })

export const limitsBody = z
  .strictObject({
    delete: z.array(serviceBody).default([]),
    add: z.array(limitBody).default([]).meta({ description: 'instead of what the service had' }),
  })
  .meta({ id: 'LimitChange', description: 'all of it, or nothing' })

export function limitOf({ service, rate, prefix }: z.infer<typeof limitBody>): SourceLimit {
  const id = serviceIdOf(service)
  return { service: id, rate, length: prefix ?? SOURCE_LENGTH[id.family] }
}

export const limitsAnswer = z
  .array(
    z.object({
      service: serviceNameAnswer,
      rate: z.int().meta({ description: 'new connections in a second' }),
      prefix: z.int(),
      source: z.enum(SOURCES).meta({ description: 'who states it' }),
    }),
  )
  .meta({ id: 'Limits' })
export type LimitsShown = z.infer<typeof limitsAnswer>

export function limitsJson(limits: readonly LimitListing[]): LimitsShown {
  return limits.map(({ service, rate, length, owner }) => ({
    service: serviceIdJson(service),
    rate,
    prefix: length,
    source: owner,
  }))
}
