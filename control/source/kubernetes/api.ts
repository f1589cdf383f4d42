/** One cluster's API server: lists, watches, and patches. */
import { readFileSync } from 'node:fs'
import { HttpEndpoints, TooLargeError } from '../../registry/http.ts'
import { type Json, objectOf } from '../../registry/json.ts'
import type { Follower, Heard } from '../../registry/registry.ts'
import { metaOf } from './objects.ts'
import type { KubernetesSettings } from './settings.ts'

const PAGE = 500
const LIST_MS = 30_000
const PATCH_MS = 10_000
/** The server ends a watch by itself after so long, which shows that it is there; */
const WATCH_S = 290
/** one that has not by then has fallen silent. */
const SILENT_MS = (WATCH_S + 30) * 1000
/** One that ends sooner, with nothing told, is none. */
const SHORT_MS = 1000

export class KubeError extends Error {
  readonly status: number

  constructor(message: string, status: number) {
    super(message)
    this.status = status
  }
}

export class KubeApi {
  readonly #settings: KubernetesSettings
  readonly endpoints: HttpEndpoints

  constructor(settings: KubernetesSettings) {
    this.#settings = settings
    const { api, ca, cert, key } = settings
    this.endpoints = new HttpEndpoints([api], { ca, cert, key, serverName: null, verify: true })
  }

  close(): void {
    this.endpoints.close()
  }

  async list(
    path: string,
    signal: AbortSignal,
  ): Promise<{ items: readonly Json[]; resourceVersion: string }> {
    const items: Json[] = []
    let next = ''
    let limit = PAGE
    for (;;) {
      const query = new URLSearchParams({ limit: String(limit), ...(next === '' ? {} : { continue: next }) })
      try {
        const page = await this.#json('GET', `${path}?${query}`, undefined, LIST_MS, signal)
        const meta = objectOf(page.metadata)
        // Whoever answers in its place, a proxy or a page of maintenance, knows of no Service at all.
        if (!Array.isArray(page.items) || typeof meta.resourceVersion !== 'string') {
          throw new Error(`${this.endpoints.url}${path} answers something else than Kubernetes does: no list`)
        }
        for (const item of page.items) items.push(objectOf(item))
        next = typeof meta.continue === 'string' ? meta.continue : ''
        if (next === '') return { items, resourceVersion: meta.resourceVersion }
      } catch (error) {
        if (!(error instanceof TooLargeError) || limit === 1) throw error
        limit = Math.max(1, Math.floor(limit / 8))
      }
    }
  }

  /** @yields events as they come: type and object */
  async *watch(path: string, resourceVersion: string, signal: AbortSignal): AsyncGenerator<Json> {
    const query = new URLSearchParams({
      watch: 'true',
      allowWatchBookmarks: 'true',
      timeoutSeconds: String(WATCH_S),
      resourceVersion,
    })
    const request = {
      ...({ method: 'GET', path: `${path}?${query}`, headers: this.#headers(), timeoutMs: LIST_MS } as const),
      signal,
    } as const
    const refused = (status: number, body: string): Error => this.#refusal(path, status, body)
    for await (const line of this.endpoints.lines(request, SILENT_MS, refused)) {
      let event: unknown
      try {
        event = JSON.parse(line)
      } catch {
        throw new Error(
          `${this.endpoints.url} answers something else than Kubernetes does: ${line.slice(0, 60)}`,
        )
      }
      const { type, object, code, message } = objectOf(event)
      // What is refused is a Status, not an event.
      if (type === undefined)
        throw new KubeError(`${this.endpoints.url}: ${message ?? code}`, Number(code ?? 0))
      yield { type, object }
    }
  }

  async patch(path: string, body: object): Promise<void> {
    await this.#json('PATCH', path, JSON.stringify(body), PATCH_MS)
  }

  #headers(): Record<string, string> {
    const { tokenFile } = this.#settings
    return tokenFile === null ? {} : { authorization: `Bearer ${readFileSync(tokenFile, 'utf8').trim()}` }
  }

  async #json(
    method: 'GET' | 'PATCH',
    path: string,
    body: string | undefined,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<Json> {
    const answer = await this.endpoints.ask({
      ...{ method, path, timeoutMs },
      headers: {
        ...this.#headers(),
        ...(body === undefined ? {} : { 'content-type': 'application/merge-patch+json' }),
      },
      ...(body === undefined ? {} : { body }),
      ...(signal === undefined ? {} : { signal }),
    })
    if (answer.status < 200 || answer.status > 299) throw this.#refusal(path, answer.status, answer.body)
    return statusOf(answer.body)
  }

  /** In the API server's words, or in those of whoever has answered in its place. */
  #refusal(path: string, status: number, body: string): KubeError {
    const words = statusOf(body).message ?? body.trim().slice(0, 200)
    return new KubeError(
      `${this.endpoints.url}${path.replace(/\?.*/, '')}: HTTP status ${status}: ${words}`,
      status,
    )
  }
}

/** All objects of one kind: listed, then watched from there, listed anew only when the server has forgotten. */
export class KubeFollower<T> implements Follower<T> {
  readonly #api: KubeApi
  readonly #path: string
  readonly #read: (object: Json) => T
  #version: string | null = null

  constructor(api: KubeApi, path: string, read: (object: Json) => T) {
    this.#api = api
    this.#path = path
    this.#read = read
  }

  async attempt(report: (heard: Heard<T>) => void, signal: AbortSignal): Promise<never> {
    try {
      if (this.#version === null) {
        const { items, resourceVersion } = await this.#api.list(this.#path, signal)
        report({ kind: 'whole', entries: new Map(items.map((item) => [keyOf(item), this.#read(item)])) })
        this.#version = resourceVersion
      }
      for (;;) {
        const began = performance.now()
        let told = false
        for await (const { type, object } of this.#api.watch(this.#path, this.#version, signal)) {
          told = true
          this.#take(String(type), objectOf(object), report)
        }
        signal.throwIfAborted()
        // It would be asked again and again without a pause.
        if (!told && performance.now() - began < SHORT_MS) {
          throw new Error(`${this.#api.endpoints.url}${this.#path}: the watch has ended as soon as it began`)
        }
        // Its time was up: that is how watches end.
        report({ kind: 'current' })
      }
    } catch (error) {
      if (error instanceof KubeError && error.status === 410) this.#version = null
      throw error
    }
  }

  #take(type: string, object: Json, report: (heard: Heard<T>) => void): void {
    if (type === 'ERROR') {
      const { code, message } = object
      throw new KubeError(
        `${this.#api.endpoints.url}: ${String(message ?? 'the watch has failed')}`,
        Number(code ?? 0),
      )
    }
    this.#version = metaOf(object).resourceVersion || this.#version
    if (type === 'BOOKMARK') report({ kind: 'current' })
    else {
      const gone = type === 'DELETED'
      report({ kind: 'changes', changes: new Map([[keyOf(object), gone ? null : this.#read(object)]]) })
    }
  }
}

function statusOf(body: string): Json {
  try {
    return objectOf(JSON.parse(body))
  } catch {
    return {}
  }
}

function keyOf(object: Json): string {
  const { namespace, name } = metaOf(object)
  return `${namespace}/${name}`
}
