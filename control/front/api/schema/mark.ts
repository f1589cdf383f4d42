/** Marking rules as they cross the API. */
import { z } from 'zod'
import { type Prefix, parsePrefix, prefixText } from '../../../../net/prefix.ts'
import type { MarkListing, MarkRule } from '../../../model/mark.ts'
import { SOURCES } from '../../../model/source.ts'
import { port } from './basic.ts'

export const prefix = z
  .string()
  .transform((text, context): Prefix => {
    const parsed = parsePrefix(text)
    if (typeof parsed !== 'string') return parsed
    context.addIssue({ code: 'custom', message: parsed })
    return z.NEVER
  })
  .meta({ description: 'prefix or address', example: '192.0.2.0/24' })

const INTERFACE_NAME = /^[^/\s]{1,15}$/

/** A rule looks at what is said; at least the family has to be known. */
const markBody = z
  .strictObject({
    mark: z.int().min(1).max(0xffffffff),
    to: prefix.optional().meta({ description: 'destination' }),
    from: prefix.optional().meta({ description: 'source' }),
    protocol: z.enum(['tcp', 'udp', 'sctp']).optional(),
    ports: z
      .strictObject({ from: port, to: port })
      .refine(({ from, to }) => from <= to, 'expected the lower port first')
      .optional()
      .meta({ description: 'destination ports, both included' }),
    interface: z.string().regex(INTERFACE_NAME).optional().meta({ description: 'that packets come in by' }),
    family: z
      .literal([4, 6])
      .optional()
      .meta({ description: 'where no prefix says it; left out then: both' }),
  })
  .refine(({ to, from, family }) => new Set([to?.family, from?.family, family].filter(Boolean)).size < 2, {
    message: 'expected prefixes of one family',
  })
  .meta({ id: 'MarkRule' })

export const marksBody = z
  .strictObject({
    add: z.array(markBody).default([]),
    delete: z.array(markBody).default([]),
    flush: z
      .union([z.boolean(), z.int().min(1).max(0xffffffff)])
      .default(false)
      .meta({ description: 'first of all, delete the rules that commands state: all, or those of a mark' }),
  })
  .meta({ id: 'MarkChange', description: 'all of it, or nothing' })

/** One rule for each family that is meant. */
export function markRules(body: z.infer<typeof markBody>): MarkRule[] {
  const family = body.to?.family ?? body.from?.family ?? body.family
  return (family === undefined ? ([4, 6] as const) : [family]).map((each) => ({
    family: each,
    mark: body.mark,
    source: body.from ?? null,
    destination: body.to ?? null,
    protocol: body.protocol ?? null,
    ports: body.ports ?? null,
    interface: body.interface ?? null,
  }))
}

export const marksAnswer = z
  .array(
    z.object({
      mark: z.int(),
      family: z.literal([4, 6]),
      to: z.string().nullable(),
      from: z.string().nullable(),
      protocol: z.enum(['tcp', 'udp', 'sctp']).nullable(),
      ports: z.object({ from: z.int(), to: z.int() }).nullable(),
      interface: z.string().nullable(),
      source: z.enum(SOURCES).meta({ description: 'who states it' }),
    }),
  )
  .meta({ id: 'MarkRules', description: 'the most specific first: where two match, the first one counts' })
export type MarksShown = z.infer<typeof marksAnswer>

export function marksJson(rules: readonly MarkListing[]): MarksShown {
  return rules.map((rule) => ({
    mark: rule.mark,
    family: rule.family,
    to: rule.destination === null ? null : prefixText(rule.destination),
    from: rule.source === null ? null : prefixText(rule.source),
    protocol: rule.protocol,
    ports: rule.ports,
    interface: rule.interface,
    source: rule.owner,
  }))
}
