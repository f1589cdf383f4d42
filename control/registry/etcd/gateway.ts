/**
 * etcd v3 by the JSON gateway that every server has beside gRPC: POST and JSON, keys and values in base64,
 * numbers as texts.
 */
import type { RegistryAddress } from '../../model/pool.ts'
import { HttpEndpoints } from '../http.ts'
import { type Json, listOf, objectOf } from '../json.ts'
import { passwordOf } from '../tls.ts'

export interface KeyValue {
  readonly key: string
  readonly value: string
  readonly modRevision: number
  /** 0: none. */
  readonly lease: string
}

export interface RangeAnswer {
  readonly revision: number
  readonly kvs: readonly KeyValue[]
  readonly more: boolean
  readonly count: number
}

export interface RangeRequest {
  readonly key: string
  /** All keys that begin with it. */
  readonly prefix?: boolean
  /** Of the prefix, those from here on. */
  readonly from?: string
  readonly limit?: number
  readonly revision?: number
  readonly countOnly?: boolean
}

export type WatchEvent = { readonly key: string; readonly value: string | null; readonly modRevision: number }

export interface WatchAnswer {
  readonly revision: number
  readonly events: readonly WatchEvent[]
  readonly created: boolean
  /** Why the server ends it; null: it does not. */
  readonly cancelled: string | null
  /** What was asked for is no longer kept: it has to be listed anew. */
  readonly compacted: boolean
}

export class EtcdError extends Error {
  readonly code: number

  constructor(message: string, code: number) {
    super(message)
    this.code = code
  }
}

/** gRPC's UNAUTHENTICATED and NOT_FOUND. */
export const UNAUTHENTICATED = 16
export const NOT_FOUND = 5
const TIMEOUT_MS = 3000
/** Of an answer that nobody here understands. */
const SHOWN_MAX = 200

export const encode = (text: string): string => Buffer.from(text).toString('base64')
const decode = (text: unknown): string =>
  typeof text === 'string' ? Buffer.from(text, 'base64').toString() : ''
const numberOf = (text: unknown): number => (text === undefined ? 0 : Number(text))

/** The first key behind all that begin with the prefix. */
export function rangeEnd(prefix: string): string {
  const bytes = Buffer.from(prefix)
  for (let last = bytes.length - 1; last >= 0; last--) {
    if (bytes[last]! < 0xff) {
      bytes[last]!++
      return bytes.subarray(0, last + 1).toString('base64')
    }
  }
  return Buffer.from([0]).toString('base64')
}

function keyValue(kv: Json): KeyValue {
  return {
    key: decode(kv.key),
    value: decode(kv.value),
    modRevision: numberOf(kv.mod_revision),
    lease: String(kv.lease ?? '0'),
  }
}

/** For transactions: what has to be so, and what is done then. */
export interface Transaction {
  /** Last changes of keys; 0: there is none. */
  readonly if: readonly { readonly key: string; readonly modRevision: number }[]
  readonly put: readonly { readonly key: string; readonly value: string; readonly lease?: string }[]
}

export class EtcdGateway {
  readonly #address: RegistryAddress
  readonly endpoints: HttpEndpoints
  #token: string | null = null

  constructor(address: RegistryAddress) {
    this.#address = address
    this.endpoints = new HttpEndpoints(address.endpoints, address.tls)
  }

  close(): void {
    this.endpoints.close()
  }

  /** The next question goes to another server. */
  next(): void {
    this.endpoints.next()
    this.#token = null
  }

  async range(request: RangeRequest, signal?: AbortSignal): Promise<RangeAnswer> {
    const { key, prefix = false, from, limit, revision, countOnly } = request
    const body = {
      key: encode(from ?? key),
      ...(prefix ? { range_end: rangeEnd(key) } : {}),
      ...(limit === undefined ? {} : { limit: String(limit) }),
      ...(revision === undefined ? {} : { revision: String(revision) }),
      ...(countOnly === true ? { count_only: true } : {}),
    }
    const answer = await this.#ask('/v3/kv/range', body, signal)
    return {
      revision: numberOf(objectOf(answer.header).revision),
      kvs: listOf(answer.kvs).map(keyValue),
      more: answer.more === true,
      count: numberOf(answer.count),
    }
  }

  async put(key: string, value: string, lease = '0'): Promise<void> {
    await this.#ask('/v3/kv/put', { key: encode(key), value: encode(value), lease })
  }

  async remove(key: string): Promise<void> {
    await this.#ask('/v3/kv/deleterange', { key: encode(key) })
  }

  /** Whether it was done. */
  async transact({ if: conditions, put }: Transaction): Promise<boolean> {
    const answer = await this.#ask('/v3/kv/txn', {
      compare: conditions.map(({ key, modRevision }) => ({
        key: encode(key),
        target: 'MOD',
        result: 'EQUAL',
        mod_revision: String(modRevision),
      })),
      success: put.map(({ key, value, lease }) => ({
        request_put: { key: encode(key), value: encode(value), lease: lease ?? '0' },
      })),
    })
    return answer.succeeded === true
  }

  /** What has changed before is kept no longer. */
  async compact(revision: number): Promise<void> {
    await this.#ask('/v3/kv/compaction', { revision: String(revision), physical: true })
  }

  /** The lease's identity. */
  async grant(seconds: number): Promise<string> {
    const answer = await this.#ask('/v3/lease/grant', { TTL: String(seconds) })
    return String(answer.ID)
  }

  /** Seconds that it has again; 0: there is no such lease any more. */
  async keepAlive(lease: string, signal?: AbortSignal): Promise<number> {
    const answer = await this.#ask('/v3/lease/keepalive', { ID: lease }, signal)
    return numberOf(objectOf(answer.result).TTL)
  }

  async revoke(lease: string): Promise<void> {
    await this.#ask('/v3/lease/revoke', { ID: lease })
  }

  /** @param revision the first one that is of interest */
  async *watch(key: string, revision: number, signal: AbortSignal): AsyncGenerator<WatchAnswer> {
    const create = { key: encode(key), range_end: rangeEnd(key), start_revision: String(revision) }
    const request = {
      method: 'POST',
      path: '/v3/watch',
      headers: await this.#headers(),
      body: JSON.stringify({ create_request: create }),
      timeoutMs: TIMEOUT_MS,
      signal,
    } as const
    const refused = (status: number, body: string): EtcdError => this.#refusal(status, body)
    for await (const line of this.endpoints.lines(request, 0, refused)) {
      const message = parsed(line, this.endpoints.url)
      if (message.error !== undefined) throw this.#failure(objectOf(message.error))
      const result = objectOf(message.result)
      const compacted = numberOf(result.compact_revision) > 0
      yield {
        revision: numberOf(objectOf(result.header).revision),
        events: listOf(result.events).map((event): WatchEvent => {
          const { key: name, value, modRevision } = keyValue(objectOf(event.kv))
          return { key: name, value: event.type === 'DELETE' ? null : value, modRevision }
        }),
        created: result.created === true,
        cancelled: result.canceled === true ? String(result.cancel_reason ?? 'no reason was given') : null,
        compacted,
      }
    }
  }

  async #headers(): Promise<Record<string, string>> {
    const { user } = this.#address
    if (user !== null) this.#token ??= await this.#authenticate(user)
    const json = { 'content-type': 'application/json' }
    return this.#token === null ? json : { ...json, authorization: this.#token }
  }

  async #authenticate(user: string): Promise<string> {
    const body = JSON.stringify({ name: user, password: passwordOf(this.#address) ?? '' })
    const path = '/v3/auth/authenticate'
    const answer = await this.endpoints.ask({ method: 'POST', path, body, timeoutMs: TIMEOUT_MS })
    if (answer.status !== 200) throw this.#refusal(answer.status, answer.body)
    return String(parsed(answer.body, this.endpoints.url).token)
  }

  async #ask(path: string, body: Json, signal?: AbortSignal, again = true): Promise<Json> {
    const answer = await this.endpoints.ask({
      ...{ method: 'POST', path, headers: await this.#headers(), body: JSON.stringify(body) },
      timeoutMs: TIMEOUT_MS,
      ...(signal === undefined ? {} : { signal }),
    })
    if (answer.status === 200) return parsed(answer.body, this.endpoints.url)
    const failure = this.#refusal(answer.status, answer.body)
    // Tokens run out, and are forgotten by a server that was started anew.
    const stale = failure.code === UNAUTHENTICATED && this.#token !== null
    this.#token = null
    if (!stale || !again) throw failure
    return await this.#ask(path, body, signal, false)
  }

  /** In etcd's words, or in those of whoever has answered in its place. */
  #refusal(status: number, body: string): EtcdError {
    let json: Json = {}
    try {
      json = objectOf(JSON.parse(body))
    } catch {
      // It is shown as it is.
    }
    const words = json.message ?? json.error ?? body.trim().slice(0, SHOWN_MAX)
    const text = typeof words === 'string' && words !== '' ? `: ${words}` : ''
    return new EtcdError(`${this.endpoints.url}: HTTP status ${status}${text}`, codeOf(json))
  }

  #failure(json: Json): EtcdError {
    return new EtcdError(`${this.endpoints.url}: ${String(json.message ?? 'it has failed')}`, codeOf(json))
  }
}

function codeOf(json: Json): number {
  return numberOf(json.code ?? json.grpc_code)
}

function parsed(text: string, url: string): Json {
  try {
    return objectOf(JSON.parse(text))
  } catch {
    throw new Error(`${url} answers something else than etcd does: ${JSON.stringify(text.slice(0, 60))}`)
  }
}
