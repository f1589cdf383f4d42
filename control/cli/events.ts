/** `pointsman events`: what has happened, and with -f what happens, until somebody has seen enough. */
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { ClientError, get, getBytes, NoDaemonError, understood } from '../front/api/client.ts'
import { type EventShown, eventAnswer, eventsAnswer } from '../front/api/schema/event.ts'
import { EVENT_KINDS } from '../model/journal.ts'

export interface EventsOptions {
  readonly follow: boolean
  readonly kind?: string
  readonly json: boolean
}

/** Between two tries to find a daemon that has gone. */
const AGAIN_MS = 1000

export async function events(
  socket: string,
  options: EventsOptions,
  write: (text: string) => void,
  say: (notice: string) => void,
): Promise<void> {
  const { kind } = options
  if (kind !== undefined && !EVENT_KINDS.some((known) => known === kind))
    throw new ClientError(`No events of kind "${kind}": expected ${EVENT_KINDS.join(', ')}`)
  const query = kind === undefined ? '' : `kind=${kind}`
  const { value } = await get(socket, `/v1/events/kept?${query}`, eventsAnswer)
  const tell = (event: EventShown): void =>
    write(options.json ? `${JSON.stringify(event)}\n` : `${eventText(event)}\n`)
  value.forEach(tell)
  if (!options.follow) return
  let last = value.at(-1)?.id ?? null
  let gone = false
  for (;;) {
    try {
      // With an empty history nothing is missed: ids go up by the clock.
      for await (const event of follow(socket, `after=${last ?? 0}&${query}`)) {
        if (gone) say('the daemon is back')
        gone = false
        if (event === null) continue
        last = event.id
        tell(event)
      }
    } catch (error) {
      if (!(error instanceof NoDaemonError) && !isCut(error)) throw error
    }
    if (!gone) say('the daemon has gone; waiting for it')
    gone = true
    await sleep(AGAIN_MS)
  }
}

function isCut(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ECONNRESET'
}

/** Events as they come; null for every sign of life between them. */
async function* follow(socket: string, query: string): AsyncGenerator<EventShown | null> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const piece of getBytes(socket, `/v1/events?${query}`)) {
    text += decoder.decode(piece, { stream: true })
    const blocks = text.split('\n\n')
    text = blocks.pop() ?? ''
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1]
      yield data === undefined ? null : understood(eventAnswer, parsed(data), 'GET /v1/events')
    }
  }
}

function parsed(text: string): unknown {
  const json = z.string().transform((value, context) => {
    try {
      return JSON.parse(value) as unknown
    } catch {
      context.addIssue({ code: 'custom', message: 'no JSON' })
      return z.NEVER
    }
  })
  return json.parse(text)
}

/** A line for a person: local time, then what it is about, then what, then who. */
function eventText({ at, kind, about, service, server, check, state, words, by }: EventShown): string {
  const what = [service, server, check === null ? null : `check ${check}`].filter((name) => name !== null)
  // What is about nothing that has a name says itself what it is about.
  const subject = what.length > 0 ? what.join(' ') : about
  const whose = by === null ? '' : `  (${by})`
  const is = state === null ? '' : ` ${state}:`
  return `${localTime(at)}  ${kind.padEnd(9)}  ${subject}${is} ${words}${whose}`
}

function localTime(at: string): string {
  const time = new Date(at)
  const two = (number: number): string => String(number).padStart(2, '0')
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
}
