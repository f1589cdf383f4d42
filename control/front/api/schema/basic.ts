/** Words that several requests and answers share. 64-bit counters are JSON numbers, exact below 2^53. */
import { z } from 'zod'
import { type IpAddress, parseAddress } from '../../../../net/address.ts'
import type { Counters } from '../../../model/counters.ts'

export const port = z.int().min(0).max(65535)

/** An address as text; strict (no leading zeros, no brackets). */
export const address = z
  .string()
  .transform((text, context): IpAddress => {
    const parsed = parseAddress(text)
    if (parsed !== null) return parsed
    context.addIssue({ code: 'custom', message: 'expected an IPv4 or IPv6 address' })
    return z.NEVER
  })
  .meta({ description: 'IPv4 or IPv6 address', example: '192.0.2.10' })

/** A whole number in a path. */
export const decimal = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,10}$/, 'expected a decimal number')
    .refine((text) => Number(text) >= min && Number(text) <= max, `expected ${min} to ${max}`)
    .transform(Number)

export const portText = decimal(0, 65535)

/** As answers show it: whatever the daemon says is one. */
export const addressShown = z.string().meta({ description: 'IPv4 or IPv6 address', example: '192.0.2.10' })

export const countersAnswer = z
  .object({
    conns: z.number(),
    inPackets: z.number(),
    outPackets: z.number(),
    inBytes: z.number(),
    outBytes: z.number(),
  })
  .meta({ id: 'Counters', description: 'since the start or the last zeroing' })

export const ratesAnswer = z
  .object({ cps: z.number(), inPps: z.number(), outPps: z.number(), inBps: z.number(), outBps: z.number() })
  .meta({ id: 'Rates', description: 'per second' })

export const totalsAnswer = z.object({ counters: countersAnswer, rates: ratesAnswer }).meta({ id: 'Totals' })

export function countersJson(counters: Counters): z.infer<typeof countersAnswer> {
  return {
    conns: Number(counters.conns),
    inPackets: Number(counters.inPackets),
    outPackets: Number(counters.outPackets),
    inBytes: Number(counters.inBytes),
    outBytes: Number(counters.outBytes),
  }
}

export const errorAnswer = z
  .object({
    error: z.object({
      path: z.string().meta({ description: 'the field, e.g. body.servers.0.weight' }),
      message: z.string(),
      errno: z.string().optional().meta({ description: "IPVS's refusal, e.g. EEXIST" }),
    }),
    errors: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .optional()
      .meta({ description: 'all that is wrong with a malformed request, the first included' }),
  })
  .meta({ id: 'Error' })
