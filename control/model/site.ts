/**
 * A site: all that a source (a file, a keepalived.conf, later a registry) states. Plain and immutable;
 * whoever made one has validated all of it, so it can be taken as a whole or left.
 */

import type { Prefix } from '../../net/prefix.ts'
import type { Check } from './check.ts'
import type { FilterAction } from './filter.ts'
import type { FullNatRequest } from './full-nat.ts'
import type { HealthPolicy, ServerPolicy } from './health-policy.ts'
import type { LimitSettings } from './limit.ts'
import type { MarkRule } from './mark.ts'
import type { FollowedPool } from './pool.ts'
import type { RealServer } from './server.ts'
import type { VirtualService } from './service.ts'
import type { DaemonRequest } from './sync-daemon.ts'
import type { Timeouts } from './timeouts.ts'

/** Where in a text something stands; lines and columns from 1. */
export interface Place {
  readonly file: string
  readonly line: number
  readonly column: number
}

/** `pointsman.yaml:7:9`, as compilers and editors have it. */
export function placeText({ file, line, column }: Place): string {
  return `${file}:${line}:${column}`
}

/** Something wrong with a text: where, which value, what was wanted, all in one sentence. */
export interface Complaint {
  readonly at: Place
  readonly message: string
  /** `error`: nothing of the text is taken; `remark`: this part is not, the rest is. */
  readonly severity: 'error' | 'remark'
}

export interface SiteServer {
  /** As it was said; what checks and holds make of its weight is not here. */
  readonly real: RealServer
  /** Those of its service unless it has its own; all have to be good. */
  readonly checks: readonly Check[]
  readonly policy: ServerPolicy
  /** Name of the pool it comes from; null: it stands with the service itself. */
  readonly pool: string | null
}

/** Sources that are denied or allowed, where nothing else says so about a longer prefix. */
export interface SiteFilter {
  readonly prefix: Prefix
  readonly action: FilterAction
}

/** What stands at a place of its own. */
export type Placed<T> = T & { readonly at: Place }

export interface SiteService {
  readonly service: VirtualService
  /** In the order in which they were written, which is the order of adding: the first is IPVS's last. */
  readonly servers: readonly SiteServer[]
  readonly health: HealthPolicy
  /** Who may reach it, and who may not. */
  readonly filters: readonly SiteFilter[]
  /** How often each source may come. */
  readonly limit: LimitSettings | null
  /** For errors and lists. */
  readonly at: Place
}

/** What a site says about the director itself; null or left out: nothing, it stays as it is. */
export interface DirectorSettings {
  /** To take packets from, beside those of the command line. */
  readonly interfaces: readonly string[]
  /** 0: stays as it is. */
  readonly timeouts: Timeouts | null
  /** By the names of net.ipv4.vs. */
  readonly sysctls: Readonly<Record<string, number>>
  readonly daemons: readonly DaemonRequest[]
  /** All that full NAT is to have. */
  readonly fullNat: readonly FullNatRequest[] | null
}

export const NO_DIRECTOR_SETTINGS: DirectorSettings = {
  interfaces: [],
  timeouts: null,
  sysctls: {},
  daemons: [],
  fullNat: null,
}

export interface Site {
  /** In the order in which they were written; no two of one identity. */
  readonly services: readonly SiteService[]
  readonly director: DirectorSettings
  /** Of all services. */
  readonly filters: readonly Placed<SiteFilter>[]
  readonly marks: readonly Placed<MarkRule>[]
  /** All files that were read for it, the first one first. */
  readonly files: readonly string[]
  /** Those of them that are looked at again by themselves whenever they change (pools). */
  readonly watched: readonly string[]
  /** Pools that follow a registry. */
  readonly followed: readonly SitePool[]
}

export interface SitePool extends FollowedPool {
  readonly pool: string
  /** Whether anything has been heard of it. */
  readonly known: boolean
}
