/** `pointsman record`: packets as they come and as they leave, into a capture. */
import { open } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { StatisticsReader } from '../../net/packet/pcapng.ts'
import { parsePrefix, prefixText } from '../../net/prefix.ts'
import { ClientError, call, postBytes } from '../front/api/client.ts'
import { findService } from './service-name.ts'
import { systemWords } from './text.ts'

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
  if (words.write === '-' && process.stdout.isTTY === true) {
    throw new ClientError('Cannot write packets to a terminal: name a file, or pipe it: -w - | tshark -r -')
  }
  const body = await bodyOf(socket, words)
  const pieces = postBytes(socket, '/v1/recording', body)
  // The first piece is there as soon as packets are recorded.
  const first = await pieces.next()
  const file = await CaptureFile.open(words.write)
  const reader = new StatisticsReader()
  let calls = 0
  const callOff = (): void => {
    if (calls++ > 0) process.exit(1)
    call(socket, 'DELETE', '/v1/recording').catch(() => {})
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, callOff)
  if (words.write !== '-') say(`recording into ${words.write}; Ctrl-C ends it`)
  try {
    for (let piece = first; piece.done !== true; piece = await pieces.next()) {
      reader.push(piece.value)
      await file.write(piece.value)
    }
  } catch (error) {
    if (!isCut(error)) throw error
  } finally {
    file.close()
  }
  const { statistics } = reader
  if (statistics === null) {
    throw new ClientError(`The daemon has gone in the midst of it: ${file.kept}`)
  }
  const { received, lost, comment } = statistics
  say(`${received} packets recorded, ${lost} lost; ended: ${comment}`)
}

/** Where the capture goes. Whoever takes it slowly is waited for: meanwhile the daemon counts what is lost. */
class CaptureFile {
  readonly #name: string
  readonly #stream: Writable
  #bytes = 0

  /** `-`: standard output. What clients send is in it, so a file is for its owner only, also one that was there. */
  static async open(path: string): Promise<CaptureFile> {
    if (path === '-') return new CaptureFile('standard output', process.stdout)
    try {
      const handle = await open(path, 'w', 0o600)
      if ((await handle.stat()).isFile()) await handle.chmod(0o600)
      const stream = handle.createWriteStream()
      // Each write says it by itself.
      stream.on('error', () => {})
      return new CaptureFile(path, stream)
    } catch (error) {
      throw refused(path, error as NodeJS.ErrnoException, 'nothing was recorded')
    }
  }

  private constructor(name: string, stream: Writable) {
    this.#name = name
    this.#stream = stream
  }

  /** All that was written is in it. */
  close(): void {
    if (this.#stream !== process.stdout) this.#stream.destroy()
  }

  /** What is left of it when it cannot go on. */
  get kept(): string {
    return this.#bytes > 0 ? 'what was recorded until then is kept' : 'nothing was recorded'
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#stream.write(bytes, (error) => {
        this.#bytes += error ? 0 : bytes.length
        if (error) reject(refused(this.#name, error, this.kept))
        else resolve()
      })
    })
  }
}

function refused(name: string, error: NodeJS.ErrnoException, kept: string): ClientError {
  const remedy =
    error.code === 'ENOSPC' ? '; end it sooner (--limit), or keep less of each frame (--snap)' : ''
  return new ClientError(`Cannot write into ${name}: ${systemWords(error)}; ${kept}${remedy}`, {
    cause: error,
  })
}

function isCut(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ECONNRESET'
}
