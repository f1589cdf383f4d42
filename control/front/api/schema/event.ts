/** What has happened, as the API tells it. */
import { z } from 'zod'
import { EVENT_KINDS, type JournalEvent } from '../../../model/journal.ts'

export const eventAnswer = z
  .object({
    id: z.int(),
    at: z.string().meta({ description: 'RFC 3339' }),
    kind: z.enum(EVENT_KINDS),
    about: z.string().meta({ description: 'check, server, service, restore, settings, ...' }),
    service: z.string().nullable(),
    server: z.string().nullable(),
    check: z.string().nullable(),
    state: z.enum(['up', 'down']).nullable().meta({ description: 'of health' }),
    words: z.string(),
    by: z.string().nullable().meta({ description: 'who asked for it; null: it came about' }),
  })
  .meta({ id: 'Event' })
export type EventShown = z.infer<typeof eventAnswer>

export const eventsAnswer = z.array(eventAnswer).meta({ id: 'Events' })

export function eventJson({ atMs, ...event }: JournalEvent): EventShown {
  return { at: new Date(atMs).toISOString(), ...event }
}
