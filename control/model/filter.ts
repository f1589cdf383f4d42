/**
 * Filters: sources that may not reach virtual services, and exceptions from that. The longest prefix counts; of
 * two of a length that of the service.
 */
import type { Prefix } from '../../net/prefix.ts'
import type { ServiceId } from './service.ts'
import type { SourceName } from './source.ts'

export const FILTER_ACTIONS = ['allow', 'deny'] as const
export type FilterAction = (typeof FILTER_ACTIONS)[number]

export interface Filter {
  readonly prefix: Prefix
  readonly action: FilterAction
  /** Null: all services. */
  readonly service: ServiceId | null
}

/** Filters that a source states: all that it has said of them before is over. */
export interface StatedFilters {
  readonly filters: readonly Filter[]
  /** Identities of the services that it states: the list of another one goes when that goes. */
  readonly services: ReadonlySet<string>
  /** Prefixes that commands state otherwise become the source's, instead of being refused. */
  readonly takeOver: boolean
}

export interface FilterDifference {
  readonly difference: 'added' | 'deleted'
  readonly filter: Filter
}

/** What would become of it, or has. */
export interface ComparedFilters {
  readonly differences: readonly FilterDifference[]
  /** Any: then nothing has changed. */
  readonly refused: readonly { readonly filter: Filter; readonly message: string }[]
}

export interface FilterListing extends Filter {
  /** How long it still holds; null: until it is deleted. */
  readonly leftMs: number | null
  /** Who states it. */
  readonly owner: SourceName
}

/** Prefixes of one kind, as many as a file has. */
export interface FilterBatch {
  readonly prefixes: readonly Prefix[]
  readonly action: FilterAction
  readonly service: ServiceId | null
  /** Ends by itself; null: somebody has to delete it. */
  readonly forMs: number | null
}

/** A change of filters: all of it, or nothing. */
export interface FilterChange {
  /** First of all, those that commands state go: of this action, of this service. */
  readonly flush: { readonly action: FilterAction; readonly service: ServiceId | null } | null
  readonly delete: readonly FilterBatch[]
  readonly add: readonly FilterBatch[]
}

/** Times in the maps are told from the past for so long (half of 416 days, and some room). */
export const FILTER_FOR_MAX_MS = 100 * 86_400_000
