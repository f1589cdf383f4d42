/** What the API is made of: routes that take checked values and give answers. */
import type { IncomingHttpHeaders } from 'node:http'
import { z } from 'zod'
import type { RecordingWanted } from '../../../dataplane/recording.ts'
import type { NextHop } from '../../../linux/netlink/next-hop.ts'
import type { IpAddress } from '../../../net/address.ts'
import type { CheckedService } from '../../health/health.ts'
import type { Director } from '../../model/director.ts'
import type { Journal } from '../../model/journal.ts'
import type { Errno, Outcome } from '../../model/outcome.ts'
import type { ServiceId } from '../../model/service.ts'
import type { Sources } from '../../source/sources.ts'
import type { ExplainAsked, Explanation } from './schema/explanation.ts'
import type { History } from './schema/history.ts'
import type { Overview, OverviewAsked } from './schema/overview.ts'
import type { Status } from './schema/status.ts'

/** What is known of health; without checks nothing. */
export interface HealthView {
  state(): readonly CheckedService[]
}

/** How metrics are written: Prometheus' text 0.0.4, or OpenMetrics 1.0. */
export type MetricsFormat = 'text' | 'openmetrics'
/** How finely: by service, or by real server too. */
export const METRICS_DETAILS = ['service', 'real-server'] as const
export type MetricsDetail = (typeof METRICS_DETAILS)[number]

/** A packet that wants to go on, or no more than where it wants to go. */
export interface HopAsked {
  readonly to: IpAddress
  readonly from: IpAddress | null
  /** The receiving interface; null: whatever it is. */
  readonly ifindex: number | null
  readonly tos: number
}

/** A recording of packets as it is asked for; null: without that limit. */
export interface CaptureAsked {
  readonly wanted: RecordingWanted
  /** Of packets whose connection says which service it is of, those of this one; null: of any. */
  readonly markService: string | null
  readonly packets: number | null
  readonly bytes: number | null
  readonly seconds: number | null
  /** How it was asked for. */
  readonly words: string
}

/** A packet's way; or why it is not told: the packet makes no sense, or it cannot be had now. */
export type ExplainAnswer =
  | { readonly explanation: Explanation }
  | { readonly refused: string }
  | { readonly busy: string }

export interface Capture {
  /**
   * Begins to tell; `write` says how much its reader has not taken yet.
   * @returns the way to call it off
   */
  follow(write: (bytes: Uint8Array) => number, close: () => void): () => void
}

/** What the routes work on. */
export interface ApiContext {
  readonly director: Director
  readonly health: HealthView
  readonly journal: Pick<Journal, 'add' | 'since' | 'follow'>
  /** What states whole sets of services. */
  readonly sources: Sources
  status(): Status
  verdicts(): ReadonlyMap<string, bigint>
  /** All that is measured; null: so many ask for it that one more has to come again. */
  metrics(format: MetricsFormat, detail: MetricsDetail | null): AsyncIterable<Uint8Array> | null
  /** The last hour; a service's changes of health, too. */
  history(service: string | null): History
  /** The director at a glance. */
  overview(asked: OverviewAsked): Promise<Overview>
  /** The maps at this moment, and the next hops of real servers if they are wanted; null without a data plane. */
  snapshot(withHops: boolean): AsyncIterable<Uint8Array> | null
  /** What would become of a packet; null without a data plane. */
  explain(asked: ExplainAsked, signal: AbortSignal): Promise<ExplainAnswer | null>
  /** The kernel's way to an address; nothing changes by asking. */
  nextHop(question: HopAsked): NextHop
  /** Records packets; throws `MachineError` where that is not possible. */
  record(asked: CaptureAsked, ended: (words: string) => void): Promise<Capture>
  /** Ends the recording that goes on; whether there was one. */
  endRecording(why: string): Promise<boolean>
  /** Carries on with another data plane; rules, connections and counters go along. */
  changePlane(kind: 'xdp' | 'tc' | 'userspace'): Promise<void>
  /** Takes the packet program off; the daemon ends after the answer. */
  detach(): Promise<void>
}

export type Answer =
  | { readonly status: number; readonly json?: unknown }
  /**
   * A document in pieces, for what may be larger than memory should hold twice: JSON unless the headers say
   * otherwise. One that makes its pieces in its own time makes them as large as they are to be sent.
   */
  | {
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
      readonly pieces: Iterable<string> | AsyncIterable<string | Uint8Array>
    }
  | {
      readonly status: number
      readonly headers: Readonly<Record<string, string | number>>
      readonly bytes: Buffer
    }
  | {
      readonly status: number
      readonly headers: Readonly<Record<string, string>>
      /**
       * What comes in its own time, until it closes by itself or is called off by what this returns. `write` says
       * how many bytes the client has not taken yet: of one that takes too little it is called off.
       */
      readonly follow: (write: (piece: string | Uint8Array) => number, close: () => void) => () => void
    }

/** A complete request. */
export interface Asked {
  readonly params: Readonly<Record<string, string>>
  readonly query: Readonly<Record<string, string>>
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  /** Nobody waits for the answer any more, or somebody waits for this to end. */
  readonly signal: AbortSignal
}

export type Method = 'GET' | 'PUT' | 'POST' | 'DELETE'

/** What the server needs to know of a route. */
export interface Endpoint {
  readonly method: Method
  /** In the manner of OpenAPI: `/v1/sysctls/{name}`. */
  readonly path: string
  /** Bytes of a request's body. */
  readonly bodyMax: number
  /** Nothing else goes on meanwhile; refused while another such thing does. */
  readonly alone: boolean
  handle(context: ApiContext, asked: Asked): Promise<Answer> | Answer
}

export interface Documented {
  readonly description: string
  /** None: the answer has no body. */
  readonly schema?: z.ZodType
}

/** An endpoint that speaks JSON, with all that the OpenAPI document says of it. */
export interface Route extends Endpoint {
  readonly summary: string
  readonly params?: z.ZodObject
  readonly query?: z.ZodObject
  readonly body?: z.ZodType
  /** Besides refusals. */
  readonly answers: Readonly<Record<number, Documented>>
}

const nothing = z.object({})
type Nothing = typeof nothing
/** Clients may send an empty object where nothing is wanted; more would be ignored without a word. */
const noBody = z.strictObject({})

interface Typed<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType> {
  readonly method: Method
  readonly path: string
  readonly summary: string
  readonly params?: P
  readonly query?: Q
  readonly body?: B
  readonly answers: Route['answers']
  readonly alone?: true
  handle(
    context: ApiContext,
    input: { params: z.output<P>; query: z.output<Q>; body: z.output<B>; signal: AbortSignal },
  ): Promise<Answer> | Answer
}

/** A service of 10,000 real servers is about one megabyte. */
const BODY_MAX = 64 * 1024 * 1024
/** Room to say what is wrong with it. */
const NO_BODY_MAX = 4096

/** Everything that comes from outside is parsed once, here; the handler gets the values. */
export function route<
  P extends z.ZodObject = Nothing,
  Q extends z.ZodObject = Nothing,
  B extends z.ZodType = Nothing,
>(typed: Typed<P, Q, B>): Route {
  const { handle, alone = false, ...described } = typed
  return {
    ...described,
    alone,
    bodyMax: typed.body === undefined ? NO_BODY_MAX : BODY_MAX,
    handle: (context, asked) => {
      const params = (typed.params ?? nothing).safeParse(asked.params)
      const query = (typed.query ?? nothing).safeParse(asked.query)
      const json = parseJson(asked.body)
      if ('problem' in json) return invalid([json.problem])
      const body = (typed.body ?? noBody).safeParse(json.value)
      if (!params.success || !query.success || !body.success) {
        return invalid([
          ...problemsOf(params, asked.params, 'params'),
          ...problemsOf(query, asked.query, 'query'),
          ...problemsOf(body, json.value, 'body'),
        ])
      }
      return handle(context, {
        params: params.data as z.output<P>,
        query: query.data as z.output<Q>,
        body: body.data as z.output<B>,
        signal: asked.signal,
      })
    },
  }
}

/** What is wrong with a request: where, and what. */
export interface Problem {
  readonly path: string
  readonly message: string
}

/** More would bury the first; a list of 100,000 real servers can be wrong in every line. */
const PROBLEMS_MAX = 100

function parseJson(body: Buffer): { readonly value: unknown } | { readonly problem: Problem } {
  if (body.length === 0) return { value: {} }
  try {
    return { value: JSON.parse(body.toString()) }
  } catch (error) {
    const message = `Cannot parse the body as JSON: ${error instanceof Error ? error.message : error}`
    return { problem: { path: 'body', message } }
  }
}

function problemsOf(result: z.ZodSafeParseResult<unknown>, input: unknown, where: string): Problem[] {
  if (result.success) return []
  return result.error.issues.slice(0, PROBLEMS_MAX).flatMap((issue) => {
    const unknown = issue.code === 'unrecognized_keys'
    const paths = unknown ? issue.keys.map((key) => [...issue.path, key]) : [issue.path]
    return paths.map((path) => {
      const value = valueAt(input, path)
      const what = unknown ? 'Unknown field' : issue.message
      return {
        path: [where, ...path.map(String)].join('.'),
        message: value === undefined ? what : `${what}, got ${value}`,
      }
    })
  })
}

/** The value a problem is about, as JSON; undefined where there is none. */
function valueAt(input: unknown, path: readonly PropertyKey[]): string | undefined {
  let value: unknown = input
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined
    value = Reflect.get(value, key)
  }
  return value === undefined ? undefined : JSON.stringify(value)
}

/** The first problem is the error; all of them are told. */
export function invalid(problems: readonly Problem[], status = 400): Answer {
  const [first = { path: 'body', message: 'Invalid' }] = problems
  return { status, json: { error: first, errors: problems } }
}

/** IPVS's refusals as HTTP statuses. */
const STATUS: Readonly<Record<Errno, number>> = {
  EPERM: 403,
  ENOENT: 404,
  ESRCH: 404,
  EEXIST: 409,
  EBUSY: 409,
  ENOTSUP: 422,
  EINVAL: 422,
  ERANGE: 422,
  ENODEV: 422,
  EAFNOSUPPORT: 422,
  ENOPROTOOPT: 422,
  EOPNOTSUPP: 422,
  EMSGSIZE: 413,
  ENOMEM: 507,
  ENOSPC: 507,
}

export function refusal(path: string, outcome: Outcome<unknown> & { ok: false }): Answer {
  const { errno, message } = outcome
  return { status: STATUS[errno], json: { error: { path, message, errno } } }
}

/**
 * The change is in force when the answer goes out.
 * @param own services it is about: others that cannot be brought in force are not its affair
 */
export async function settled(
  context: ApiContext,
  path: string,
  outcome: Outcome<unknown>,
  answer: () => Answer,
  own: readonly ServiceId[] = [],
): Promise<Answer> {
  if (!outcome.ok) return refusal(path, outcome)
  await context.director.settle(own)
  return answer()
}

export const noContent = (): Answer => ({ status: 204 })
