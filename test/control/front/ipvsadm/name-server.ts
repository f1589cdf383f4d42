/** Name servers for tests: one that knows a little, one that says nothing. */
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'

const A = 1
const PTR = 12
const ANSWER = 0x8180
const NO_SUCH_NAME = 3

export interface NameServer {
  /** `127.0.0.1:PORT` */
  readonly address: string
  /** Names it was asked for, in order. */
  readonly asked: readonly string[]
  /** One that has said nothing knows no name from now on, nor those that it was asked for. */
  speak(): void
  close(): void
}

function readName(packet: Buffer, start: number): { name: string; end: number } {
  const labels: string[] = []
  let at = start
  for (let length = packet[at]!; length !== 0; length = packet[at]!) {
    labels.push(packet.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.'), end: at + 1 }
}

function writeName(name: string): Buffer {
  const labels = name.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)]))
  return Buffer.concat([...labels, Buffer.from([0])])
}

/** RFC 1035 §4: header, the question again, one resource record or none. */
function answerTo(query: Buffer, records: Readonly<Record<string, string>>): { name: string; reply: Buffer } {
  const { name, end } = readName(query, 12)
  const type = query.readUInt16BE(end)
  const value = records[name.toLowerCase()]
  const header = Buffer.alloc(12)
  query.copy(header, 0, 0, 2)
  header.writeUInt16BE(ANSWER | (value === undefined ? NO_SUCH_NAME : 0), 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(value === undefined ? 0 : 1, 6)
  const question = query.subarray(12, end + 4)
  if (value === undefined) return { name, reply: Buffer.concat([header, question]) }
  const data = type === PTR ? writeName(value) : Buffer.from(value.split('.').map(Number))
  const record = Buffer.alloc(12)
  // A pointer to the name in the question.
  record.writeUInt16BE(0xc00c, 0)
  record.writeUInt16BE(type === PTR ? PTR : A, 2)
  record.writeUInt16BE(1, 4)
  record.writeUInt32BE(60, 6)
  record.writeUInt16BE(data.length, 10)
  return { name, reply: Buffer.concat([header, question, record, data]) }
}

/** @param records names to addresses, or reverse names to names; null: it never answers */
export async function nameServer(records: Readonly<Record<string, string>> | null): Promise<NameServer> {
  const socket: Socket = createSocket('udp4')
  const asked: string[] = []
  let unsaid: (() => void)[] | null = records === null ? [] : null
  socket.on('message', (query, { port, address }) => {
    const { name, reply } = answerTo(query, records ?? {})
    asked.push(name)
    const say = (): void => socket.send(reply, port, address)
    if (unsaid === null) say()
    else unsaid.push(say)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port }: AddressInfo = socket.address()
  const speak = (): void => {
    for (const say of unsaid ?? []) say()
    unsaid = null
  }
  return { address: `127.0.0.1:${port}`, asked, speak, close: () => socket.close() }
}
