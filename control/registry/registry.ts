/**
 * What every registry of real servers is to us: somebody who says which entries there are under a name, and
 * goes on saying so. How that is asked is the client's own; what is made of it is in pool-watch.ts.
 */

export interface Member {
  /** `10.0.0.1:80`, or without a port: the service's. */
  readonly address: string
  /** null: the pool's own, or 1. */
  readonly weight: number | null
}

/** A real server, or why the entry is none. */
export type Entry = Member | { readonly bad: string }

export type Heard<T = Entry> =
  /** All there is. */
  | { readonly kind: 'whole'; readonly entries: ReadonlyMap<string, T> }
  /** What differs from what was heard before; null: it is gone. */
  | { readonly kind: 'changes'; readonly changes: ReadonlyMap<string, T | null> }
  /** The registry has just shown that it is there, and that nothing is different. */
  | { readonly kind: 'current' }

/** Whoever follows one name, from one broken connection to the next. */
export interface Follower<T = Entry> {
  /**
   * Reports until something fails, or the signal says that it is enough: throws either way, with every connection
   * ended. The next attempt takes up where this one ended.
   */
  attempt(report: (heard: Heard<T>) => void, signal: AbortSignal): Promise<never>
}

export interface Registry {
  follower(name: string): Follower
}

/** Values, answers and lists from outside have ends. */
export const ENTRIES_MAX = 65_536
export const ANSWER_BYTES_MAX = 32 * 1024 * 1024
/** What there is to be said about one real server is short. */
export const VALUE_BYTES_MAX = 4096
