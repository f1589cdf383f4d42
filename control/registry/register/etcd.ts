/** A key under a lease. */
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdError, EtcdGateway, NOT_FOUND } from '../etcd/gateway.ts'
import { entryText, type Registrar, type Registration } from './registration.ts'

export class EtcdRegistrar implements Registrar {
  readonly #gateway: EtcdGateway
  readonly #registration: Registration
  #lease: string | null = null

  constructor(registration: Registration) {
    this.#registration = registration
    this.#gateway = new EtcdGateway(registration.address)
  }

  get #key(): string {
    const { service, endpoint } = this.#registration
    return `${service.replace(/\/$/, '')}/${endpoint}`
  }

  async attempt(held: () => void, signal: AbortSignal): Promise<never> {
    const { ttlMs } = this.#registration
    try {
      if (this.#lease !== null && !(await this.#keepAlive(this.#lease, signal))) this.#lease = null
      this.#lease ??= await this.#gateway.grant(Math.ceil(ttlMs / 1000))
      // Whatever became of the key meanwhile; the same value is no change to its readers.
      await this.#gateway.put(this.#key, entryText(this.#registration), this.#lease)
      held()
      for (;;) {
        await sleep(ttlMs / 3, undefined, { signal })
        if (await this.#keepAlive(this.#lease, signal)) continue
        this.#lease = null
        throw new Error(`${this.#gateway.endpoints.url}: the lease has ended`)
      }
    } catch (error) {
      this.#gateway.next()
      throw error
    }
  }

  async #keepAlive(lease: string, signal: AbortSignal): Promise<boolean> {
    return (await this.#gateway.keepAlive(lease, signal)) > 0
  }

  async withdraw(): Promise<void> {
    const lease = this.#lease
    this.#lease = null
    try {
      if (lease !== null) await this.#gateway.revoke(lease)
    } catch (error) {
      if (!(error instanceof EtcdError) || error.code !== NOT_FOUND) throw error
    } finally {
      this.#gateway.close()
    }
  }
}
