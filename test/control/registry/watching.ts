/** A pool as it is followed in a test, and waiting for what it comes to. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FollowedPool, PoolState } from '../../../control/model/pool.ts'
import { FollowedPools } from '../../../control/registry/pools.ts'

const LIMIT_MS = 60_000

export class Watching {
  readonly pools: FollowedPools
  readonly #pool: FollowedPool
  /** What the pool had, each time it changed. */
  readonly sets: string[] = []

  constructor(pool: FollowedPool, file: string | null = null) {
    this.#pool = pool
    this.pools = new FollowedPools({
      file,
      changed: () => this.sets.push(this.text),
      told: () => {},
    })
    this.pools.watch(pool)
  }

  /** `10.0.0.1:80*3` with the weight, if it has one of its own. */
  get text(): string {
    return (this.pools.watch(this.#pool).members ?? [])
      .map(({ address, weight }) => (weight === null ? address : `${address}*${weight}`))
      .join(' ')
  }

  get size(): number {
    return this.pools.watch(this.#pool).members?.length ?? -1
  }

  get state(): PoolState {
    return this.pools.state(this.#pool)!
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    const began = Date.now()
    while (!condition()) {
      if (Date.now() - began > LIMIT_MS) {
        assert.fail(
          `${what}: not within ${LIMIT_MS} ms; ${this.text.slice(0, 200)}; ${JSON.stringify(this.state)}`,
        )
      }
      await sleep(5)
    }
  }

  async has(text: string): Promise<void> {
    await this.until(`members ${text}`, () => this.text === text)
  }

  close(): void {
    this.pools.close()
  }
}
