/** A keep-alive HTTP connection that asks something every few milliseconds, until it is closed or breaks. */
import { Agent, get } from 'node:http'
import type { Socket } from 'node:net'
import type { Answer } from './server.ts'
import type { ConversationReport, Target } from './talk.ts'

/** Longer than any pause a restart may cause, on a machine where much else goes on. */
const ANSWER_TIMEOUT_MS = 120_000

/** Node has the kernel probe idle connections every second, where frames are counted, too. */
export const NO_PROBES_MS = 3_600_000

export interface Conversation {
  report(): ConversationReport
  close(): void
}

/** Opens the connection; resolves after the first answer. */
export async function openConversation(
  id: number,
  target: Target & { readonly intervalMs: number },
  localPort: number,
): Promise<Conversation> {
  const agent = new Agent({ keepAlive: true, keepAliveMsecs: NO_PROBES_MS, maxSockets: 1 })
  let requests = 0
  let slowestMs = 0
  let askedAt: number | null = null
  let failure: string | null = null
  let closed = false

  const { answer: first, socket } = await ask(agent, target, localPort)
  requests = 1

  const again = async (): Promise<void> => {
    while (!closed && failure === null) {
      askedAt = performance.now()
      try {
        const { answer, socket: now } = await ask(agent, target, localPort)
        if (answer.server !== first.server)
          failure = `answered by ${answer.server}, before by ${first.server}`
        if (now !== socket) failure = `a new connection was made`
        requests += 1
      } catch (error) {
        if (!closed) failure = error instanceof Error ? error.message : String(error)
      }
      slowestMs = Math.max(slowestMs, performance.now() - askedAt)
      askedAt = null
      await new Promise((resolve) => setTimeout(resolve, target.intervalMs))
    }
  }
  void again()

  return {
    report: () => ({
      id,
      server: first.server,
      localPort: first.clientPort,
      requests,
      slowestMs: Math.round(askedAt === null ? slowestMs : Math.max(slowestMs, performance.now() - askedAt)),
      failure,
    }),
    close: () => {
      closed = true
      agent.destroy()
    },
  }
}

function ask(agent: Agent, target: Target, localPort: number): Promise<{ answer: Answer; socket: Socket }> {
  return new Promise((resolve, reject) => {
    const request = get(
      { host: target.address, port: target.port, localPort, agent, timeout: ANSWER_TIMEOUT_MS },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          text += chunk
        })
        response.on('error', reject)
        const { socket } = response
        response.on('end', () => resolve({ answer: JSON.parse(text) as Answer, socket }))
      },
    )
    request.on('timeout', () => request.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS} ms`)))
    request.on('error', reject)
  })
}
