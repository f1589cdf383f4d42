/**
 * The beats of a running director: expiry, rates, defence, and what follows from changes of rules and
 * network. Work is cut into slices, so that a request never waits for more than a few milliseconds.
 */

import type { MapApplier } from '../apply/map-applier.ts'
import { UnresolvedHops } from '../connections/unresolved.ts'
import { ESTIMATION_PERIOD_MS } from '../counting/estimator.ts'
import type { Host } from '../rules/host.ts'
import type { Beat } from './clockwork.ts'

/** Expiry is as exact as this, and so is the defence where free memory decides. */
const BEAT_MS = 1000
/** Between two looks at the kernel's settings. */
const SETTINGS_MS = 10_000
/** Longest stretch of work in one go. */
const BURST_MS = 4
/** What of each second goes into comparing the maps with what is wanted: 100,000 real servers take minutes. */
const COMPARE_MS = 1
/** Between two slices of one sweep. */
const SLICE_PAUSE_MS = 20
/** How many times as long as a sweep has worked nothing is swept then, and how long at most. */
const SWEEP_REST = 100
const SWEEP_REST_MAX_MS = 10_000
/** Lines between two looks at the clock. */
const LINES = 16_384
/** How soon the kernel is asked for next hops that packets were dropped for want of. */
const UNRESOLVED_MS = 50
/** How soon real servers are reached another way, if no event has told of it. */
const HOPS_MS = 200
/** Between two slices of that: with a hundred thousand new ones, others are being brought in force. */
const HOPS_PAUSE_MS = 8
/** Events come in bursts, and one of them can concern all real servers. */
const HOPS_REST_MS = 100
/** Rules come in bursts: the kernel is asked at once to resolve the first, then once in this time. */
const NEIGHBOURS_MS = 10

/** Addresses of real servers that come or go in one go. */
const ADDRESSES = 512

/** The beat that rules which have changed are to ring: real servers may have come or gone. */
export const NEIGHBOURS = 'neighbours of the real servers'

/** The beat that events of the network are to ring. */
export const HOPS = 'hops of real servers'

export function directorBeats(applier: MapApplier, host: Host): readonly Beat[] {
  const beats: Beat[] = [
    { name: 'presence', everyMs: BEAT_MS, run: whole(() => applier.presence()) },
    { name: 'settling', everyMs: BEAT_MS, run: whole(() => applier.settleTables()) },
    { name: 'filters', everyMs: BEAT_MS, run: whole(() => applier.filters.expireSlice()) },
    { name: 'expiry', everyMs: BEAT_MS, run: expiry(applier) },
    {
      name: 'rates',
      everyMs: ESTIMATION_PERIOD_MS,
      run: () => (applier.estimateSlice() ? null : 0),
    },
    { name: 'settings', everyMs: SETTINGS_MS, run: whole(() => applier.publishSettings()) },
    {
      name: 'defence',
      everyMs: BEAT_MS,
      run: whole(() => {
        if (applier.watchesMemory) applier.publishSettings()
      }),
    },
    { name: 'state', everyMs: BEAT_MS, run: whole(() => applier.saveState()) },
    { name: 'comparison', everyMs: BEAT_MS, run: whole(() => applier.compareSlice(COMPARE_MS)) },
    {
      name: HOPS,
      everyMs: HOPS_MS,
      restMs: HOPS_REST_MS,
      run: () => (applier.renewHops(BURST_MS) ? null : HOPS_PAUSE_MS),
    },
    { name: NEIGHBOURS, everyMs: null, restMs: NEIGHBOURS_MS, run: neighbours(applier, host) },
  ]
  if (!applier.dataplane.resolvesNextHops) {
    const run = searchIn(new UnresolvedHops(applier.dataplane), host)
    beats.push({ name: 'next hops', everyMs: UNRESOLVED_MS, run })
  }
  return beats
}

/** Work that is done in one go. */
export const whole = (action: () => void) => (): null => {
  action()
  return null
}

/** A large table is swept more seldom, so that it takes a hundredth of a CPU's time while it is no larger still. */
export function expiry(
  applier: Pick<MapApplier, 'sweepIsDue' | 'sweepSlice'>,
  nowMs: () => number = () => performance.now(),
): () => number | null {
  let sweeping = false
  let workedMs = 0
  let restUntilMs = Number.NEGATIVE_INFINITY
  return () => {
    const beganMs = nowMs()
    if (!sweeping && (beganMs < restUntilMs || !applier.sweepIsDue())) return null
    sweeping = true
    let done = false
    do done = applier.sweepSlice(LINES)
    while (!done && nowMs() < beganMs + BURST_MS)
    const endedMs = nowMs()
    workedMs += endedMs - beganMs
    if (!done) return SLICE_PAUSE_MS
    sweeping = false
    restUntilMs = endedMs + Math.min(workedMs * SWEEP_REST, SWEEP_REST_MAX_MS)
    workedMs = 0
    return null
  }
}

function neighbours(applier: MapApplier, host: Host): () => number | null {
  let told = false
  let more = false
  return () => {
    const { addresses } = applier
    if (!more) applier.followAway()
    if (!told) {
      host.keepResolved(addresses.all())
      told = true
      return null
    }
    const { added, dropped, ...left } = addresses.take(ADDRESSES)
    more = left.more
    if (added.length + dropped.length > 0) host.keepAlso(added, dropped)
    return more ? 0 : null
  }
}

/** One look for next hops that packets waited for in vain; a search of large tables takes several. */
function searchIn(unresolved: UnresolvedHops, host: Host): () => null {
  return () => {
    if (!unresolved.due()) return null
    const stop = performance.now() + BURST_MS
    while (performance.now() < stop) {
      const addresses = unresolved.slice(LINES)
      if (addresses === null) continue
      for (const address of addresses) host.resolve(address)
      return null
    }
    return null
  }
}
