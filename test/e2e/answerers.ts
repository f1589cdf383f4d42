/**
 * A real server of every kind that checks ask: listens on one port for each, on all addresses given, until its
 * standard input ends. First argument: addresses and ports as JSON.
 */
import { createSocket } from 'node:dgram'
import { createServer as createHttp } from 'node:http'
import { createServer as createHttp2 } from 'node:http2'
import { createServer as createHttps } from 'node:https'
import { createServer } from 'node:net'
import { createServer as createTls } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { decode, encode } from 'dns-packet'

export interface Answerers {
  /** What a datagram's answer has to come from. */
  readonly addresses: readonly string[]
  readonly ports: Readonly<Record<Kind, number>>
  readonly key: string
  readonly cert: string
}

export const KINDS = ['tcp', 'http', 'https', 'tls', 'dns', 'smtp', 'udp', 'grpc', 'agent'] as const
export type Kind = (typeof KINDS)[number]

type Listening = { listen(port: number, host: string, done: () => void): unknown }

function streams({ key, cert }: Answerers): Record<Exclude<Kind, 'dns' | 'udp'>, Listening> {
  const grpc = createHttp2()
  grpc.on('stream', (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
    stream.end(Buffer.from([0, 0, 0, 0, 2, 8, 1]))
  })
  const talking = (first: string, ...then: readonly string[]) =>
    createServer((socket) => {
      let n = 0
      socket.on('error', () => {})
      socket.write(first)
      socket.on('data', () => void socket.write(then[n++] ?? ''))
    })
  return {
    tcp: createServer((socket) => socket.on('error', () => {}).resume()),
    http: createHttp((_asked, answer) => answer.end('good')),
    https: createHttps({ key, cert }, (_asked, answer) => answer.end('good')),
    tls: createTls({ key, cert }, (socket) => socket.on('error', () => {}).resume()),
    smtp: talking('220 ready\r\n', '250 hello\r\n', '221 bye\r\n'),
    grpc,
    agent: createServer((socket) => socket.on('error', () => {}).end('up 75%\n')),
  }
}

async function datagrams({ addresses, ports }: Answerers): Promise<void> {
  for (const address of addresses) {
    const echo = createSocket('udp4')
    echo.on('message', (data, from) => echo.send(data, from.port, from.address))
    const names = createSocket('udp4')
    names.on('message', (data, from) => {
      const { id = 0, questions = [] } = decode(data)
      names.send(encode({ type: 'response', id, questions, answers: [] }), from.port, from.address)
    })
    await new Promise<void>((resolve) => void echo.bind(ports.udp, address, resolve))
    await new Promise<void>((resolve) => void names.bind(ports.dns, address, resolve))
  }
}

async function main(settings: Answerers): Promise<void> {
  for (const [kind, server] of Object.entries(streams(settings))) {
    const port = settings.ports[kind as Kind]
    await new Promise<void>((resolve) => void server.listen(port, '0.0.0.0', resolve))
  }
  await datagrams(settings)
  process.stdout.write('ready\n')
  process.stdin.on('end', () => process.exit()).resume()
}

const [, , words] = process.argv
if (process.argv[1] === fileURLToPath(import.meta.url) && words !== undefined)
  await main(JSON.parse(words) as Answerers)
