/**
 * Who wants what. A *source* states whole services and owns all of its set: what it leaves out, it does not
 * want (commands are one source, a file or a registry another). An *overlay* states nothing of its own: it
 * takes weight from real servers that sources state (a health check, a hold by hand, a slow start), for as
 * long as it says so. What was said stays, so it can be saved; what is in force is what both come to.
 */
import type { RealServer } from '../model/server.ts'
import type { VirtualService } from '../model/service.ts'
import { SOURCES, type SourceName } from '../model/source.ts'

/** A service as a source states it; real servers newest first. */
export interface Statement {
  readonly service: VirtualService
  readonly servers: readonly RealServer[]
}

/** What a source states, by identity of the service. */
export type StatedSet = ReadonlyMap<string, Statement>

/** What all sources come to. A service belongs to one source, as a whole: half of one is nobody's wish. */
export function mergeSets(
  sets: Readonly<Partial<Record<SourceName, StatedSet>>>,
): Map<string, Statement & { readonly source: SourceName }> {
  const merged = new Map<string, Statement & { readonly source: SourceName }>()
  for (const source of SOURCES) {
    for (const [key, statement] of sets[source] ?? []) {
      if (!merged.has(key)) merged.set(key, { ...statement, source })
    }
  }
  return merged
}

/**
 * What an overlay leaves of each real server's weight, by identities of service and real server: 1 all of
 * it, 0 no new connections, anything between for a start in steps. Real servers it says nothing about keep
 * all.
 */
export type Shares = ReadonlyMap<string, ReadonlyMap<string, number>>

export interface Overlays {
  /** The weight in force of a real server that was said to have `weight`. */
  weight(service: string, server: string, weight: number): number
}

export const NO_OVERLAYS: Overlays = { weight: (_service, _server, weight) => weight }

/**
 * Several overlays at once. Shares are multiplied, so their order does not matter and no overlay can give
 * back what another has taken: a real server that is held by hand stays held however healthy it is. What has
 * any share of any weight keeps a weight of at least 1: slow is not stopped.
 */
export function composeOverlays(overlays: readonly Shares[]): Overlays {
  if (overlays.length === 0) return NO_OVERLAYS
  return {
    weight(service, server, weight): number {
      let share = 1
      for (const shares of overlays) share *= shares.get(service)?.get(server) ?? 1
      if (weight === 0 || share <= 0) return 0
      return Math.max(1, Math.round(weight * Math.min(share, 1)))
    },
  }
}
