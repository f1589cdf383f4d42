/**
 * What field by field does not say about maps of earlier versions: fields that changed their meaning,
 * records that stand elsewhere now, fields that are forgotten on purpose.
 *
 * A change of layout that only adds, moves, widens or reorders fields needs nothing here; what is new
 * starts as zero. When a field changes its meaning or its place in a map depends on something new:
 *
 * 1. raise PM_LAYOUT_VERSION, npm run generate: the old layout joins layout/versions.gen.ts;
 * 2. add an entry below under the *old* number. It is given records of that version and writes records of
 *    the present one, so the entries of still older versions are to be looked at again, too: all of them
 *    lead straight to the present layout;
 * 3. test/dataplane/migrate.test.ts fails while a field of any earlier version is neither carried nor
 *    named in `forgets`.
 */
import type { MapMemory } from './dataplane.ts'
import type { MapName } from './layout/layout.gen.ts'

/** A record of an earlier layout; fields of nested records by path, `c.expires`. */
export interface OldRecord {
  /** 0 where that layout has no such field; `element` for arrays. */
  number(path: string, element?: number): number
  bigint(path: string, element?: number): bigint
}

export interface NewMaps {
  map(name: MapName): MapMemory
}

export interface Conversion {
  /** After field by field, for a record that stays at its index: writes to `view` at `base`. */
  readonly records?: { readonly [map in MapName]?: (old: OldRecord, view: DataView, base: number) => void }
  /**
   * Instead of field by field, for records that find another place (another hash, several records made of
   * one). Called once for each record that is not zero, and again when the old program has changed it:
   * putting the same one twice must be as good as once.
   */
  readonly place?: { readonly [map in MapName]?: (old: OldRecord, index: number, to: NewMaps) => void }
  /** `pm_conn.mtu`: fields, and constants of placing (`PM_WAYS`), that are not carried. */
  readonly forgets?: readonly string[]
}

/** By PM_LAYOUT_VERSION of the maps that are carried over. */
export const CONVERSIONS: { readonly [version: number]: Conversion } = {}

/**
 * Two programs may have changed one record while a running director is moved to new maps: the old one
 * since the record was copied, the new one since it took over. Where only one of them has changed a field,
 * its value counts; these fields know more.
 */
export const MERGES = {
  /** What happened on both sides adds up. */
  sums: new Set([
    'counters conns',
    'counters in_packets',
    'counters in_bytes',
    'counters out_packets',
    'counters out_bytes',
    'verdicts value',
    'live active',
    'live inactive',
    'live persistent',
    'connections4 c.packets',
    'connections6 c.packets',
  ]),
  /** Times: the later one. */
  later: new Set(['connections4 c.expires', 'connections6 c.expires']),
  /** Flags: either's. */
  unions: new Set(['connections4 c.flags', 'connections6 c.flags']),
  /** Changed by both, the record is two different things by now: the new program's stays. */
  identities: new Set(['connections4 c.word', 'connections6 c.word']),
} as const
