/** `pointsman explain` and `pointsman snapshot`: what becomes of a packet, and why. */
import { createWriteStream, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip, gunzipSync } from 'node:zlib'
import { builtFile, packageRoot } from '../../dataplane/assets.ts'
import { loadModule } from '../../dataplane/wasm/program.ts'
import type { NextHop } from '../../linux/netlink/next-hop.ts'
import { familyOf, type IpAddress } from '../../net/address.ts'
import { parseEndpoint } from '../../net/endpoint.ts'
import { buildFrame, TCP_FLAGS, type TcpFlag } from '../../net/packet/build.ts'
import { keyOf } from '../../net/packet/key.ts'
import type { Protocol } from '../../net/protocol.ts'
import { ClientError, get, getBytes } from '../front/api/client.ts'
import { nextHopAnswer, nextHopOf } from '../front/api/schema/next-hop.ts'
import { type CapturedFrame, CaptureError, readCapture } from '../insight/explain/capture.ts'
import { Explainer, type Explanation, type HopQuestion } from '../insight/explain/explain.ts'
import { readSnapshot, SnapshotError } from '../insight/explain/snapshot.ts'
import { explanationText } from '../insight/explain/text.ts'
import { verdictWords } from '../insight/explain/verdict-words.ts'

export interface ExplainOptions {
  readonly flags?: string
  readonly interface?: string
  readonly count?: string
  readonly capture?: string
  readonly frame?: string
  readonly snapshot?: string
  readonly json: boolean
}

type Write = (text: string) => void

export async function explain(
  socket: string,
  words: readonly string[],
  options: ExplainOptions,
  write: Write,
): Promise<void> {
  const wanted = options.capture === undefined ? packetOf(words, options) : null
  if (options.capture !== undefined && words.length > 0)
    throw new ClientError(`Cannot explain both ${options.capture} and a packet in words: say one of them`)
  const desk = await openDesk(socket, options)
  const colours = !options.json && process.stdout.isTTY === true && !process.env.NO_COLOR
  if (wanted === null) await explainCapture(desk, options, colours, write)
  else await explainPacket(desk, wanted, options, colours, write)
}

/** Where packets are explained: over a copy of a running director's maps, or of a snapshot's. */
class Desk {
  readonly explainer: Explainer
  /** null: nobody knows more than the snapshot. */
  readonly #socket: string | null

  constructor(explainer: Explainer, socket: string | null) {
    this.explainer = explainer
    this.#socket = socket
  }

  /** @param again lets the packet through from where the last one has left the copy, not from the beginning */
  async explain(frame: Uint8Array, ifindex: number, again: 'restored' | 'as it is'): Promise<Explanation> {
    for (let round = 0; round < HOPS_MAX; round++) {
      const answer = this.explainer.explain({ frame, ifindex })
      if (!('asks' in answer)) return answer
      for (const question of answer.asks) this.explainer.learn(question, await this.#hop(question))
      if (again === 'restored') this.explainer.restore()
    }
    throw new ClientError('Cannot find the way of this packet: the routes change all the time; try again')
  }

  async #hop({ destination, source, ifindex, tos }: HopQuestion): Promise<NextHop> {
    // What the snapshot does not know nobody does any more.
    if (this.#socket === null) return { result: 'no-neighbour' }
    const query = new URLSearchParams({
      ...{ to: destination, from: source, ifindex: String(ifindex), tos: String(tos) },
    })
    const { value } = await get(this.#socket, `/v1/next-hop?${query}`, nextHopAnswer)
    return nextHopOf(value)
  }

  /** The one that was named; else the one that the sender is behind, if packets are taken from it. */
  async interfaceOf(name: string | undefined, from: IpAddress): Promise<number> {
    const interfaces = this.explainer.interfaces()
    const [first] = interfaces
    if (first === undefined)
      throw new ClientError('No packets are taken from any interface: pointsmand --interface NAME')
    if (name !== undefined) {
      const found = interfaces.find((one) => one.name === name)
      if (found !== undefined) return found.ifindex
      const names = interfaces.map((one) => one.name).join(', ')
      throw new ClientError(`No packets are taken from interface "${name}": expected ${names}`)
    }
    if (interfaces.length === 1 || this.#socket === null) return first.ifindex
    const { value } = await get(this.#socket, `/v1/next-hop?to=${encodeURIComponent(from)}`, nextHopAnswer)
    const behind = value.result === 'ok' ? value.ifindex : first.ifindex
    return interfaces.some(({ ifindex }) => ifindex === behind) ? behind : first.ifindex
  }

  macOf(ifindex: number): Uint8Array {
    return this.explainer.interfaces().find((one) => one.ifindex === ifindex)?.mac ?? new Uint8Array(6)
  }

  /** By whose address the frame was sent to; else as if it had come in by the first. */
  interfaceOfFrame(frame: Uint8Array, name: string | undefined): number | null {
    const interfaces = this.explainer.interfaces()
    const named = interfaces.find((one) => one.name === name)
    if (name !== undefined) return named?.ifindex ?? null
    const to = interfaces.find(({ mac }) => mac.every((byte, i) => byte === frame[i]))
    return (to ?? interfaces[0])?.ifindex ?? null
  }
}

/** Questions for the way of one packet, one after the other. */
const HOPS_MAX = 4

async function openDesk(socket: string, { snapshot: path }: ExplainOptions): Promise<Desk> {
  const bytes = path === undefined ? await gather(getBytes(socket, '/v1/snapshot')) : readFile(path)
  let snapshot: ReturnType<typeof readSnapshot>
  try {
    snapshot = readSnapshot(bytes)
  } catch (error) {
    if (!(error instanceof SnapshotError)) throw error
    throw new ClientError(`Cannot explain${path === undefined ? '' : ` by ${path}`}: ${error.message}`)
  }
  const explainer = new Explainer({
    snapshot,
    module: loadModule(builtFile('pointsman.wasm')),
    words: verdictWords(readFileSync(join(packageRoot(), 'docs/verdicts.md'), 'utf8')),
  })
  return new Desk(explainer, path === undefined ? socket : null)
}

async function gather(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for await (const piece of pieces) parts.push(piece)
  return Buffer.concat(parts)
}

/** Unpacked it may be as large as the tables of the largest director. */
const SNAPSHOT_MAX = 2 ** 31 - 1

function readFile(path: string): Uint8Array {
  try {
    const bytes = readFileSync(path)
    const isPacked = bytes[0] === 0x1f && bytes[1] === 0x8b
    return isPacked ? gunzipSync(bytes, { maxOutputLength: SNAPSHOT_MAX }) : bytes
  } catch (cause) {
    throw new ClientError(`Cannot read ${path}: ${cause instanceof Error ? cause.message : cause}`)
  }
}

export async function snapshot(socket: string, path: string): Promise<string> {
  const temporary = `${path}.${process.pid}.tmp`
  const source = Readable.from(getBytes(socket, '/v1/snapshot?hops=1'))
  try {
    // Clients' addresses are in it.
    await pipeline(source, createGzip(), createWriteStream(temporary, { mode: 0o600 }))
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    if (error instanceof ClientError) throw error
    throw new ClientError(`Cannot write ${path}: ${error instanceof Error ? error.message : error}`)
  }
  return `wrote ${path}; explain packets by it anywhere: pointsman explain --snapshot ${path} tcp CLIENT:PORT ADDRESS:PORT\n`
}

// A packet in words

interface PacketWanted {
  readonly protocol: Protocol
  readonly from: { readonly address: IpAddress; readonly port: number }
  readonly to: { readonly address: IpAddress; readonly port: number }
  readonly flags: readonly TcpFlag[]
}

const USAGE = 'expected: pointsman explain tcp 198.51.100.7:40000 192.0.2.10:80'

function packetOf(
  [protocol = '', from = '', to = '', ...more]: readonly string[],
  options: ExplainOptions,
): PacketWanted {
  if (to === '' || more.length > 0) throw new ClientError(`Cannot read the packet: ${USAGE}`)
  if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'sctp')
    throw new ClientError(
      `Cannot explain a packet of "${protocol}": expected tcp, udp or sctp; others by --capture FILE`,
    )
  const ends = { from: endOf(from), to: endOf(to) }
  if (familyOf(ends.from.address) !== familyOf(ends.to.address))
    throw new ClientError(`Cannot send from ${from} to ${to}: one is IPv4 and the other IPv6`)
  return { protocol, ...ends, flags: flagsOf(options.flags ?? 'syn', protocol) }
}

function endOf(text: string): PacketWanted['from'] {
  const endpoint = parseEndpoint(text)
  if (endpoint === null || endpoint.port === null)
    throw new ClientError(
      `Cannot read "${text}": expected an address with a port, 192.0.2.10:80 or [2001:db8::1]:80`,
    )
  return { address: endpoint.address, port: endpoint.port }
}

function flagsOf(text: string, protocol: Protocol): TcpFlag[] {
  if (protocol !== 'tcp') return []
  return text.split(',').map((word) => {
    if (!(word in TCP_FLAGS))
      throw new ClientError(
        `Unknown TCP flag "${word}": expected ${Object.keys(TCP_FLAGS).join(', ')}, with commas between them`,
      )
    return word as TcpFlag
  })
}

/** Of somebody on the link; the program does not look at it. */
const SOMEBODY = Uint8Array.of(2, 0, 0, 0, 0, 1)
const COUNT_MAX = 100_000

async function explainPacket(
  desk: Desk,
  wanted: PacketWanted,
  options: ExplainOptions,
  colours: boolean,
  write: Write,
): Promise<void> {
  const count = options.count === undefined ? 1 : numberOf('--count', options.count, COUNT_MAX)
  const ifindex = await desk.interfaceOf(options.interface, wanted.from.address)
  const frameFrom = (port: number): Uint8Array =>
    buildFrame({
      ...wanted,
      from: { ...wanted.from, port },
      sourceMac: SOMEBODY,
      destinationMac: desk.macOf(ifindex),
    })
  if (count === 1) {
    const said = await desk.explain(frameFrom(wanted.from.port), ifindex, 'restored')
    write(options.json ? `${JSON.stringify(said, null, 2)}\n` : explanationText(said, colours))
    return
  }
  const met = new Map<string, { verdict: string; realServer: string | null; packets: number }>()
  for (let i = 0; i < count; i++) {
    const port = ((wanted.from.port + i - 1) % 65_535) + 1
    const { verdict, realServer } = await desk.explain(frameFrom(port), ifindex, 'as it is')
    const key = `${verdict} ${realServer}`
    const known = met.get(key)
    if (known === undefined) met.set(key, { verdict, realServer, packets: 1 })
    else known.packets++
  }
  const fates = [...met.values()].sort((a, b) => b.packets - a.packets)
  if (options.json) {
    write(`${JSON.stringify(fates, null, 2)}\n`)
    return
  }
  write(`${count} packets, each from the next port:\n`)
  for (const { packets, verdict, realServer } of fates)
    write(`${String(packets).padStart(8)}  ${verdict}${realServer === null ? '' : `  ${realServer}`}\n`)
}

function numberOf(option: string, text: string, most: number): number {
  const value = Number(text)
  if (!/^\d{1,9}$/.test(text) || value < 1 || value > most)
    throw new ClientError(`Cannot take ${option} ${text}: expected 1 to ${most}`)
  return value
}

// A capture

async function explainCapture(
  desk: Desk,
  options: ExplainOptions,
  colours: boolean,
  write: Write,
): Promise<void> {
  const path = options.capture!
  const only = options.frame === undefined ? null : numberOf('--frame', options.frame, 999_999_999)
  let frames = 0
  try {
    for (const captured of readCapture(path)) {
      frames++
      if (only !== null && captured.number !== only) continue
      const ifindex = desk.interfaceOfFrame(captured.bytes, options.interface)
      if (ifindex === null)
        throw new ClientError(
          `No packets are taken from interface "${options.interface ?? ''}": see pointsman status`,
        )
      if (only !== null) {
        const said = await desk.explain(captured.bytes, ifindex, 'restored')
        write(options.json ? `${JSON.stringify(said, null, 2)}\n` : explanationText(said, colours))
        return
      }
      const said = await desk.explain(captured.bytes, ifindex, 'as it is')
      write(
        options.json
          ? `${JSON.stringify({ frame: captured.number, ...withoutSteps(said) })}\n`
          : `${row(captured, said)}\n`,
      )
    }
  } catch (error) {
    if (error instanceof CaptureError) throw new ClientError(error.message)
    if (error instanceof Error && 'code' in error)
      throw new ClientError(`Cannot read ${path}: ${error.message}`)
    throw error
  }
  if (only !== null) throw new ClientError(`${path} has no frame ${only}: it has ${frames}`)
}

function withoutSteps({ steps: _, frame: __, ...said }: Explanation): object {
  return said
}

function row({ number, bytes, length }: CapturedFrame, said: Explanation): string {
  const cut = bytes.length < length ? ', cut by the capture' : ''
  const to = said.realServer === null ? '' : `  → ${said.realServer}`
  const service = said.service === null ? '' : `  ${said.service}`
  return `${String(number).padStart(6)}  ${said.verdict.padEnd(24)}${endsOf(bytes)}${service}${to}${cut}`
}

function endsOf(frame: Uint8Array): string {
  const key = keyOf(frame)
  return key === null ? 'no IP packet' : `protocol ${key.protocol}`
}
