/** A fleet's registry, for whoever publishes, and for whoever wants to know how it stands. */
import { EtcdGateway } from '../etcd/gateway.ts'
import {
  type DirectorReport,
  type FleetRevision,
  type FleetTexts,
  parseReport,
  parseRevision,
  revisionKey,
  revisionText,
} from './document.ts'
import type { FleetPlace } from './place.ts'

/** Older ones are forgotten. */
const KEPT = 50
/** Somebody else who publishes at the same moment. */
const TRIES = 5
/** What etcd takes in one request, less what comes along with it. */
const VALUE_BYTES_MAX = 1_400_000

export class Fleet {
  readonly #gateway: EtcdGateway
  readonly #prefix: string

  constructor({ address, prefix }: FleetPlace) {
    this.#gateway = new EtcdGateway(address)
    this.#prefix = prefix
  }

  close(): void {
    this.#gateway.close()
  }

  /** The number that is meant; 0: nothing has been published. */
  async current(): Promise<{ readonly number: number; readonly modRevision: number }> {
    const { kvs } = await this.#asked(() => this.#gateway.range({ key: `${this.#prefix}/current` }))
    const [kv] = kvs
    if (kv === undefined) return { number: 0, modRevision: 0 }
    const number = Number(kv.value)
    if (!Number.isSafeInteger(number) || number < 1) {
      throw new Error(`${this.#prefix}/current is no number of a revision: "${kv.value.slice(0, 60)}"`)
    }
    return { number, modRevision: kv.modRevision }
  }

  /** null: there is no such. */
  async revision(number: number): Promise<FleetRevision | null> {
    const key = revisionKey(this.#prefix, number)
    const { kvs } = await this.#asked(() => this.#gateway.range({ key }))
    return kvs[0] === undefined ? null : parseRevision(kvs[0].value)
  }

  async revisions(): Promise<readonly FleetRevision[]> {
    const prefix = `${this.#prefix}/revisions/`
    const { kvs } = await this.#asked(() => this.#gateway.range({ key: prefix, prefix: true }))
    return kvs.flatMap(({ value }) => parseRevision(value) ?? [])
  }

  async directors(): Promise<readonly DirectorReport[]> {
    const prefix = `${this.#prefix}/directors/`
    const { kvs } = await this.#asked(() => this.#gateway.range({ key: prefix, prefix: true }))
    return kvs.flatMap(({ value }) => parseReport(value) ?? [])
  }

  /** The number it has got. Revision and choice are one step: nobody sees the one without the other. */
  async publish(
    texts: FleetTexts,
    by: string,
    atMs: number,
    rollbackOf: number | null = null,
  ): Promise<number> {
    for (let tries = 0; tries < TRIES; tries++) {
      const { number, modRevision } = await this.current()
      const next = number + 1
      const value = revisionText({ ...texts, revision: next, by, atMs, rollbackOf })
      if (value.length > VALUE_BYTES_MAX) {
        throw new Error(
          `Packed it has ${value.length} bytes, etcd takes ${VALUE_BYTES_MAX}: split it into fleets`,
        )
      }
      const key = revisionKey(this.#prefix, next)
      const done = await this.#gateway.transact({
        if: [
          { key: `${this.#prefix}/current`, modRevision },
          { key, modRevision: 0 },
        ],
        put: [
          { key, value },
          { key: `${this.#prefix}/current`, value: String(next) },
        ],
      })
      if (!done) continue
      if (next > KEPT) await this.#gateway.remove(revisionKey(this.#prefix, next - KEPT))
      return next
    }
    throw new Error('Others publish at the same time, again and again: try once more')
  }

  /** Every member in turn. */
  async #asked<T>(ask: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await ask()
      } catch (error) {
        this.#gateway.next()
        if (tries >= this.#gateway.endpoints.count) throw error
      }
    }
  }
}
