/** The last hour, for whoever looks at the page. */
import { z } from 'zod'

export const historyQuery = z.object({
  service: z
    .string()
    .max(200)
    .optional()
    .meta({ description: 'changes of its health, too: tcp/192.0.2.10:80' }),
})

const plot = z.object({
  title: z.string(),
  lines: z.array(z.object({ name: z.string(), values: z.array(z.number()) })),
})
export type Plot = z.infer<typeof plot>

export const historyAnswer = z
  .object({
    at: z.string().meta({ description: 'when the last sample was taken' }),
    everyMs: z.int(),
    samples: z.int().meta({ description: 'of an hour; there are fewer while the daemon is younger' }),
    plots: z.array(plot),
    changes: z
      .array(
        z.object({
          at: z.string(),
          server: z.string().nullable().meta({ description: 'null: the service as a whole' }),
          state: z.enum(['up', 'down']),
          words: z.string(),
        }),
      )
      .meta({ description: 'of health, oldest first; none unless a service was asked for' }),
  })
  .meta({ id: 'History' })
export type History = z.infer<typeof historyAnswer>
