/** How the director is at this moment, for whoever looks at it again and again: pointsman top, the page. */
import { z } from 'zod'
import { SHOWN, SORTS } from '../../../counting/measures.ts'
import { ratesAnswer } from './basic.ts'

export const overviewQuery = z.object({
  sort: z.enum(SORTS).optional(),
  filter: z.string().max(200).optional().meta({ description: 'part of the name of a service' }),
  limit: z
    .string()
    .regex(/^\d{1,4}$/)
    .transform(Number)
    .optional(),
  service: z.string().max(200).optional().meta({ description: 'its real servers, too: tcp/192.0.2.10:80' }),
})

const health = z.enum(['up', 'down', 'sorry']).nullable().meta({ description: 'null: not checked' })
const numbers = z.object({
  rates: ratesAnswer,
  numbers: z.record(z.string(), z.number()).meta({
    description: `what is no rate: ${SHOWN.filter(({ rate }) => rate === undefined)
      .map(({ name }) => name)
      .join(', ')}`,
  }),
  weight: z.int(),
})

export const overviewAnswer = z
  .object({
    at: z.string(),
    version: z.string(),
    startedAt: z.string(),
    dataplane: z.string(),
    forwarding: z.boolean(),
    rates: ratesAnswer,
    services: z.array(
      numbers.extend({
        name: z.string(),
        scheduler: z.string(),
        inForce: z.boolean(),
        health,
        servers: z.int(),
        down: z.int().meta({ description: 'checked real servers that are down' }),
      }),
    ),
    more: z.int().meta({ description: 'services that are left out: beyond the limit' }),
    total: z.int().meta({ description: 'services, whatever the filter' }),
    servers: z
      .array(numbers.extend({ name: z.string(), method: z.string(), health, words: z.string() }))
      .nullable()
      .meta({
        description: 'of the service that was asked for; null: of none, or there is none of this name',
      }),
    counts: z.record(z.string(), z.number()).meta({
      description: 'verdicts, and what else the director counts, since the start or the last zeroing',
    }),
  })
  .meta({ id: 'Overview' })
export type Overview = z.infer<typeof overviewAnswer>
export type OverviewAsked = z.infer<typeof overviewQuery>
