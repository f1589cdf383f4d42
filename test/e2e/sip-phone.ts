/**
 * A telephone, or a proxy, that speaks as much SIP as a persistence engine looks at: it answers each INVITE, tells on
 * its standard output what has come, and calls whom it is told to on its standard input, a line of JSON each. First
 * argument: its name, second: where it listens.
 */
import { createSocket, type Socket } from 'node:dgram'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface Place {
  readonly address: string
  readonly port: number
}

/** A call from where the telephone listens, or from a socket of its own that waits for the answer. */
export interface Order {
  readonly from: Place
  readonly to: Place
  readonly call: string
}

export interface Heard {
  readonly what: 'INVITE' | 'answer'
  /** Where it came from. */
  readonly from: Place
  /** Where it came to. */
  readonly at: Place
  readonly call: string
  /** Who says so. */
  readonly name: string
}

const AGAIN_MS = 1000

const message = (first: string, call: string, name: string): string =>
  [
    first,
    'Via: SIP/2.0/UDP lab',
    `Call-ID: ${call}`,
    `User-Agent: ${name}`,
    'Content-Length: 0',
    '',
    '',
  ].join('\r\n')

function listen(name: string, at: Place): Promise<Socket> {
  const socket = createSocket(at.address.includes(':') ? 'udp6' : 'udp4')
  socket.on('message', (data, { address, port }) => {
    const text = String(data)
    const call = /^Call-ID: (.+)\r$/m.exec(text)?.[1] ?? ''
    const what = text.startsWith('INVITE ') ? 'INVITE' : 'answer'
    const heard: Heard = {
      ...{ what, at, call, from: { address, port } },
      name: /^User-Agent: (.+)\r$/m.exec(text)?.[1] ?? '',
    }
    process.stdout.write(`${JSON.stringify(heard)}\n`)
    if (what === 'INVITE') socket.send(message('SIP/2.0 200 OK', call, name), port, address)
  })
  // Refused for now: it is asked again.
  socket.on('error', () => {})
  return new Promise((resolve) => void socket.bind(at.port, at.address, () => resolve(socket)))
}

const key = ({ address, port }: Place): string => `${address} ${port}`

async function main(name: string, places: readonly Place[]): Promise<void> {
  const sockets = new Map<string, Socket>()
  for (const place of places) sockets.set(key(place), await listen(name, place))
  const order = async ({ from, to, call }: Order): Promise<void> => {
    const own = sockets.get(key(from))
    const socket = own ?? (await listen(name, from))
    const send = (): void =>
      socket.send(message('INVITE sip:lab SIP/2.0', call, name), to.port, to.address, () => {})
    const again = setInterval(send, AGAIN_MS)
    socket.on('message', function answered(data) {
      if (!String(data).includes(`Call-ID: ${call}\r`) || String(data).startsWith('INVITE ')) return
      clearInterval(again)
      socket.off('message', answered)
      if (own === undefined) socket.close()
    })
    send()
  }
  createInterface(process.stdin)
    .on('line', (line) => void order(JSON.parse(line) as Order))
    .on('close', () => process.exit())
  process.stdout.write('ready\n')
}

const [, script, name, places] = process.argv
if (script === fileURLToPath(import.meta.url) && name !== undefined && places !== undefined)
  await main(name, JSON.parse(places) as Place[])
