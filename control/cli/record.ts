/** `pointsman record`: packets as they come and as they leave, into a capture. */
import { closeSync, openSync, writeSync } from 'node:fs'
import { StatisticsReader } from '../../net/packet/pcapng.ts'
import { parsePrefix, prefixText } from '../../net/prefix.ts'
import { ClientError, call, postBytes } from '../front/api/client.ts'
import { findService } from './service-name.ts'

export interface RecordWords {
  readonly write: string
  readonly service?: string
  readonly client?: string
  readonly verdict?: readonly string[]
  readonly snap?: string
  readonly sample?: string
  readonly limit?: readonly string[]
}

type Say = (notice: string) => void

const UNITS: ReadonlyMap<string, readonly [field: 'packets' | 'bytes' | 'seconds', factor: number]> = new Map(
  [
    ['', ['packets', 1]],
    ['kB', ['bytes', 1000]],
    ['MB', ['bytes', 1_000_000]],
    ['GB', ['bytes', 1_000_000_000]],
    ['s', ['seconds', 1]],
    ['m', ['seconds', 60]],
    ['h', ['seconds', 3600]],
  ],
)

/** `1000` packets, `10MB`, `30s`. */
export function readLimit(text: string): Readonly<Record<string, number>> {
  const match = /^([1-9]\d{0,11})(kB|MB|GB|s|m|h|)$/.exec(text)
  const unit = UNITS.get(match?.[2] ?? 'none')
  if (match === null || unit === undefined) {
    throw new ClientError(
      `Cannot end at "${text}": expected packets (1000), bytes (10MB) or a time (30s, 5m)`,
    )
  }
  return { [unit[0]]: Number(match[1]) * unit[1] }
}

function whole(text: string, what: string, wanted: RegExp): number {
  const match = wanted.exec(text)
  if (match === null) throw new ClientError(`Cannot read ${what} "${text}"`)
  return Number(match[1])
}

async function bodyOf(socket: string, words: RecordWords): Promise<object> {
  const { service: name, client, verdict, snap, sample, limit = [] } = words
  const prefix = client === undefined ? null : parsePrefix(client)
  if (typeof prefix === 'string') throw new ClientError(prefix)
  const service = name === undefined ? null : (await findService(socket, name)).service
  return {
    ...(service === null ? {} : { service: serviceOf(service) }),
    ...(prefix === null ? {} : { client: prefixText(prefix) }),
    ...(verdict === undefined ? {} : { verdicts: verdict.flatMap((text) => text.split(',')) }),
    ...(snap === undefined ? {} : { snap: whole(snap, 'the bytes of a frame', /^(\d{1,6})$/) }),
    ...(sample === undefined ? {} : { sample: whole(sample, 'a share of packets', /^1\/([1-9]\d{0,6})$/) }),
    ...Object.assign({}, ...limit.map(readLimit)),
  }
}

function serviceOf({
  protocol,
  address,
  port,
  fwmark,
  family,
}: Awaited<ReturnType<typeof findService>>['service']) {
  return fwmark === undefined ? { protocol, address, port } : { fwmark, family }
}

/** Until a limit, Ctrl-C, or the daemon's end. */
export async function record(socket: string, words: RecordWords, say: Say): Promise<void> {
  const body = await bodyOf(socket, words)
  const pieces = postBytes(socket, '/v1/recording', body)
  // The first piece is there as soon as packets are recorded.
  const first = await pieces.next()
  const file = words.write === '-' ? 1 : openSync(words.write, 'w', 0o600)
  const reader = new StatisticsReader()
  let calls = 0
  const callOff = (): void => {
    if (calls++ > 0) process.exit(1)
    call(socket, 'DELETE', '/v1/recording').catch(() => {})
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, callOff)
  try {
    if (words.write !== '-') say(`recording into ${words.write}; Ctrl-C ends it`)
    for (let piece = first; piece.done !== true; piece = await pieces.next()) {
      reader.push(piece.value)
      put(file, piece.value)
    }
  } catch (error) {
    if (!isCut(error)) throw error
  } finally {
    if (file !== 1) closeSync(file)
  }
  const { statistics } = reader
  if (statistics === null) {
    throw new ClientError(
      'The daemon has gone in the midst of it: what was recorded until then is in the file',
    )
  }
  const { received, lost, comment } = statistics
  say(`${received} packets recorded, ${lost} lost; ended: ${comment}`)
}

function put(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at)
}

function isCut(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ECONNRESET'
}
