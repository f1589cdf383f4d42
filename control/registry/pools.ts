/** All pools that are followed: each distinct one once, whoever names it; and what they leave to the next process. */
import { readFileSync } from 'node:fs'
import { writeAtomically } from '../../linux/atomic-file.ts'
import { parseEndpoint } from '../../net/endpoint.ts'
import type { FollowedPool, PoolState, RegistryAddress } from '../model/pool.ts'
import { memberAt } from './entry.ts'
import { openRegistry } from './open.ts'
import { PoolWatch } from './pool-watch.ts'
import type { Follower, Heard, Member, Registry } from './registry.ts'

export interface PoolsOptions {
  /** Where the last good sets are kept; null: nowhere. */
  readonly file: string | null
  /** The members of a pool are others. */
  readonly changed: (pool: string) => void
  /** Something else about it is different. */
  readonly told: (pool: string) => void
  readonly open?: (address: RegistryAddress) => Promise<Registry>
  readonly nowMs?: () => number
}

const SAVE_MS = 1000

interface Followed {
  readonly watch: PoolWatch
  readonly set: string
}

/** Two that are the same are followed once. */
export function poolKey(pool: FollowedPool): string {
  return JSON.stringify([pool.address, pool.name, pool.maxRemoval, pool.allowEmpty])
}

/** What the members come from; without secrets, since it is written down. */
function setKey({ address: { kind, endpoints, datacenter }, name }: FollowedPool): string {
  return JSON.stringify([kind, endpoints, datacenter, name])
}

export class FollowedPools {
  readonly #options: PoolsOptions
  readonly #pools = new Map<string, Followed>()
  readonly #registries = new Map<string, Promise<Registry>>()
  #memory: Map<string, readonly Member[]> | null = null
  #saving: NodeJS.Timeout | null = null
  #unsaved = false

  constructor(options: PoolsOptions) {
    this.#options = options
  }

  /** Follows it from now on. */
  watch(pool: FollowedPool): PoolWatch {
    const key = poolKey(pool)
    const known = this.#pools.get(key)
    if (known !== undefined) return known.watch
    const set = setKey(pool)
    // One that is followed with other limits has the newest set.
    const same = [...this.#pools.values()].find((one) => one.set === set)
    const watch = new PoolWatch({
      follower: new LateFollower(() => this.#registry(pool.address), pool.name),
      limits: pool,
      before: same?.watch.members ?? this.#remembered().get(set) ?? null,
      changed: () => {
        this.#saveSoon()
        this.#options.changed(key)
      },
      told: () => this.#options.told(key),
      nowMs: this.#options.nowMs ?? Date.now,
    })
    this.#pools.set(key, { watch, set })
    return watch
  }

  state(pool: FollowedPool): PoolState | null {
    return this.#pools.get(poolKey(pool))?.watch.state ?? null
  }

  /** The others are followed no more. */
  keepOnly(keys: ReadonlySet<string>): void {
    for (const [key, { watch }] of this.#pools) {
      if (keys.has(key)) continue
      watch.close()
      this.#pools.delete(key)
    }
  }

  close(): void {
    this.keepOnly(new Set())
    this.#registries.clear()
  }

  #registry(address: RegistryAddress): Promise<Registry> {
    const key = JSON.stringify(address)
    const known = this.#registries.get(key)
    if (known !== undefined) return known
    const opened = (this.#options.open ?? openRegistry)(address)
    this.#registries.set(key, opened)
    // The next attempt tries anew.
    opened.catch(() => this.#registries.delete(key))
    return opened
  }

  #remembered(): ReadonlyMap<string, readonly Member[]> {
    this.#memory ??= readMemory(this.#options.file)
    return this.#memory
  }

  #saveSoon(): void {
    if (this.#options.file === null) return
    this.#unsaved = true
    if (this.#saving !== null) return
    this.save()
    this.#saving = setTimeout(() => {
      this.#saving = null
      if (this.#unsaved) this.#saveSoon()
    }, SAVE_MS)
    this.#saving.unref()
  }

  save(): void {
    const { file } = this.#options
    if (file === null) return
    this.#unsaved = false
    const sets: Record<string, readonly Member[]> = {}
    for (const { watch, set } of this.#pools.values()) if (watch.members !== null) sets[set] = watch.members
    try {
      writeAtomically(file, JSON.stringify({ version: 1, sets }))
    } catch {
      // A full disk is no reason to stop; the registry itself is the better memory.
    }
  }
}

/** What is written down is ours, but files outlive the programs that wrote them. */
function readMemory(file: string | null): Map<string, readonly Member[]> {
  const memory = new Map<string, readonly Member[]>()
  if (file === null) return memory
  try {
    const { version, sets } = JSON.parse(readFileSync(file, 'utf8')) as {
      readonly version: unknown
      readonly sets: Readonly<Record<string, unknown>>
    }
    if (version !== 1) return memory
    for (const [set, members] of Object.entries(sets)) {
      if (Array.isArray(members) && members.every(isMember)) memory.set(set, members)
    }
  } catch {
    // There is none yet, or it is of no use.
  }
  return memory
}

function isMember(value: unknown): value is Member {
  if (typeof value !== 'object' || value === null) return false
  const { address, weight } = value as Readonly<Record<string, unknown>>
  const endpoint = typeof address === 'string' ? parseEndpoint(address) : null
  return endpoint !== null && !('bad' in memberAt(endpoint.address, endpoint.port, weight))
}

/** The client is loaded when it is first asked; a registry that cannot be opened is one that is away. */
class LateFollower implements Follower {
  readonly #registry: () => Promise<Registry>
  readonly #name: string
  #follower: Follower | null = null

  constructor(registry: () => Promise<Registry>, name: string) {
    this.#registry = registry
    this.#name = name
  }

  async attempt(report: (heard: Heard) => void, signal: AbortSignal): Promise<never> {
    this.#follower ??= (await this.#registry()).follower(this.#name)
    return await this.#follower.attempt(report, signal)
  }
}
