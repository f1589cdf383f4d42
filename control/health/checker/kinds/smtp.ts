/** Greeting, HELO, QUIT (RFC 5321 §4). */
import { once } from 'node:events'
import { dial, hangUp } from '../dial.ts'
import { bad, good, type Job, type Verdict } from '../protocol.ts'
import { Talk, Unexpected } from '../talk.ts'

export async function askSmtp(job: Job, helo: string, signal: AbortSignal): Promise<Verdict> {
  const socket = dial(job, signal)
  try {
    await once(socket, 'connect', { signal })
    const talk = new Talk(socket)
    const steps = [
      { say: null, want: 220, what: 'greeting' },
      { say: `HELO ${helo}\r\n`, want: 250, what: 'HELO' },
      { say: 'QUIT\r\n', want: 221, what: 'QUIT' },
    ]
    for (const { say, want, what } of steps) {
      if (say !== null) talk.send(say)
      const reply = await readReply(talk)
      if (reply.code !== want) return bad(`${what}: SMTP ${reply.text}, wanted ${want}`)
    }
    return good('SMTP 220, 250, 221')
  } finally {
    hangUp(socket)
  }
}

const LINES_MAX = 100

/** Of several lines (`250-...`) the last one counts. */
async function readReply(talk: Talk): Promise<{ readonly code: number; readonly text: string }> {
  for (let n = 0; n < LINES_MAX; n++) {
    const line = await talk.line('a reply')
    if (line === null) throw new Unexpected('the connection was closed')
    const match = /^(\d{3})([ -]|$)/.exec(line)
    if (match === null) throw new Unexpected(`no SMTP: ${JSON.stringify(line.slice(0, 80))}`)
    if (match[2] !== '-') return { code: Number(match[1]), text: line.slice(0, 120) }
  }
  throw new Unexpected(`a reply of more than ${LINES_MAX} lines`)
}
