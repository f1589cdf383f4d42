/**
 * The clockwork of a running director: expiry, rates, defence, and what follows from changes of the
 * network. Work is cut into slices, so that a request never waits for more than a few milliseconds.
 */
import { ESTIMATION_PERIOD_MS } from './estimator.ts'
import type { Host } from './host.ts'
import type { MapEngine } from './map-engine.ts'
import { UnresolvedHops } from './unresolved.ts'

/** A sweep of all connections takes about this long. */
const SWEEP_MS = 1000
const SWEEP_SLICE_MS = 50
/** Longest stretch of work in one go. */
const BURST_MS = 4
/** Lines between two looks at the clock. */
const LINES = 16_384
const DEFENCE_MS = 1000
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
  const timers = new Set<NodeJS.Timeout>()
  const guarded = (action: () => void) => (): void => {
    try {
      action()
    } catch (error) {
      failed(error)
    }
  }
  const every = (ms: number, action: () => void): void => {
    timers.add(setInterval(guarded(action), ms).unref())
  }

  const linesPerSlice = Math.ceil(engine.sweep.lines / (SWEEP_MS / SWEEP_SLICE_MS))
  every(SWEEP_SLICE_MS, () => {
    const stop = performance.now() + BURST_MS
    for (let left = linesPerSlice; left > 0 && performance.now() < stop; left -= LINES) {
      engine.sweepSlice(Math.min(left, LINES))
    }
  })

  let estimating: NodeJS.Immediate | null = null
  const estimate = guarded(() => {
    estimating = engine.estimateSlice() ? null : setImmediate(estimate)
  })
  every(ESTIMATION_PERIOD_MS, () => {
    if (estimating === null) estimate()
  })

  every(DEFENCE_MS, () => engine.publishSettings())

  const unresolved = new UnresolvedHops(engine.dataplane)
  every(UNRESOLVED_MS, () => {
    if (!unresolved.due()) return
    const stop = performance.now() + BURST_MS
    while (performance.now() < stop) {
      const addresses = unresolved.slice(LINES)
      if (addresses === null) continue
      for (const address of addresses) host.resolve(address)
      return
    }
  })

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
      for (const timer of timers) clearInterval(timer)
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
