/** What becomes of a packet, and why: the answer to GET /v1/explain, and to pointsman explain --json. */
import { z } from 'zod'
import { PROTOCOLS } from '../../../../net/protocol.ts'

export const explainQuery = z.object({
  protocol: z.enum(PROTOCOLS).optional(),
  from: z.string().max(60).optional().meta({ description: 'the client, with its port: 198.51.100.7:40000' }),
  to: z.string().max(60).optional().meta({ description: 'the virtual address, with its port' }),
  flags: z.string().max(60).optional().meta({ description: 'of TCP: syn; or several: syn,ack' }),
  frame: z.string().max(9000).optional().meta({ description: 'instead of all these: hexadecimal digits' }),
  interface: z.string().max(15).optional().meta({ description: 'where it comes in' }),
})
export type ExplainAsked = z.infer<typeof explainQuery>

const line = z.object({
  text: z.string(),
  mark: z.enum(['good', 'bad', 'chosen', 'added', 'removed', 'quiet']).optional(),
})

export const explanationAnswer = z
  .object({
    interface: z.string(),
    verdict: z.string(),
    action: z.enum(['pass', 'drop', 'send']),
    meaning: z.string(),
    remedy: z.string(),
    service: z.string().nullable(),
    realServer: z.string().nullable(),
    connection: z.enum(['found', 'made', 'none']),
    leaves: z.string().nullable().meta({ description: 'where the frame leaves; null: it does not' }),
    frame: z.object({ before: z.string(), after: z.string().nullable() }),
    steps: z.array(z.object({ title: z.string(), lines: z.array(line).readonly() })).readonly(),
  })
  .meta({ id: 'Explanation' })
export type Explanation = z.infer<typeof explanationAnswer>
