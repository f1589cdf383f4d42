/** Health: how it is, and what changes, as it changes. */
import { z } from 'zod'
import type { HealthEvent } from '../../../health/events.ts'
import { type Route, route } from '../route.ts'
import { healthAnswer, healthJson } from '../schema/health.ts'

/** So that whoever listens, and everything between, knows that nothing has happened. */
const STILL_MS = 15_000

const events = route({
  method: 'GET',
  path: '/v1/events',
  summary:
    'Changes of health as server-sent events: those kept that are later than `after`, then each as it happens',
  query: z.object({
    after: z
      .string()
      .regex(/^\d{1,17}$/)
      .optional()
      .meta({ description: 'id of the last one known; left out: only what happens from now on' }),
  }),
  answers: { 200: { description: 'text/event-stream; data is JSON' } },
  handle: ({ health }, { query }) =>
    stream(health.events, query.after === undefined ? null : Number(query.after)),
})

type Source = {
  since(id: number): readonly HealthEvent[]
  follow(listener: (event: HealthEvent) => void): () => void
}

function stream(source: Source, after: number | null) {
  return {
    status: 200,
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store' },
    follow(write: (text: string) => void): () => void {
      // At once: until the first byte a client does not know that it is heard.
      write(': events follow\n\n')
      if (after !== null) for (const event of source.since(after)) write(textOf(event))
      const unfollow = source.follow((event) => write(textOf(event)))
      const still = setInterval(() => write(': still here\n\n'), STILL_MS).unref()
      return () => {
        clearInterval(still)
        unfollow()
      }
    },
  }
}

function textOf({ id, atMs, ...event }: HealthEvent): string {
  const data = JSON.stringify({ id, at: new Date(atMs).toISOString(), ...event })
  return `id: ${id}\nevent: health\ndata: ${data}\n\n`
}

export const HEALTH_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/health',
    summary: 'Checks and what they came to, by service and real server',
    answers: { 200: { description: 'Health', schema: healthAnswer } },
    handle: ({ health }) => ({ status: 200, json: healthJson(health.state()) }),
  }),
  {
    ...events,
    // A client that was cut off says by itself what it has had.
    handle: (context, asked) => {
      const last = asked.headers['last-event-id']
      const query = typeof last === 'string' && asked.query.after === undefined ? { after: last } : {}
      return events.handle(context, { ...asked, query: { ...asked.query, ...query } })
    },
  },
]
