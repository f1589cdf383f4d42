/**
 * An agent beside the service: one line, in the words of HAProxy's agent-check. `75%` is a share of the
 * weight; `drain` and `maint` take no new connections; `up` and `ready` do; `down`, `failed`, `stopped` are
 * bad, and what stands behind them is why.
 */
import { once } from 'node:events'
import { dial, hangUp } from '../dial.ts'
import { bad, good, type Job, type Verdict } from '../protocol.ts'
import { Talk } from '../talk.ts'

export async function askAgent(job: Job, send: string, signal: AbortSignal): Promise<Verdict> {
  const socket = dial(job, signal)
  try {
    await once(socket, 'connect', { signal })
    const talk = new Talk(socket)
    if (send !== '') talk.send(send)
    // Some end the line with the connection.
    const line = (await talk.line('the answer')) ?? talk.rest()
    return judge(line)
  } finally {
    hangUp(socket)
  }
}

export function judge(line: string): Verdict {
  const text = line.trim().slice(0, 200)
  let share: number | null = null
  for (const [index, word] of text.split(/[\s,]+/).entries()) {
    const why = text
      .split(/[\s,]+/)
      .slice(index + 1)
      .join(' ')
    if (/^\d{1,5}%$/.test(word)) share = Number(word.slice(0, -1)) / 100
    else if (/^(down|failed|fail|stopped)$/i.test(word))
      return bad(`the agent says ${word}${why && `: ${why}`}`)
    else if (/^(drain|maint)$/i.test(word)) share = 0
    else if (!/^(up|ready|maxconn:\d+)$/i.test(word))
      return bad(`no word of an agent: ${JSON.stringify(word)}`)
  }
  const verdict = good(`the agent says ${text}`)
  return share === null ? verdict : { ...verdict, weight: { kind: 'share', share } }
}
