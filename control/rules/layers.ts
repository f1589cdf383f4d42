/**
 * Who wants what. A *source* states whole services and owns all of its set: what it leaves out, it does not
 * want (commands are one source, a file or a registry another). An *overlay* states nothing of its own: it
 * changes what the real servers that sources state count for (a health check, a slow start), for as long as
 * it says so. A *hold* by hand stands above both. What was said stays, so it can be saved; what is in force
 * is what all come to.
 */
import type { RealServer } from '../model/server.ts'
import type { VirtualService } from '../model/service.ts'

/** A service as a source states it. */
export interface Statement {
  readonly service: VirtualService
  /** In the order of adding: the last one is IPVS's first. */
  readonly servers: readonly RealServer[]
}

/**
 * What an overlay leaves of each real server's weight, by identities of service and real server: 1 all of
 * it, 0 no new connections, anything between for a start in steps. Real servers it says nothing about keep
 * all.
 */
export type Shares = ReadonlyMap<string, ReadonlyMap<string, number>>

export interface Overlays {
  /** The weight in force of a real server that was said to have `weight`; null: out of the list. */
  weight(service: string, server: string, weight: number): number | null
  /** Real servers that nobody has stated and that are to be in the list all the same (a sorry server). */
  extra(service: string): readonly RealServer[]
}

export const NO_OVERLAYS: Overlays = { weight: (_service, _server, weight) => weight, extra: () => [] }

/** Overlays that take nobody out of the list. */
export interface SharedOut extends Overlays {
  weight(service: string, server: string, weight: number): number
}

/**
 * Several overlays at once. Shares are multiplied, so their order does not matter and no overlay can give
 * back what another has taken: a real server that is held by hand stays held however healthy it is. What has
 * any share of any weight keeps a weight of at least 1: slow is not stopped.
 */
export function composeOverlays(overlays: readonly Shares[]): SharedOut {
  return {
    extra: NO_OVERLAYS.extra,
    weight(service, server, weight): number {
      let share = 1
      for (const shares of overlays) share *= shares.get(service)?.get(server) ?? 1
      if (weight === 0 || share <= 0) return 0
      return Math.max(1, Math.round(weight * Math.min(share, 1)))
    },
  }
}
