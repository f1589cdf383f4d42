/** `pointsman explain` and `pointsman snapshot`: what becomes of a packet, and why. */
import { createWriteStream, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip, gunzipSync } from 'node:zlib'
import { builtFile, packageRoot } from '../../dataplane/assets.ts'
import { loadModule } from '../../dataplane/userspace/wasm-file.ts'
import type { NextHop } from '../../linux/netlink/next-hop.ts'
import { keyOf } from '../../net/packet/key.ts'
import { ClientError, get, getBytes } from '../front/api/client.ts'
import { nextHopAnswer, nextHopOf } from '../front/api/schema/next-hop.ts'
import { type CapturedFrame, CaptureError, readCapture } from '../insight/explain/capture.ts'
import { Desk, type WayQuestion } from '../insight/explain/desk.ts'
import { Explainer } from '../insight/explain/explain.ts'
import { frameOf, PacketError, type PacketInWords, packetInWords } from '../insight/explain/packet.ts'
import { readSnapshot, SnapshotError } from '../insight/explain/snapshot.ts'
import { explanationText } from '../insight/explain/text.ts'
import type { Explanation } from '../insight/explain/told.ts'
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
  try {
    await explainAll(socket, words, options, write)
  } catch (error) {
    throw error instanceof PacketError ? new ClientError(error.message) : error
  }
}

async function explainAll(
  socket: string,
  words: readonly string[],
  options: ExplainOptions,
  write: Write,
): Promise<void> {
  const wanted = options.capture === undefined ? packetInWords(words, options.flags) : null
  if (options.capture !== undefined && words.length > 0)
    throw new ClientError(`Cannot explain both ${options.capture} and a packet in words: say one of them`)
  const desk = await openDesk(socket, options)
  const colours = !options.json && process.stdout.isTTY === true && !process.env.NO_COLOR
  if (wanted === null) await explainCapture(desk, options, colours, write)
  else await explainPacket(desk, wanted, options, colours, write)
}

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
  return new Desk(explainer, path === undefined ? (question) => wayOf(socket, question) : null)
}

async function wayOf(socket: string, { to, from, ifindex, tos }: WayQuestion): Promise<NextHop> {
  const query = new URLSearchParams({
    ...{ to, tos: String(tos), ...(from === null ? {} : { from }) },
    ...(ifindex === null ? {} : { ifindex: String(ifindex) }),
  })
  const { value } = await get(socket, `/v1/next-hop?${query}`, nextHopAnswer)
  return nextHopOf(value)
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

const COUNT_MAX = 100_000

async function explainPacket(
  desk: Desk,
  wanted: PacketInWords,
  options: ExplainOptions,
  colours: boolean,
  write: Write,
): Promise<void> {
  const count = options.count === undefined ? 1 : numberOf('--count', options.count, COUNT_MAX)
  const ifindex = await desk.interfaceOf(options.interface, wanted)
  const frameFrom = (port: number): Uint8Array =>
    frameOf({ ...wanted, from: { ...wanted.from, port } }, desk.macOf(ifindex))
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
