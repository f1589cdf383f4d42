/**
 * The clockwork of a running director: expiry, rates, defence, and what follows from changes of the
 * network. Work is cut into slices, so that a request never waits for more than a few milliseconds.
 */

import type { MapEngine } from '../apply/map-engine.ts'
import { UnresolvedHops } from '../connections/unresolved.ts'
import { ESTIMATION_PERIOD_MS } from '../counting/estimator.ts'
import type { Host } from '../rules/host.ts'

/**
 * One beat for everything that is due again and again: waking up is what an idle daemon costs. Expiry is
 * as exact as this.
 */
const BEAT_MS = 1000
/** Beats between two looks at the kernel's settings; at every beat if free memory decides. */
const SETTINGS_BEATS = 10
/** Longest stretch of work in one go. */
const BURST_MS = 4
/** Between two slices of one sweep. */
const SLICE_PAUSE_MS = 20
/** Lines between two looks at the clock. */
const LINES = 16_384
/** How soon the kernel is asked for next hops that packets were dropped for want of. */
const UNRESOLVED_MS = 50
/** Rules come in bursts: the kernel is asked at once to resolve the first, then once in this time. */
const NEIGHBOURS_MS = 10

export interface Housekeeping {
  /** Rules have changed: real servers may have come or gone. */
  rulesChanged(): void
  stop(): void
}

export function startHousekeeping(
  engine: MapEngine,
  host: Host,
  failed: (error: unknown) => void,
): Housekeeping {
  const guarded = (action: () => void) => (): void => {
    try {
      action()
    } catch (error) {
      failed(error)
    }
  }

  let sweeping: NodeJS.Timeout | null = null
  const sweep = guarded(() => {
    sweeping = null
    const stop = performance.now() + BURST_MS
    do {
      if (engine.sweepSlice(LINES)) return
    } while (performance.now() < stop)
    sweeping = setTimeout(sweep, SLICE_PAUSE_MS).unref()
  })

  let estimating: NodeJS.Immediate | null = null
  const estimate = guarded(() => {
    estimating = engine.estimateSlice() ? null : setImmediate(estimate)
  })

  let beats = 0
  const beat = setInterval(
    guarded(() => {
      beats += 1
      if (engine.watchesMemory || beats % SETTINGS_BEATS === 0) engine.publishSettings()
      if (beats % (ESTIMATION_PERIOD_MS / BEAT_MS) === 0 && estimating === null) estimate()
      if (sweeping === null && engine.sweepIsDue()) sweep()
      engine.saveState()
    }),
    BEAT_MS,
  ).unref()

  const searching = engine.dataplane.resolvesNextHops
    ? null
    : setInterval(guarded(searchIn(new UnresolvedHops(engine.dataplane), host)), UNRESOLVED_MS).unref()

  let neighbours: NodeJS.Timeout | null = null
  let kept = ''
  let keptAtMs = Number.NEGATIVE_INFINITY
  const keepNeighbours = guarded(() => {
    neighbours = null
    keptAtMs = performance.now()
    const wanted = [...engine.neighboursWanted()].sort()
    const text = wanted.join(' ')
    if (text === kept) return
    kept = text
    host.keepResolved(wanted)
  })
  const rulesChanged = (): void => {
    const waitMs = Math.max(0, keptAtMs + NEIGHBOURS_MS - performance.now())
    neighbours ??= setTimeout(keepNeighbours, waitMs).unref()
  }

  const unfollow = host.onChange((change) => guarded(() => engine.networkChanged(change))())
  rulesChanged()

  return {
    rulesChanged,
    stop(): void {
      clearInterval(beat)
      if (searching !== null) clearInterval(searching)
      if (sweeping !== null) clearTimeout(sweeping)
      // Forwarding may go on without us, and then nobody else asks the kernel to resolve them.
      if (neighbours !== null) {
        clearTimeout(neighbours)
        keepNeighbours()
      }
      if (estimating !== null) clearImmediate(estimating)
      unfollow()
    },
  }
}

/** One look for next hops that packets waited for in vain; a search of large tables takes several. */
function searchIn(unresolved: UnresolvedHops, host: Host): () => void {
  return () => {
    if (!unresolved.due()) return
    const stop = performance.now() + BURST_MS
    while (performance.now() < stop) {
      const addresses = unresolved.slice(LINES)
      if (addresses === null) continue
      for (const address of addresses) host.resolve(address)
      return
    }
  }
}
