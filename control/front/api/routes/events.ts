/** What has happened: those events that are kept, and each as it happens. */
import { z } from 'zod'
import { EVENT_KINDS, type EventKind, type JournalEvent } from '../../../model/journal.ts'
import { type ApiContext, type Route, route } from '../route.ts'
import { eventJson, eventsAnswer } from '../schema/event.ts'

/** So that whoever listens, and everything between, knows that nothing has happened. */
const STILL_MS = 15_000

const kind = z.enum(EVENT_KINDS).optional().meta({ description: 'of this kind alone' })

const events = route({
  method: 'GET',
  path: '/v1/events',
  summary: 'Server-sent events: those kept that are later than `after`, then each as it happens',
  query: z.object({
    after: z
      .string()
      .regex(/^\d{1,17}$/)
      .optional()
      .meta({ description: 'id of the last one known; left out: only what happens from now on' }),
    kind,
  }),
  answers: { 200: { description: 'text/event-stream; the event is its kind, data is an Event' } },
  handle: ({ journal }, { query }) =>
    stream(journal, query.after === undefined ? null : Number(query.after), query.kind),
})

function stream(journal: ApiContext['journal'], after: number | null, kind: EventKind | undefined) {
  return {
    status: 200,
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store' },
    follow(write: (text: string) => void): () => void {
      const tell = (event: JournalEvent): void => {
        if (kind === undefined || event.kind === kind) write(textOf(event))
      }
      // At once: until the first byte a client does not know that it is heard.
      write(': events follow\n\n')
      if (after !== null) journal.since(after).forEach(tell)
      const unfollow = journal.follow(tell)
      const still = setInterval(() => write(': still here\n\n'), STILL_MS).unref()
      return () => {
        clearInterval(still)
        unfollow()
      }
    },
  }
}

function textOf(event: JournalEvent): string {
  return `id: ${event.id}\nevent: ${event.kind}\ndata: ${JSON.stringify(eventJson(event))}\n\n`
}

export const EVENT_ROUTES: readonly Route[] = [
  {
    ...events,
    // A client that was cut off says by itself what it has had.
    handle: (context, asked) => {
      const last = asked.headers['last-event-id']
      const query = typeof last === 'string' && asked.query.after === undefined ? { after: last } : {}
      return events.handle(context, { ...asked, query: { ...asked.query, ...query } })
    },
  },
  route({
    method: 'GET',
    path: '/v1/events/kept',
    summary: 'The last events, oldest first',
    query: z.object({ kind }),
    answers: { 200: { description: 'At most 1024', schema: eventsAnswer } },
    handle: ({ journal }, { query }) => ({
      status: 200,
      json: journal
        .since(0)
        .filter((event) => query.kind === undefined || event.kind === query.kind)
        .map(eventJson),
    }),
  }),
]
