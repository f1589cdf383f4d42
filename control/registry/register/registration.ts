/** One real server as it writes itself into a registry. */
import type { RegistryAddress } from '../../model/pool.ts'

export interface Registration {
  readonly address: RegistryAddress
  /** etcd: what the key begins with; zookeeper: the node above; consul: the service. */
  readonly service: string
  /** `10.0.0.1:80`: what it is called there, and where it serves. */
  readonly endpoint: string
  /** null: whatever the pool says. */
  readonly weight: number | null
  readonly ttlMs: number
}

export interface Registrar {
  /** Writes it, tells so, and keeps it alive until something fails or the signal says so: throws either way. */
  attempt(held: () => void, signal: AbortSignal): Promise<never>
  /** It serves no longer. */
  withdraw(): Promise<void>
}

/** The value that `readEntry` reads. */
export function entryText({ endpoint, weight }: Registration): string {
  return weight === null ? endpoint : JSON.stringify({ address: endpoint, weight })
}
