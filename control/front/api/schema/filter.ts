/** Filters as they cross the API. */
import { z } from 'zod'
import { familyOf } from '../../../../net/address.ts'
import { prefixText } from '../../../../net/prefix.ts'
import {
  FILTER_ACTIONS,
  FILTER_FOR_MAX_MS,
  type FilterBatch,
  type FilterListing,
} from '../../../model/filter.ts'
import type { ServiceId } from '../../../model/service.ts'
import { SOURCES } from '../../../model/source.ts'
import { address, port } from './basic.ts'
import { prefix } from './mark.ts'

export const serviceBody = z
  .union([
    z.strictObject({ protocol: z.enum(['tcp', 'udp', 'sctp']), address, port }),
    z.strictObject({ fwmark: z.int().min(1).max(0xffffffff), family: z.literal([4, 6]) }),
  ])
  .meta({ description: 'the service that it is for; left out: all of them' })

export function serviceIdOf(body: z.infer<typeof serviceBody>): ServiceId {
  if ('fwmark' in body) return { kind: 'fwmark', mark: body.fwmark, family: body.family }
  return { kind: 'address', ...body, family: familyOf(body.address) }
}

const action = z.enum(FILTER_ACTIONS)
/** As many as an operator's list has; longer ones come in several requests. */
const PREFIXES_MAX = 1_000_000

const batchBody = z
  .strictObject({
    action,
    prefixes: z.array(prefix).max(PREFIXES_MAX),
    service: serviceBody.optional(),
    forS: z
      .int()
      .min(1)
      .max(FILTER_FOR_MAX_MS / 1000)
      .optional()
      .meta({ description: 'seconds until it ends by itself' }),
  })
  .meta({ id: 'FilterBatch' })

export const filtersBody = z
  .strictObject({
    flush: z
      .strictObject({ action, service: serviceBody.optional() })
      .optional()
      .meta({ description: 'first of all, delete those that commands state' }),
    delete: z.array(batchBody).default([]),
    add: z.array(batchBody).default([]),
  })
  .meta({ id: 'FilterChange', description: 'all of it, or nothing' })

export function batchOf(body: z.infer<typeof batchBody>): FilterBatch {
  return {
    prefixes: body.prefixes,
    action: body.action,
    service: body.service === undefined ? null : serviceIdOf(body.service),
    forMs: body.forS === undefined ? null : body.forS * 1000,
  }
}

export function flushOf(body: z.infer<typeof filtersBody>['flush']) {
  if (body === undefined) return null
  return { action: body.action, service: body.service === undefined ? null : serviceIdOf(body.service) }
}

const filterAnswer = z.object({
  prefix: z.string(),
  action,
  service: z
    .object({
      protocol: z.enum(['tcp', 'udp', 'sctp']).optional(),
      address: z.string().optional(),
      port: z.int().optional(),
      fwmark: z.int().optional(),
      family: z.literal([4, 6]).optional(),
    })
    .nullable()
    .meta({ description: 'null: all services' }),
  leftS: z.int().nullable().meta({ description: 'seconds until it ends by itself' }),
  source: z.enum(SOURCES).meta({ description: 'who states it' }),
})
export const filtersAnswer = z
  .array(filterAnswer)
  .meta({ id: 'Filters', description: 'the longest prefix counts, of two of a length that of the service' })
export type FilterShown = z.infer<typeof filterAnswer>

export function filterJson({ prefix, action, service, leftMs, owner }: FilterListing): FilterShown {
  return {
    prefix: prefixText(prefix),
    action,
    service:
      service === null
        ? null
        : service.kind === 'fwmark'
          ? { fwmark: service.mark, family: service.family }
          : { protocol: service.protocol, address: service.address, port: service.port },
    leftS: leftMs === null ? null : Math.ceil(leftMs / 1000),
    source: owner,
  }
}
