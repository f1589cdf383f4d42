/**
 * A stand-in for a Consul agent, written from the documentation of its HTTP API: the server itself is not packaged
 * here, so what it does beyond that is not tested. Health endpoint with blocking queries, registration of
 * services with TTL checks, tokens, indexes that can go backwards.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'

export interface StandInService {
  readonly ID: string
  readonly Service: string
  readonly Address: string
  readonly Port: number
  readonly Weights?: { readonly Passing: number; readonly Warning: number }
}

interface Registered {
  readonly service: StandInService
  status: 'passing' | 'warning' | 'critical'
  /** 0: its check has no time to live. */
  ttlMs: number
  goneMs: number
  timer: NodeJS.Timeout | null
}

export class ConsulStandIn {
  readonly #server: Server
  readonly #services = new Map<string, Registered>()
  readonly #waiting = new Set<() => void>()
  index = 10
  token: string | null = null
  /** Answers, instead of its own. */
  garbage: string | null = null
  /** Requests so far. */
  requests = 0

  constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response))
  }

  async start(port = 0): Promise<void> {
    this.#server.listen(port, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }

  ids(): readonly string[] {
    return [...this.#services.keys()]
  }

  set(service: StandInService, status: Registered['status'] = 'passing'): void {
    this.#put({ service, status, ttlMs: 0, goneMs: 0, timer: null })
  }

  remove(id: string): void {
    this.#services.delete(id)
    this.#changed()
  }

  #put(registered: Registered): void {
    this.#services.set(registered.service.ID, registered)
    this.#changed()
  }

  #changed(): void {
    this.index++
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests++
    const url = new URL(request.url ?? '/', 'http://consul')
    let body = ''
    for await (const chunk of request) body += String(chunk)
    if (this.token !== null && request.headers['x-consul-token'] !== this.token) {
      response
        .writeHead(403)
        .end('rpc error making call: Permission denied: anonymous token lacks permission')
      return
    }
    const parts = url.pathname.split('/').map(decodeURIComponent)
    const id = parts.at(-1) ?? ''
    if (url.pathname.startsWith('/v1/health/service/')) await this.#health(id, url, response)
    else if (url.pathname === '/v1/agent/service/register') this.#register(JSON.parse(body), response)
    else if (url.pathname.startsWith('/v1/agent/service/deregister/')) {
      const known = this.#services.has(id)
      if (known) this.remove(id)
      response.writeHead(known ? 200 : 404).end(known ? '' : `Unknown service ID "${id}"`)
    } else if (url.pathname.startsWith('/v1/agent/check/update/')) {
      const known = this.#services.get(id.replace(/^service:/, ''))
      if (known === undefined) response.writeHead(404).end(`Unknown check ID "${id}"`)
      else {
        this.#status(known, (JSON.parse(body) as { Status: Registered['status'] }).Status)
        response.end()
      }
    } else response.writeHead(404).end()
  }

  #register(words: unknown, response: ServerResponse): void {
    const { Check, Name, ...service } = words as StandInService & {
      readonly Name: string
      readonly Check?: {
        readonly TTL: string
        readonly Status?: string
        readonly DeregisterCriticalServiceAfter: string
      }
    }
    const ms = (text: string | undefined): number => Number.parseFloat(text ?? '0') * 1000
    const registered: Registered = {
      service: { ...service, Service: Name },
      status: Check === undefined || Check.Status === 'passing' ? 'passing' : 'critical',
      ttlMs: ms(Check?.TTL),
      goneMs: ms(Check?.DeregisterCriticalServiceAfter),
      timer: null,
    }
    this.#put(registered)
    this.#status(registered, registered.status)
    response.end()
  }

  #status(registered: Registered, status: Registered['status']): void {
    if (registered.status !== status) {
      registered.status = status
      this.#changed()
    }
    if (registered.timer !== null) clearTimeout(registered.timer)
    if (registered.ttlMs === 0) return
    registered.timer = setTimeout(() => this.#status(registered, 'critical'), registered.ttlMs)
    registered.timer.unref()
  }

  async #health(name: string, url: URL, response: ServerResponse): Promise<void> {
    const index = Number(url.searchParams.get('index') ?? '0')
    const waitMs = Number.parseFloat(url.searchParams.get('wait') ?? '300') * 1000
    if (index > 0 && index === this.index) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs)
        this.#waiting.add(() => {
          clearTimeout(timer)
          resolve()
        })
        response.once('close', () => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
    const list = [...this.#services.values()]
      .filter(({ service }) => service.Service === name)
      .map(({ service, status }) => ({
        Node: { Node: 'node-1', Address: '10.0.0.250' },
        Service: { Weights: { Passing: 1, Warning: 1 }, ...service },
        Checks: [
          { CheckID: 'serfHealth', Status: 'passing' },
          { CheckID: `service:${service.ID}`, Status: status },
        ],
      }))
    response.setHeader('x-consul-index', String(this.index))
    response.end(this.garbage ?? JSON.stringify(list))
  }
}
