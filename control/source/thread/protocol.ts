/** What the reading thread is asked, and what it answers. */
import type { NamedPoolState } from '../../model/pool.ts'
import type { Complaint, DirectorSettings, Site, SitePool } from '../../model/site.ts'
import type { StatingSource } from '../../model/source.ts'

export interface ReadOrder {
  readonly order: 'read'
  readonly number: number
  readonly source: StatingSource
  readonly path: string
  readonly what: Extent
}

/**
 * `pools`: only those are looked at again, all other texts are as they were when they were applied.
 * `last good`: nothing is, all texts are as they were when they last came in force, in whatever process.
 */
export type Extent = 'whole' | 'pools' | 'last good'

/** What was read under this number is in force. */
export interface AppliedOrder {
  readonly order: 'applied'
  readonly number: number
  /** Where services stand that were left out. */
  readonly without: readonly string[]
}

/** The last message has been taken over: the next one may come. */
export interface TakenOrder {
  readonly order: 'taken'
}

/** How a source stands, for those who follow the same one. */
export interface StandsOrder {
  readonly order: 'stands'
  readonly source: StatingSource
  /** What is wrong; null: what was read last is in force. */
  readonly why: string | null
}

export type Order = ReadOrder | AppliedOrder | TakenOrder | StandsOrder

export type ReadAnswer =
  | { readonly number: number; readonly kind: 'services'; readonly packed: string }
  | {
      readonly number: number
      readonly kind: 'end'
      /** null: something is wrong. */
      readonly site: {
        readonly director: DirectorSettings
        readonly filters: Site['filters']
        readonly marks: Site['marks']
        readonly files: readonly string[]
        readonly watched: readonly string[]
        readonly followed: readonly SitePool[]
      } | null
      readonly complaints: readonly Complaint[]
    }
  | { readonly number: number; readonly kind: 'failed'; readonly message: string }

/** What nobody has asked for: pools that follow a registry, of what is in force of a source. */
export type Notice =
  /** Another revision of it is meant: read all of it. */
  | { readonly kind: 'revised'; readonly source: StatingSource }
  /** They have other real servers: read again. */
  | { readonly kind: 'stale'; readonly source: StatingSource }
  /** How they stand. */
  | { readonly kind: 'pools'; readonly source: StatingSource; readonly pools: readonly NamedPoolState[] }

/** What the thread is started with. */
export interface ReaderSettings {
  /** Where the last good sets of pools are kept; null: nowhere. */
  readonly poolFile: string | null
  /** Where the texts that came in force last are kept; null: nowhere. */
  readonly goodFolder: string | null
}
