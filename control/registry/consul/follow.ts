/**
 * A service in Consul's catalogue with what its checks say: blocking queries, each of which waits at the agent
 * until something is different from what the last one told.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { RegistryAddress } from '../../model/pool.ts'
import { memberAt } from '../entry.ts'
import { HttpEndpoints } from '../http.ts'
import { objectOf } from '../json.ts'
import { ENTRIES_MAX, type Entry, type Follower, type Heard } from '../registry.ts'
import { passwordOf } from '../tls.ts'

/** Short, so that an agent that hangs is noticed. */
const WAIT_S = 10
/** The agent adds up to a sixteenth of the wait, so that not all clients come back at once. */
const GRACE_MS = (WAIT_S * 1000) / 16 + 3000
/** A service that changes all the time is not asked for more often. */
const PAUSE_MS = 10

export class ConsulFollower implements Follower {
  readonly #address: RegistryAddress
  readonly #endpoints: HttpEndpoints
  readonly #service: string
  #index = 0

  constructor(address: RegistryAddress, service: string) {
    this.#address = address
    this.#endpoints = new HttpEndpoints(address.endpoints, address.tls)
    this.#service = service
  }

  async attempt(report: (heard: Heard) => void, signal: AbortSignal): Promise<never> {
    try {
      for (;;) {
        report(await this.#ask(signal))
        await sleep(PAUSE_MS, undefined, { signal })
      }
    } catch (error) {
      // Another agent has other numbers.
      this.#index = 0
      this.#endpoints.next()
      throw error
    }
  }

  async #ask(signal: AbortSignal): Promise<Heard> {
    const { datacenter } = this.#address
    const query = new URLSearchParams({
      ...(datacenter === null ? {} : { dc: datacenter }),
      ...(this.#index === 0 ? {} : { index: String(this.#index), wait: `${WAIT_S}s` }),
    })
    const token = passwordOf(this.#address)
    const { status, headers, body } = await this.#endpoints.ask({
      method: 'GET',
      path: `/v1/health/service/${encodeURIComponent(this.#service)}?${query}`,
      headers: token === null ? {} : { 'x-consul-token': token },
      timeoutMs: WAIT_S * 1000 + GRACE_MS,
      signal,
    })
    const { url } = this.#endpoints
    if (status !== 200) throw new Error(`${url}: HTTP status ${status}: ${body.trim().slice(0, 200)}`)
    const index = Number(headers['x-consul-index'] ?? 0)
    const before = this.#index
    // One that has become smaller belongs to another state of the servers: from the beginning.
    this.#index = Number.isSafeInteger(index) && index >= before ? Math.max(index, 0) : 0
    if (before !== 0 && index === before) return { kind: 'current' }
    return { kind: 'whole', entries: entriesOf(body, url) }
  }
}

function entriesOf(body: string, url: string): ReadonlyMap<string, Entry> {
  let list: unknown
  try {
    list = JSON.parse(body)
  } catch {
    list = null
  }
  if (!Array.isArray(list)) {
    throw new Error(`${url} answers something else than Consul does: ${JSON.stringify(body.slice(0, 60))}`)
  }
  const entries = new Map<string, Entry>()
  for (const one of list.slice(0, ENTRIES_MAX).map(objectOf)) {
    const node = objectOf(one.Node)
    const service = objectOf(one.Service)
    const checks = Array.isArray(one.Checks) ? one.Checks.map((check) => objectOf(check).Status) : []
    // Maintenance is a critical check, too.
    if (checks.includes('critical')) continue
    const weights = objectOf(service.Weights)
    const said = checks.includes('warning') ? weights.Warning : weights.Passing
    // 1 is what Consul says where nobody has said anything.
    const weight = typeof said === 'number' && said !== 1 ? said : null
    const address = String(service.Address || node.Address || '')
    const port = typeof service.Port === 'number' && service.Port > 0 ? service.Port : null
    entries.set(`${node.Node ?? '?'}/${service.ID ?? '?'}`, memberAt(address, port, weight))
  }
  return entries
}
