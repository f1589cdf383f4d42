/** Pools that follow a registry: where the registry is, and how a pool stands. */

export interface RegistryTls {
  readonly ca: string | null
  readonly cert: string | null
  readonly key: string | null
  readonly serverName: string | null
  readonly verify: boolean
}

export type RegistryKind = 'etcd' | 'zookeeper' | 'consul' | 'dns'

/** How to reach one. Secrets are read from their files whenever a connection is made: they are changed there. */
export interface RegistryAddress {
  readonly kind: RegistryKind
  /** etcd, consul: URLs; zookeeper, dns: HOST:PORT. In the order in which they are tried. */
  readonly endpoints: readonly string[]
  readonly user: string | null
  readonly password: string | null
  readonly passwordFile: string | null
  /** null: without TLS, unless a URL says https. */
  readonly tls: RegistryTls | null
  /** consul: null: the one of the agent that is asked. */
  readonly datacenter: string | null
}

/** A pool as a site names it. */
export interface FollowedPool {
  /** As the site calls the registry. */
  readonly registry: string
  readonly address: RegistryAddress
  /** etcd: prefix of keys; zookeeper: node; consul: service; dns: name. */
  readonly name: string
  readonly maxRemoval: number
  readonly allowEmpty: boolean
}

export interface PoolState {
  /** null: nothing has ever been heard. */
  readonly servers: number | null
  /** When what is in force was last known to be so; null: not since this daemon started. */
  readonly heardMs: number | null
  /** When it changed last; null: not since this daemon started. */
  readonly changedMs: number | null
  readonly away: { readonly sinceMs: number; readonly why: string } | null
  /** What the registry says now is not believed. */
  readonly held: { readonly sinceMs: number; readonly servers: number; readonly why: string } | null
  readonly badCount: number
  /** The first of them. */
  readonly bad: readonly { readonly key: string; readonly why: string }[]
}

export interface NamedPoolState extends PoolState {
  readonly pool: string
  readonly registry: string
  readonly kind: RegistryKind
  readonly name: string
}
