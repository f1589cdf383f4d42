/** One question to name servers (RFC 1035), by UDP, and by TCP where the answer does not fit. */
import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'
import { type Answer, decode, encode, type Packet, streamDecode, streamEncode } from 'dns-packet'
import { onAbort } from '../../model/aborted.ts'

export type RecordType = 'A' | 'AAAA' | 'SRV'

export interface DnsAnswer {
  /** There is no such name, or nothing of this type under it. */
  readonly empty: boolean
  readonly answers: readonly Answer[]
  readonly additionals: readonly Answer[]
  /** How long it may be believed. */
  readonly ttlS: number
}

interface Decoded extends Packet {
  readonly rcode?: string
  readonly flag_tc?: boolean
}

/** A name server, by its address. */
interface Place {
  readonly host: string
  readonly port: number
}

const TIMEOUT_MS = 2000
/** What fits on any path without fragments (the DNS flag day's number). */
const UDP_BYTES = 1232
/** Where an answer says nothing. */
const NEGATIVE_TTL_S = 30

export function placeOf(endpoint: string): Place {
  const [, host = endpoint, port = '53'] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(endpoint) ?? []
  return { host, port: Number(port) }
}

export async function askServer(
  server: Place,
  name: string,
  type: RecordType,
  signal: AbortSignal,
): Promise<DnsAnswer> {
  const id = randomInt(1, 0xffff)
  const query: Packet = {
    ...{ type: 'query', id, flags: 0x100, questions: [{ type, name }] },
    additionals: [
      {
        type: 'OPT',
        name: '.',
        udpPayloadSize: UDP_BYTES,
        flags: 0,
        extendedRcode: 0,
        ednsVersion: 0,
        flag_do: false,
        options: [],
      },
    ],
  }
  const what = `${server.host}:${server.port}: ${name} ${type}`
  let answer = await overUdp(server, query, what, signal)
  if (answer.flag_tc === true) answer = await overTcp(server, query, what, signal)
  const code = answer.rcode ?? 'NOERROR'
  if (code !== 'NOERROR' && code !== 'NXDOMAIN') throw new Error(`${what}: ${code}`)
  const answers = answer.answers ?? []
  const empty = code === 'NXDOMAIN' || !answers.some((record) => record.type === type)
  const ttls = answers.map((record) => ('ttl' in record ? (record.ttl ?? 0) : 0))
  const ttlS = empty ? negativeTtl(answer) : Math.min(...ttls)
  return { empty, answers, additionals: answer.additionals ?? [], ttlS }
}

/** RFC 2308: the smaller of the SOA's own time and its last field. */
function negativeTtl({ authorities = [] }: Packet): number {
  for (const record of authorities) {
    if (record.type === 'SOA')
      return Math.min(record.ttl ?? NEGATIVE_TTL_S, record.data.minimum ?? NEGATIVE_TTL_S)
  }
  return NEGATIVE_TTL_S
}

/** Whoever guesses the number has to know the question, too. */
function fits(answer: Packet, query: Packet): boolean {
  const [asked] = query.questions ?? []
  const [echoed] = answer.questions ?? []
  return (
    answer.type === 'response' &&
    answer.id === query.id &&
    echoed?.type === asked?.type &&
    echoed?.name.toLowerCase() === asked?.name.toLowerCase()
  )
}

function overUdp({ host, port }: Place, query: Packet, what: string, signal: AbortSignal): Promise<Decoded> {
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4')
  const question = encode(query)
  const clean: (() => void)[] = []
  return new Promise<Decoded>((resolve, reject) => {
    const stop = (): void => reject(new Error(`${what}: it is enough`))
    const late = setTimeout(
      () => reject(new Error(`${what}: not answered within ${TIMEOUT_MS} ms`)),
      TIMEOUT_MS,
    )
    clean.push(() => clearTimeout(late), onAbort(signal, stop))
    socket.on('error', (error) => reject(new Error(`${what}: ${error.message}`)))
    socket.on('message', (bytes) => {
      const answer = understood(bytes, decode)
      // What is not about this is not for us.
      if (answer !== null && fits(answer, query)) resolve(answer)
    })
    // A connected socket hears that nobody is there. Not by connect's callback, which is called when there is no way
    // to the server, too, and takes that for itself.
    socket.on('connect', () => socket.send(question))
    socket.connect(port, host)
  }).finally(() => {
    for (const step of clean) step()
    socket.close()
  })
}

function overTcp({ host, port }: Place, query: Packet, what: string, signal: AbortSignal): Promise<Decoded> {
  const socket = connect({ host, port, signal })
  return new Promise<Decoded>((resolve, reject) => {
    const late = setTimeout(
      () => socket.destroy(new Error(`not answered within ${TIMEOUT_MS} ms`)),
      TIMEOUT_MS,
    )
    let bytes = Buffer.alloc(0)
    socket.on('error', (error) => reject(new Error(`${what}, TCP: ${error.message}`)))
    socket.on('close', () => {
      clearTimeout(late)
      reject(new Error(`${what}, TCP: the connection has ended`))
    })
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk])
      if (bytes.length < 2 || bytes.length < 2 + bytes.readUInt16BE(0)) return
      const answer = understood(bytes, streamDecode)
      if (answer === null || !fits(answer, query)) reject(new Error(`${what}, TCP: not an answer`))
      else resolve(answer)
    })
    socket.write(streamEncode(query))
  }).finally(() => socket.destroy())
}

/** null: it is no message. */
function understood(bytes: Buffer, read: (bytes: Buffer) => Packet): Decoded | null {
  try {
    return read(bytes)
  } catch {
    return null
  }
}
