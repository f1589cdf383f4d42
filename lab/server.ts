/**
 * A real server of the lab: HTTP and a UDP echo that answer who they are and whom they saw.
 *
 * Run inside the real server's namespace with one argument, a JSON `ServerSettings`. Prints "ready"
 * when everything listens; lives until its namespace is taken away or a signal ends it.
 */
import { createSocket } from 'node:dgram'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { endpointText } from '../net/endpoint.ts'

export interface ServerSettings {
  readonly name: string
  readonly httpPorts: readonly number[]
  /** Bound one by one: an answer from a wildcard socket would carry the route's source address. */
  readonly echo: readonly { readonly address: string; readonly port: number }[]
}

/** What a real server answers, over HTTP and UDP alike. */
export interface Answer {
  readonly server: string
  /** Address and port of the client as the real server saw them. */
  readonly client: string
  readonly clientPort: number
  /** Address and port the packet had when it arrived. */
  readonly local: string
  readonly localPort: number
  /** Bytes of the request's body or datagram. */
  readonly bytes: number
}

/** IPv4 arrives at the IPv6 wildcard socket as ::ffff:a.b.c.d. */
function plain(address: string | undefined): string {
  return (address ?? '').replace(/^::ffff:/, '')
}

function answerHttp(name: string, request: IncomingMessage, response: ServerResponse): void {
  let bytes = 0
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
  })
  request.on('end', () => {
    const { socket } = request
    const answer: Answer = {
      server: name,
      client: plain(socket.remoteAddress),
      clientPort: socket.remotePort ?? 0,
      local: plain(socket.localAddress),
      localPort: socket.localPort ?? 0,
      bytes,
    }
    // GET /?pad=N asks for N bytes behind the answer.
    const pad = Number(new URL(request.url ?? '/', 'http://lab').searchParams.get('pad') ?? 0)
    response.setHeader('content-type', 'application/json')
    response.end(`${JSON.stringify(answer)}\n${' '.repeat(Math.min(pad, 16 * 1024 * 1024))}`)
  })
}

function listenHttp(name: string, port: number): Promise<void> {
  const server = createServer((request, response) => answerHttp(name, request, response))
  server.keepAliveTimeout = 120_000
  return new Promise((resolve, reject) => {
    server.on('error', reject)
    server.listen({ host: '::', port, backlog: 1024 }, resolve)
  })
}

function listenEcho(name: string, address: string, port: number): Promise<void> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  socket.on('message', (message, from: AddressInfo) => {
    const answer: Answer = {
      server: name,
      client: plain(from.address),
      clientPort: from.port,
      local: address,
      localPort: port,
      bytes: message.length,
    }
    // The token (first word) goes back, so that the client can tell answers apart.
    const token = message.subarray(0, 64).toString('latin1').split(' ')[0]
    socket.send(`${token} ${JSON.stringify(answer)}`, from.port, from.address, () => {})
  })
  return new Promise((resolve, reject) => {
    socket.on('error', (cause) =>
      reject(new Error(`Cannot bind ${endpointText({ address, port })}/udp`, { cause })),
    )
    socket.bind(port, address, resolve)
  })
}

async function main(settings: ServerSettings): Promise<void> {
  await Promise.all([
    ...settings.httpPorts.map((port) => listenHttp(settings.name, port)),
    ...settings.echo.map(({ address, port }) => listenEcho(settings.name, address, port)),
  ])
  process.stdout.write('ready\n')
}

await main(JSON.parse(process.argv[2] ?? '{}') as ServerSettings)
