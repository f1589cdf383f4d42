/**
 * Both ends of the traffic, as processes in namespaces: `traffic.js server ADDRESS...`,
 * `traffic.js client ADDRESS PORT` and `traffic.js datagrams COUNT (ADDRESS PORT)...`. The client keeps connections open and
 * talks over each all the time, makes new ones beside them, and tells its parent how it goes. Datagrams are sent
 * one after the other, each when the last has been answered.
 */
import { createSocket } from 'node:dgram'
import { connect, createServer, type Socket } from 'node:net'

export const SERVER_PORT = 8080
/** Connections that are kept open. */
export const KEPT = 12
const PAUSE_MS = 100
const NEW_EVERY_MS = 500
/** Longer than what TCP needs to send again after nobody has forwarded for a while on a slow machine. */
const ANSWER_MS = 300_000

export interface Tally {
  /** Of the connections that are kept: those that still talk. */
  readonly kept: number
  /** What ended them. */
  readonly broken: readonly string[]
  readonly answers: number
  readonly opened: number
  readonly refused: number
}

/** Says so when it listens everywhere. */
async function serve(addresses: readonly string[]): Promise<void> {
  for (const address of addresses) {
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.pipe(socket)
    })
    await new Promise<void>((resolve) => server.listen(SERVER_PORT, address, resolve))
    const echo = createSocket('udp4')
    echo.on('message', (message, from) => echo.send(message, from.port, from.address))
    await new Promise<void>((resolve) => echo.bind(SERVER_PORT, address, resolve))
  }
  process.send?.('listening')
}

/** One question and its answer. */
function talk(socket: Socket, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let got = ''
    const done = (error?: Error): void => {
      clearTimeout(late)
      socket.off('data', data).off('error', done).off('close', closed)
      if (error === undefined) resolve()
      else reject(error)
    }
    const late = setTimeout(() => done(new Error(`no answer within ${ANSWER_MS} ms`)), ANSWER_MS)
    const data = (chunk: Buffer): void => {
      got += chunk.toString()
      if (got.length < text.length) return
      done(got === text ? undefined : new Error(`asked ${text}, was answered ${got}`))
    }
    const closed = (): void => done(new Error('closed by the other end'))
    socket.on('data', data).on('error', done).on('close', closed)
    socket.write(text)
  })
}

function open(address: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port, timeout: ANSWER_MS }, () => {
      socket.setTimeout(0)
      resolve(socket)
    })
    socket.once('error', reject).once('timeout', () => socket.destroy(new Error('not opened in time')))
  })
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

async function ask(address: string, port: number): Promise<void> {
  const broken: string[] = []
  let [kept, answers, opened, refused] = [0, 0, 0, 0]
  const keep = async (): Promise<void> => {
    try {
      const socket = await open(address, port)
      socket.on('error', () => {})
      kept++
      try {
        for (let i = 0; ; i++) {
          await talk(socket, `question ${i}\n`)
          answers++
          await pause(PAUSE_MS)
        }
      } finally {
        kept--
      }
    } catch (error) {
      broken.push(error instanceof Error ? error.message : String(error))
    }
  }
  for (let i = 0; i < KEPT; i++) void keep()
  setInterval(() => process.send?.({ kept, broken, answers, opened, refused } satisfies Tally), 100)
  for (;;) {
    await pause(NEW_EVERY_MS)
    open(address, port)
      .then(
        async (socket) => {
          await talk(socket, 'hello\n')
          opened++
          socket.destroy()
        },
        () => refused++,
      )
      .catch(() => refused++)
  }
}

async function sendDatagrams(count: number, address: string, port: number): Promise<void> {
  const socket = createSocket('udp4')
  await new Promise<void>((resolve) => socket.connect(port, address, resolve))
  for (let i = 0; i < count; i++) {
    const late = setTimeout(() => {
      process.stderr.write(`datagram ${i} to ${address}:${port} is not answered within ${ANSWER_MS} ms\n`)
      process.exit(1)
    }, ANSWER_MS)
    const answered = new Promise((resolve) => socket.once('message', resolve))
    socket.send(`datagram ${i}`)
    await answered
    clearTimeout(late)
  }
  socket.close()
}

async function sendAll(count: number, targets: readonly string[]): Promise<void> {
  for (let i = 0; i < targets.length; i += 2) await sendDatagrams(count, targets[i]!, Number(targets[i + 1]))
}

/** Whether this process was started as one of the ends; it is one then. */
export function isTraffic([role, ...words]: readonly string[]): boolean {
  if (role === 'server') void serve(words)
  else if (role === 'client') void ask(words[0]!, Number(words[1]))
  else if (role === 'datagrams') void sendAll(Number(words[0]), words.slice(1))
  else return false
  return true
}
