/**
 * An API server of tests, with the semantics of real watches: one counter of versions, lists in pages of one
 * version, watches that begin anywhere in the history that is still kept, bookmarks, 410 as status and as event,
 * merge patches that mind versions, finalizers that keep what is deleted.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { inNetns } from '../../../../linux/netns.ts'

type Json = Record<string, unknown>
export type KubeObject = Json & { metadata: Json }

interface Change {
  readonly version: number
  readonly path: string
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly object: KubeObject
}

const COLLECTIONS = {
  services: '/api/v1/services',
  endpointslices: '/apis/discovery.k8s.io/v1/endpointslices',
  nodes: '/api/v1/nodes',
} as const
export type Collection = keyof typeof COLLECTIONS

export class ApiServer {
  readonly #server: Server
  readonly #objects = new Map<string, Map<string, KubeObject>>()
  #history: Change[] = []
  #version = 1000
  /** Before this one nothing is kept. */
  #compacted = 0
  readonly #watches = new Set<{ readonly path: string; readonly response: ServerResponse }>()
  token = 'first'
  /** Each page of a list takes so long. */
  listMs = 0
  lists = 0
  readonly problems: string[] = []

  constructor() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        // A client that was killed in the middle of a word, or was cut off by us, is no problem.
        if (request.complete) this.problems.push(String(error))
        response.destroy()
      })
    })
    for (const path of Object.values(COLLECTIONS)) this.#objects.set(path, new Map())
  }

  /** @param network path of the network namespace that it listens in; this one, unless said */
  async start(network?: string): Promise<void> {
    if (network === undefined) this.#server.listen(0, '127.0.0.1')
    // Without a name to look up the socket is there at once.
    else inNetns(network, () => this.#server.listen(0))
    await once(this.#server, 'listening')
  }

  get url(): string {
    const address = this.#server.address()
    return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  }

  async stop(): Promise<void> {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  get(collection: Collection, key: string): KubeObject | undefined {
    return this.#objects.get(COLLECTIONS[collection])?.get(key)
  }

  put(collection: Collection, object: KubeObject): void {
    this.#put(COLLECTIONS[collection], structuredClone(object))
  }

  remove(collection: Collection, key: string): void {
    const path = COLLECTIONS[collection]
    const object = this.#objects.get(path)?.get(key)
    if (object === undefined) return
    const finalizers = object.metadata.finalizers
    if (Array.isArray(finalizers) && finalizers.length > 0) {
      this.#put(path, {
        ...object,
        metadata: { ...object.metadata, deletionTimestamp: new Date().toISOString() },
      })
    } else this.#delete(path, key, object)
  }

  /** Connections of watches break. */
  dropWatches(): void {
    for (const { response } of this.#watches) response.destroy()
    this.#watches.clear()
  }

  /** Watches end as they do when their time is up. */
  endWatches(): void {
    for (const { response } of this.#watches) response.end()
    this.#watches.clear()
  }

  /** What has changed so far is kept no longer. */
  compact(): void {
    this.#compacted = this.#version
    this.#history = []
  }

  bookmark(): void {
    for (const { response } of this.#watches) {
      response.write(
        `${JSON.stringify({ type: 'BOOKMARK', object: { metadata: { resourceVersion: String(this.#version) } } })}\n`,
      )
    }
  }

  #put(path: string, object: KubeObject): void {
    const key = keyOf(object)
    const objects = this.#objects.get(path)!
    const type = objects.has(key) ? 'MODIFIED' : 'ADDED'
    this.#version++
    const before = objects.get(key)
    const stored = {
      ...object,
      metadata: {
        uid: `uid-${key}`,
        creationTimestamp: before?.metadata.creationTimestamp ?? '2026-01-01T00:00:00Z',
        ...object.metadata,
        resourceVersion: String(this.#version),
      },
    }
    objects.set(key, stored)
    this.#tell({ version: this.#version, path, type, object: stored })
    const { deletionTimestamp, finalizers } = stored.metadata as Json
    if (deletionTimestamp !== undefined && (!Array.isArray(finalizers) || finalizers.length === 0)) {
      this.#delete(path, key, stored)
    }
  }

  #delete(path: string, key: string, object: KubeObject): void {
    this.#version++
    this.#objects.get(path)?.delete(key)
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(this.#version) } }
    this.#tell({ version: this.#version, path, type: 'DELETED', object: last })
  }

  #tell(change: Change): void {
    this.#history.push(change)
    for (const watch of this.#watches) if (watch.path === change.path) send(watch.response, change)
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://api')
    let body = ''
    for await (const chunk of request) body += String(chunk)
    if (request.headers.authorization !== `Bearer ${this.token}`) {
      status(response, 401, 'Unauthorized')
    } else if (request.method === 'PATCH') {
      this.#patch(url.pathname, String(request.headers['content-type']), JSON.parse(body) as Json, response)
    } else if (!this.#objects.has(url.pathname)) status(response, 404, 'the server could not find it')
    else if (url.searchParams.get('watch') === 'true') this.#watch(url, response)
    else await this.#list(url, response)
  }

  async #list(url: URL, response: ServerResponse): Promise<void> {
    this.lists++
    if (this.listMs > 0) await new Promise((resolve) => setTimeout(resolve, this.listMs))
    const all = [...this.#objects.get(url.pathname)!].sort(([a], [b]) => (a < b ? -1 : 1))
    const [version = String(this.#version), after = ''] = (url.searchParams.get('continue') ?? '')
      .split('|')
      .filter(Boolean)
    // What a page goes on with has to be of one version.
    if (Number(version) < this.#compacted) {
      status(response, 410, 'The provided continue parameter is too old')
      return
    }
    const limit = Number(url.searchParams.get('limit') ?? '500')
    const rest = all.filter(([key]) => key > after)
    const page = rest.slice(0, limit)
    const more = rest.length > limit ? `${version}|${page.at(-1)![0]}` : ''
    const items = page.map(([, object]) => object)
    response.end(
      JSON.stringify({ kind: 'List', metadata: { resourceVersion: version, continue: more }, items }),
    )
  }

  #watch(url: URL, response: ServerResponse): void {
    const from = Number(url.searchParams.get('resourceVersion'))
    if (from < this.#compacted) {
      const gone = {
        kind: 'Status',
        code: 410,
        reason: 'Expired',
        message: `too old resource version: ${from}`,
      }
      // Both happen.
      if (this.lists % 2 === 0) status(response, 410, gone.message)
      else response.end(`${JSON.stringify({ type: 'ERROR', object: gone })}\n`)
      return
    }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    for (const change of this.#history) {
      if (change.path === url.pathname && change.version > from) send(response, change)
    }
    const watch = { path: url.pathname, response }
    this.#watches.add(watch)
    response.once('close', () => this.#watches.delete(watch))
  }

  #patch(path: string, type: string, patch: Json, response: ServerResponse): void {
    const match = /^\/api\/v1\/namespaces\/([^/]+)\/services\/([^/]+)(\/status)?$/.exec(path)
    const key = `${match?.[1]}/${match?.[2]}`
    const object = this.get('services', key)
    if (match === null || object === undefined) {
      status(response, 404, 'not found')
      return
    }
    if (type !== 'application/merge-patch+json') {
      status(response, 415, type)
      return
    }
    const { resourceVersion } = (patch.metadata ?? {}) as Json
    if (resourceVersion !== undefined && resourceVersion !== object.metadata.resourceVersion) {
      status(response, 409, 'the object has been modified')
      return
    }
    // The status has a door of its own, and nothing else goes through it.
    const taken = match[3] === undefined ? { ...patch, status: undefined } : { status: patch.status }
    const merged = merge(object, JSON.parse(JSON.stringify(taken))) as KubeObject
    this.#put(COLLECTIONS.services, merged)
    response.end(JSON.stringify(merged))
  }
}

/** RFC 7386. */
function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch
  const result: Json =
    typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key]
    else result[key] = merge(result[key], value)
  }
  return result
}

function send(response: ServerResponse, { type, object }: Change): void {
  const line = Buffer.from(`${JSON.stringify({ type, object })}\n`)
  // Chunks end where they like, also within a letter.
  const cut = Math.floor(line.length / 2)
  response.write(line.subarray(0, cut))
  response.write(line.subarray(cut))
}

function status(response: ServerResponse, code: number, message: string): void {
  response.writeHead(code, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ kind: 'Status', code, message }))
}

function keyOf({ metadata }: KubeObject): string {
  return `${String(metadata.namespace ?? '')}/${String(metadata.name)}`
}
