/** HTTP of the soak: short and long connections, large bodies both ways, every byte checked. */
import { createHash } from 'node:crypto'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { NO_PROBES_MS } from '../../lab/conversation.ts'
import { digest, pieces } from './content.ts'
import { nameOf, type SoakService, targetOf } from './services.ts'

/** Longer than any pause a restart may cause, retransmissions included. */
const PATIENCE_MS = 60_000
const BULK_BYTES = 2_000_000
const MEDIUM_REQUESTS = 6
const SHORT_PER_SERVICE_PER_S = 2
/** Per service; what would come on top is left out. */
const UNDER_WAY_MAX = 4
const FAILURES_KEPT = 20

export interface TransferReport {
  readonly connections: number
  readonly requests: number
  readonly bytes: number
  readonly bulk: number
  readonly long: number
  /** Only the first few. */
  readonly failures: readonly string[]
}

interface Fetched {
  readonly server: string
  readonly localPort: number
}

export class Transfers {
  readonly #services: readonly SoakService[]
  readonly #long: { close(): void }[] = []
  readonly #failures: string[] = []
  #connections = 0
  #requests = 0
  #bytes = 0
  #bulk = 0
  #underWay = 0
  #going = false
  #ended = false
  #from = 0

  constructor(services: readonly SoakService[]) {
    this.#services = services
  }

  /** Opens the connections that live until `end`, and returns after their first answers. */
  async openLong(perService: number): Promise<void> {
    for (const service of this.#services)
      for (let i = 0; i < perService; i++) {
        const agent = new Agent({ keepAlive: true, keepAliveMsecs: NO_PROBES_MS, maxSockets: 1 })
        this.#connections += 1
        const first = await this.#get(service, 500, agent)
        this.#long.push({ close: () => agent.destroy() })
        void this.#goOn(service, agent, first)
      }
  }

  start(): void {
    this.#going = true
    for (const service of this.#services) void this.#short(service)
    void this.#medium()
    void this.#bulkLoop()
  }

  /** Nothing new begins; returns when nothing is under way. */
  async pause(): Promise<void> {
    this.#going = false
    while (this.#underWay > 0) await sleep(20)
  }

  resume(): void {
    this.#going = true
  }

  async end(): Promise<void> {
    await this.pause()
    this.#ended = true
    for (const connection of this.#long) connection.close()
  }

  report(): TransferReport {
    return {
      connections: this.#connections,
      requests: this.#requests,
      bytes: this.#bytes,
      bulk: this.#bulk,
      long: this.#long.length,
      failures: this.#failures,
    }
  }

  async #short(service: SoakService): Promise<void> {
    let own = 0
    while (!this.#ended) {
      await sleep((1000 / SHORT_PER_SERVICE_PER_S) * (0.5 + Math.random()))
      if (!this.#going || own >= UNDER_WAY_MAX) continue
      own += 1
      this.#connections += 1
      void this.#attempt('short', service, async () => {
        await this.#get(service, 200 + (this.#next() % 4000), false)
      }).finally(() => {
        own -= 1
      })
    }
  }

  /** A connection at a time, with some requests on it. */
  async #medium(): Promise<void> {
    for (let turn = 0; !this.#ended; turn++) {
      const service = this.#services[turn % this.#services.length]!
      await sleep(500)
      if (!this.#going) continue
      const agent = new Agent({ keepAlive: true, keepAliveMsecs: NO_PROBES_MS, maxSockets: 1 })
      this.#connections += 1
      await this.#attempt('medium', service, async () => {
        const first = await this.#get(service, 1000, agent)
        for (let i = 1; i < MEDIUM_REQUESTS; i++) {
          await sleep(200)
          sameConnection(first, await this.#get(service, 20_000, agent))
        }
      })
      agent.destroy()
    }
  }

  async #bulkLoop(): Promise<void> {
    for (let turn = 0; !this.#ended; turn++) {
      const service = this.#services[turn % this.#services.length]!
      await sleep(800)
      if (!this.#going) continue
      this.#connections += 1
      const up = (turn + Math.floor(turn / this.#services.length)) % 2 === 0
      await this.#attempt(up ? 'upload' : 'download', service, async () => {
        await (up ? this.#post(service, BULK_BYTES) : this.#get(service, BULK_BYTES, false))
        this.#bulk += 1
      })
    }
  }

  async #goOn(service: SoakService, agent: Agent, first: Fetched): Promise<void> {
    let whole = true
    while (!this.#ended && whole) {
      await sleep(400 + Math.random() * 200)
      if (!this.#going) continue
      whole = await this.#attempt('long', service, async () =>
        sameConnection(first, await this.#get(service, 300, agent)),
      )
    }
  }

  /** Whether it went well. */
  async #attempt(kind: string, service: SoakService, work: () => Promise<void>): Promise<boolean> {
    this.#underWay += 1
    try {
      await work()
      return true
    } catch (error) {
      if (this.#failures.length < FAILURES_KEPT)
        this.#failures.push(
          `${new Date().toISOString()} ${kind} ${nameOf(service)}: ${error instanceof Error ? error.message : error}`,
        )
      return false
    } finally {
      this.#underWay -= 1
    }
  }

  #next(): number {
    this.#from = (this.#from + 7919) % 1_000_003
    return this.#from
  }

  async #get(service: SoakService, bytes: number, agent: Agent | false): Promise<Fetched> {
    const from = this.#next()
    const { response, socket, ports } = await this.#exchange(
      service,
      agent,
      `/?from=${from}&bytes=${bytes}`,
      null,
    )
    const hash = createHash('sha256')
    let received = 0
    for await (const chunk of response as AsyncIterable<Buffer>) {
      hash.update(chunk)
      received += chunk.length
    }
    socket.setTimeout(0)
    if (received !== bytes) throw new Error(`received ${received} of ${bytes} bytes`)
    if (hash.digest('hex') !== digest(pieces(from, bytes))) throw new Error(`${bytes} bytes arrived changed`)
    this.#requests += 1
    this.#bytes += bytes
    return ports
  }

  async #post(service: SoakService, bytes: number): Promise<void> {
    const from = this.#next()
    const { response } = await this.#exchange(service, false, '/', () => pieces(from, bytes))
    let text = ''
    for await (const chunk of response as AsyncIterable<Buffer>) text += chunk.toString('latin1')
    if (text !== digest(pieces(from, bytes))) throw new Error(`${bytes} bytes arrived changed: ${text}`)
    this.#requests += 1
    this.#bytes += bytes
  }

  #exchange(
    service: SoakService,
    agent: Agent | false,
    path: string,
    body: (() => Iterable<Buffer>) | null,
  ): Promise<{ response: IncomingMessage; socket: Socket; ports: Fetched }> {
    const { address, port } = targetOf(service)
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        host: address,
        port,
        agent,
        path,
        method: body === null ? 'GET' : 'POST',
        timeout: PATIENCE_MS,
      })
      request.on('timeout', () => request.destroy(new Error(`nothing came for ${PATIENCE_MS} ms`)))
      request.on('error', reject)
      request.on('response', (response) => {
        if (response.statusCode !== 200) {
          response.resume()
          reject(new Error(`HTTP status ${response.statusCode}`))
          return
        }
        const { socket } = response
        const ports = { server: String(response.headers['x-server']), localPort: socket.localPort ?? 0 }
        resolve({ response, socket, ports })
      })
      if (body === null) request.end()
      else Readable.from(body()).pipe(request)
    })
  }
}

function sameConnection(before: Fetched, now: Fetched): void {
  if (now.server !== before.server) throw new Error(`answered by ${now.server}, before by ${before.server}`)
  if (now.localPort !== before.localPort) throw new Error('the connection had to be made anew')
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
