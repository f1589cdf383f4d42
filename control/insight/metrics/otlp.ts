/**
 * Metrics for a receiver that wants them pushed: OTLP/HTTP with the JSON encoding (the protocol's
 * specification, "OTLP/HTTP", and opentelemetry-proto's metrics.proto). What is collected for Prometheus is put
 * into its words as it comes, a request for every few thousand numbers: all of it is never in memory.
 */
import { VERSION } from '../../model/version.ts'

/** OpenTelemetry's own interval of a periodic reader. */
export const PUSH_MS = 60_000
/** As long as its exporters wait for an answer. */
const ANSWER_MS = 10_000
/** Of one request: some 400 kB. */
const POINTS_MAX = 2000
/** Of an answer. */
const SAID_MAX = 16 * 1024
/** Those that the protocol has come again later. */
const LATER: ReadonlySet<number> = new Set([429, 502, 503, 504])
/** AGGREGATION_TEMPORALITY_CUMULATIVE */
const CUMULATIVE = 2
const PATH = '/v1/metrics'

interface Attribute {
  readonly key: string
  readonly value: { readonly stringValue: string }
}

interface Point {
  readonly attributes: readonly Attribute[]
  readonly timeUnixNano: string
  readonly startTimeUnixNano?: string
  readonly asDouble: number
}

interface Metric {
  readonly name: string
  readonly description: string
  readonly points: Point[]
  readonly isCounter: boolean
}

/** Where metrics are pushed to: an address without a path gets the protocol's own. */
export function otlpEndpoint(text: string): URL | null {
  if (!URL.canParse(text)) return null
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return null
  if (url.username !== '' || url.password !== '') return null
  if (url.pathname === '/') url.pathname = PATH
  return url
}

const nanos = (ms: number): string => `${BigInt(Math.round(ms)) * 1_000_000n}`

function unescaped(text: string): string {
  return text.replace(/\\(.)/g, (_, one: string) => (one === 'n' ? '\n' : one))
}

function attributesOf(labels: string): Attribute[] {
  return Array.from(labels.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g), ([, key = '', value = '']) => ({
    key,
    value: { stringValue: unescaped(value) },
  }))
}

/** Bodies of requests, from the text that Prometheus gets. */
export async function* otlpBodies(
  pieces: AsyncIterable<Uint8Array>,
  startedMs: number,
  nowMs: number,
): AsyncGenerator<string> {
  let metrics: Metric[] = []
  let help = ''
  let rest = ''
  let points = 0
  const times = { timeUnixNano: nanos(nowMs) }
  const counted = { ...times, startTimeUnixNano: nanos(startedMs) }
  const decoder = new TextDecoder()
  for await (const piece of pieces) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const told = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line)
      if (told !== null) {
        const [, what, name = '', text = ''] = told
        if (what === 'HELP') help = unescaped(text)
        else metrics.push({ name, description: help, points: [], isCounter: text === 'counter' })
        continue
      }
      const sample = /^[a-z_0-9]+(?:\{(.*)\})? (\S+)$/.exec(line)
      const metric = metrics.at(-1)
      if (sample === null || metric === undefined) continue
      const [, labels = '', value] = sample
      const at = metric.isCounter ? counted : times
      metric.points.push({ attributes: attributesOf(labels), ...at, asDouble: Number(value) })
      if (++points < POINTS_MAX) continue
      yield bodyOf(metrics)
      // The rest of a metric goes with the next request.
      metrics = [{ ...metric, points: [] }]
      points = 0
    }
  }
  if (points > 0) yield bodyOf(metrics)
}

function bodyOf(metrics: readonly Metric[]): string {
  const told = metrics.filter(({ points }) => points.length > 0)
  return JSON.stringify({
    resourceMetrics: [
      {
        resource: {
          attributes: [
            { key: 'service.name', value: { stringValue: 'pointsmand' } },
            { key: 'service.version', value: { stringValue: VERSION } },
          ],
        },
        scopeMetrics: [
          {
            scope: { name: 'pointsman', version: VERSION },
            metrics: told.map(({ name, description, points: dataPoints, isCounter }) => ({
              ...{ name, description },
              ...(isCounter
                ? { sum: { aggregationTemporality: CUMULATIVE, isMonotonic: true, dataPoints } }
                : { gauge: { dataPoints } }),
            })),
          },
        ],
      },
    ],
  })
}

export interface PushOptions {
  readonly url: URL
  /** With every request. */
  readonly headers: ReadonlyMap<string, string>
  readonly startedMs: number
  readonly wallMs: () => number
  /** null: so many ask that one more has to come again. */
  readonly collect: () => AsyncIterable<Uint8Array> | null
  /** Told when it fails that did not, and when it works again. */
  readonly told: (words: string, isBad: boolean) => void
}

/** What has become of pushes since the daemon started. */
export interface Pushed {
  readonly whole: number
  readonly failed: number
  /** Numbers that a receiver did not want, of what it took. */
  readonly refused: number
}

export class OtlpPush {
  readonly #options: PushOptions
  readonly #over = new AbortController()
  #isPushing = false
  /** Why the last one failed; null: it did not. */
  #trouble: string | null = null
  #notBeforeMs = 0
  #pushed: Pushed = { whole: 0, failed: 0, refused: 0 }

  get pushed(): Pushed {
    return this.#pushed
  }

  constructor(options: PushOptions) {
    this.#options = options
  }

  /** Called every `PUSH_MS`. Nothing is kept for later: the next numbers say all that these would. */
  async push(): Promise<void> {
    const { collect, wallMs, startedMs, told, url } = this.#options
    if (this.#isPushing || this.#over.signal.aborted || wallMs() < this.#notBeforeMs) return
    const pieces = collect()
    if (pieces === null) return
    this.#isPushing = true
    let trouble: string | null = null
    try {
      for await (const body of otlpBodies(pieces, startedMs, wallMs())) {
        trouble = await this.#post(body)
        if (trouble !== null) break
      }
    } finally {
      this.#isPushing = false
    }
    if (this.#over.signal.aborted) return
    const { whole, failed } = this.#pushed
    this.#pushed = { ...this.#pushed, ...(trouble === null ? { whole: whole + 1 } : { failed: failed + 1 }) }
    if (trouble !== null && trouble !== this.#trouble)
      told(`Cannot push metrics to ${url.href}: ${trouble}; tried again every ${PUSH_MS / 1000} s`, true)
    if (trouble === null && this.#trouble !== null) told(`Metrics are pushed to ${url.href} again`, false)
    this.#trouble = trouble
  }

  close(): void {
    this.#over.abort()
  }

  /** What went wrong, in words. */
  async #post(body: string): Promise<string | null> {
    const { url, wallMs, headers } = this.#options
    try {
      const answer = await fetch(url, {
        ...{ method: 'POST', redirect: 'error', body },
        headers: {
          ...Object.fromEntries(headers),
          ...{ 'content-type': 'application/json', 'user-agent': `pointsman/${VERSION}` },
        },
        signal: AbortSignal.any([this.#over.signal, AbortSignal.timeout(ANSWER_MS)]),
      })
      const said = await beginning(answer)
      if (answer.ok) {
        const refused = refusedOf(said)
        this.#pushed = { ...this.#pushed, refused: this.#pushed.refused + (refused?.points ?? 0) }
        return refused === null ? null : `it refused ${refused.points} of the numbers: ${refused.why}`
      }
      const after = Number(answer.headers.get('retry-after'))
      if (LATER.has(answer.status) && after > 0) this.#notBeforeMs = wallMs() + Math.min(after, 3600) * 1000
      return `it answered ${answer.status} ${said.replaceAll(/\s+/g, ' ').slice(0, 200)}`.trim()
    } catch (error) {
      if (!(error instanceof Error)) throw error
      if (error.name === 'TimeoutError') return `no answer within ${ANSWER_MS / 1000} s`
      return error.cause instanceof Error ? error.cause.message : error.message
    }
  }
}

/** Whoever answers may say more than anybody wants to hear. */
async function beginning({ body }: Response): Promise<string> {
  if (body === null) return ''
  const reader = body.getReader()
  const parts: Uint8Array[] = []
  for (let length = 0; length < SAID_MAX; ) {
    const { value, done } = await reader.read()
    if (done) break
    const part: Uint8Array = value
    parts.push(part)
    length += part.length
  }
  await reader.cancel()
  return Buffer.concat(parts).subarray(0, SAID_MAX).toString()
}

/** A receiver that took some of it says so in an answer of success. */
function refusedOf(said: string): { readonly points: number; readonly why: string } | null {
  let answer: unknown
  try {
    answer = JSON.parse(said === '' ? '{}' : said)
  } catch {
    return null
  }
  if (typeof answer !== 'object' || answer === null) return null
  const partial: unknown = Reflect.get(answer, 'partialSuccess')
  if (typeof partial !== 'object' || partial === null) return null
  const points = Number(Reflect.get(partial, 'rejectedDataPoints') ?? 0)
  if (!(points > 0 && points <= Number.MAX_SAFE_INTEGER)) return null
  return { points, why: String(Reflect.get(partial, 'errorMessage') ?? '').slice(0, 200) }
}
