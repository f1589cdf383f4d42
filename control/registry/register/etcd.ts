/** A key under a lease. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { RegistryAddress } from '../../model/pool.ts'
import { EtcdError, EtcdGateway, NOT_FOUND } from '../etcd/gateway.ts'
import type { Registrar, Registration } from './registration.ts'

/** A registration as a key. */
export function etcdKey({ service, endpoint }: Registration): string {
  return `${service.replace(/\/$/, '')}/${endpoint}`
}

export interface LeasedKey {
  readonly address: RegistryAddress
  readonly key: string
  readonly value: () => string
  readonly ttlMs: number
}

export class EtcdRegistrar implements Registrar {
  readonly #gateway: EtcdGateway
  readonly #leased: LeasedKey
  #lease: string | null = null

  constructor(leased: LeasedKey) {
    this.#leased = leased
    this.#gateway = new EtcdGateway(leased.address)
  }

  /** The value is another one; if it cannot be written now, the next attempt does. */
  async rewrite(): Promise<void> {
    const { key, value } = this.#leased
    if (this.#lease !== null) await this.#gateway.put(key, value(), this.#lease)
  }

  async attempt(held: () => void, signal: AbortSignal): Promise<never> {
    const { key, value, ttlMs } = this.#leased
    try {
      if (this.#lease !== null && !(await this.#keepAlive(this.#lease, signal))) this.#lease = null
      this.#lease ??= await this.#gateway.grant(Math.ceil(ttlMs / 1000))
      // Whatever became of the key meanwhile; the same value is no change to its readers.
      await this.#gateway.put(key, value(), this.#lease)
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
