/**
 * The client of the lab: runs in the client's namespace, does what it is told over the IPC channel
 * (see `talk.ts`), ends when the channel closes.
 */
import { createSocket } from 'node:dgram'
import { request as httpRequest } from 'node:http'
import { type Conversation, openConversation } from './conversation.ts'
import type { Answer } from './server.ts'
import type { Call, HttpRequest, LoadReport, LoadRequest, Reply, UdpRequest, Verbs } from './talk.ts'

/**
 * Below the kernel's own range, and in turn: nothing asked meets the connection of something asked earlier by
 * chance. The kernel's choice for TCP runs round its range as fast as every namespace of the machine connects,
 * and a SYN that meets a connection that is ending, of which only one direction is seen, goes on in it.
 */
const OWN_PORTS = { first: 10_000, last: 32_000 }

/** For an answer, on a machine where much else goes on. */
const PATIENCE_MS = 30_000

let lastUdpPort = OWN_PORTS.first
let lastTcpPort = OWN_PORTS.first
const conversations: Conversation[] = []
let lastId = 0

const handlers: { [V in keyof Verbs]: (ask: Verbs[V]['ask']) => Promise<Verbs[V]['answer']> } = {
  http,
  udp,
  load,
  open: async (ask) => {
    const conversation = await openConversation(++lastId, ask, nextTcpPort())
    conversations.push(conversation)
    return conversation.report()
  },
  report: async () => conversations.map((conversation) => conversation.report()),
  close: async () =>
    conversations.splice(0).map((conversation) => {
      const report = conversation.report()
      conversation.close()
      return report
    }),
}

/** One request on a connection of its own. */
function http(ask: HttpRequest): Promise<Answer & { received: number }> {
  const timeoutMs = ask.timeoutMs ?? PATIENCE_MS
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        host: ask.address,
        port: ask.port,
        localPort: nextTcpPort(),
        agent: false,
        method: ask.upload === undefined ? 'GET' : 'POST',
        path: ask.pad === undefined ? '/' : `/?pad=${ask.pad}`,
        timeout: timeoutMs,
      },
      (response) => {
        let text = ''
        response.setEncoding('latin1')
        response.on('data', (chunk: string) => {
          text += chunk
        })
        response.on('error', reject)
        response.on('end', () => {
          if (response.statusCode !== 200) reject(new Error(`HTTP status ${response.statusCode}`))
          else resolve({ ...(JSON.parse(text) as Answer), received: text.length })
        })
      },
    )
    request.on('timeout', () => request.destroy(new Error(`no answer within ${timeoutMs} ms`)))
    request.on('error', reject)
    request.end(ask.upload === undefined ? undefined : Buffer.alloc(ask.upload, 'x'))
  })
}

function udp(ask: UdpRequest): Promise<Answer> {
  const timeoutMs = ask.timeoutMs ?? 1000
  const token = `t${process.pid}-${++lastId}`
  const message = `${token} `.padEnd(ask.size ?? 32, '.')
  const socket = createSocket(ask.address.includes(':') ? 'udp6' : 'udp4')
  const tries = ask.tries ?? PATIENCE_MS / timeoutMs
  let triesLeft = tries
  let timer: NodeJS.Timeout | undefined
  return new Promise<Answer>((resolve, reject) => {
    // Told that the path is narrower: the next one goes in fragments.
    const fail = (error: NodeJS.ErrnoException): void => {
      if (error.code !== 'EMSGSIZE') reject(error)
    }
    const send = (): void => {
      if (triesLeft-- <= 0) {
        reject(new Error(`no answer to ${tries} datagrams`))
        return
      }
      socket.send(message, (error) => error !== null && fail(error))
      timer = setTimeout(send, timeoutMs)
    }
    socket.on('error', fail)
    socket.on('message', (data) => {
      const text = data.toString('utf8')
      if (!text.startsWith(`${token} `)) return
      resolve(JSON.parse(text.slice(token.length + 1)) as Answer)
    })
    // A connected socket takes answers only from where it asked: the virtual address.
    lastUdpPort = following(lastUdpPort)
    socket.bind(ask.sourcePort ?? lastUdpPort, () => socket.connect(ask.port, ask.address, send))
  }).finally(() => {
    clearTimeout(timer)
    socket.close()
  })
}

function nextTcpPort(): number {
  lastTcpPort = following(lastTcpPort)
  return lastTcpPort
}

function following(port: number): number {
  return port === OWN_PORTS.last ? OWN_PORTS.first : port + 1
}

/** Many short connections, as many at a time as asked for. */
async function load(ask: LoadRequest): Promise<LoadReport> {
  const answers: Record<string, number> = {}
  const failures: Record<string, number> = {}
  const clients = new Set<string>()
  const startedAt = performance.now()
  let left = ask.requests
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      try {
        const answer = await http(ask)
        answers[answer.server] = (answers[answer.server] ?? 0) + 1
        clients.add(answer.client)
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        failures[message] = (failures[message] ?? 0) + 1
      }
    }
  }
  await Promise.all(Array.from({ length: ask.concurrency }, worker))
  return { answers, failures, clients: [...clients], seconds: (performance.now() - startedAt) / 1000 }
}

async function handle<V extends keyof Verbs>(call: Call<V>): Promise<Reply> {
  try {
    return { id: call.id, ok: true, answer: await handlers[call.verb](call.ask) }
  } catch (error) {
    return { id: call.id, ok: false, message: error instanceof Error ? error.message : String(error) }
  }
}

process.on('message', (call: Call) => {
  void handle(call).then((reply) => process.send?.(reply))
})
process.on('disconnect', () => process.exit(0))
process.send?.({ id: 0, ok: true, answer: 'ready' } satisfies Reply)
