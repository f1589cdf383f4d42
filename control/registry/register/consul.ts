/** An instance of a service with a check that its own time to live fails, at the agent beside it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseEndpoint } from '../../../net/endpoint.ts'
import { type HttpAnswer, HttpEndpoints } from '../http.ts'
import { passwordOf } from '../tls.ts'
import type { Registrar, Registration } from './registration.ts'

const TIMEOUT_MS = 3000
/** Consul takes away nothing sooner. */
const FORGOTTEN_AFTER = '1m'

export class ConsulRegistrar implements Registrar {
  readonly #registration: Registration
  readonly #endpoints: HttpEndpoints

  constructor(registration: Registration) {
    this.#registration = registration
    this.#endpoints = new HttpEndpoints(registration.address.endpoints, registration.address.tls)
  }

  get #id(): string {
    return `${this.#registration.service}-${this.#registration.endpoint}`
  }

  async attempt(held: () => void, signal: AbortSignal): Promise<never> {
    const { service, endpoint, weight, ttlMs } = this.#registration
    const { address, port } = parseEndpoint(endpoint)!
    try {
      await this.#put('/v1/agent/service/register', {
        ...{ ID: this.#id, Name: service, Address: address, Port: port ?? 0 },
        ...(weight === null ? {} : { Weights: { Passing: weight, Warning: weight } }),
        Check: {
          TTL: `${ttlMs / 1000}s`,
          Status: 'passing',
          DeregisterCriticalServiceAfter: FORGOTTEN_AFTER,
        },
      })
      held()
      for (;;) {
        await sleep(ttlMs / 3, undefined, { signal })
        await this.#put(`/v1/agent/check/update/${encodeURIComponent(`service:${this.#id}`)}`, {
          Status: 'passing',
        })
      }
    } catch (error) {
      this.#endpoints.next()
      throw error
    }
  }

  async withdraw(): Promise<void> {
    try {
      await this.#put(`/v1/agent/service/deregister/${encodeURIComponent(this.#id)}`, {})
    } finally {
      this.#endpoints.close()
    }
  }

  async #put(path: string, body: object): Promise<HttpAnswer> {
    const token = passwordOf(this.#registration.address)
    const answer = await this.#endpoints.ask({
      ...{ method: 'PUT', path, body: JSON.stringify(body), timeoutMs: TIMEOUT_MS },
      headers: { 'content-type': 'application/json', ...(token === null ? {} : { 'x-consul-token': token }) },
    })
    if (answer.status !== 200) {
      throw new Error(
        `${this.#endpoints.url}: HTTP status ${answer.status}: ${answer.body.trim().slice(0, 200)}`,
      )
    }
    return answer
  }
}
