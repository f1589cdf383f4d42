/**
 * What a scheduler remembers between connections (IPVS's per-service scheduler data), and how a change of
 * the real servers moves it. Packets move it too, so it stands in the maps alone: rules only note the moves
 * that their changes make, and whoever plans reads the cursor and plays them.
 */
import type { SchedulerName } from '../model/scheduler.ts'
import type { ServerEntry, ServiceEntry } from './entries.ts'

/** Where a scheduler stands. */
export interface Cursor {
  /** Key of the real server chosen last; null is the head of the list, before the first entry. */
  readonly last: string | null
  /** wrr: the current weight. */
  readonly weight: number
}

export const START: Cursor = { last: null, weight: 0 }

/** wrr: step and largest value of the current weight. */
export interface WeightSteps {
  /** Greatest common divisor of the positive weights, 1 if there are none. */
  readonly step: number
  /** Largest weight less (step - 1); 0 if nothing can be chosen. */
  readonly max: number
}

/** What one change does to a cursor. */
export type Move =
  /** The scheduler was given to the service: it starts at the head; wrr at its largest weight. */
  | { readonly move: 'bound'; readonly weight: number }
  /** wrr: the list is another one, and these are its weights. */
  | ({ readonly move: 'reweighted' } & WeightSteps)
  /** A real server has left the list; `previous` stood in front of it, null for the head. */
  | { readonly move: 'left'; readonly key: string; readonly previous: string | null }

export function moved(cursor: Cursor, moves: Iterable<Move>): Cursor {
  let { last, weight } = cursor
  for (const move of moves) {
    switch (move.move) {
      case 'bound':
        last = null
        weight = move.weight
        break
      case 'reweighted':
        last = null
        if (weight > move.max || weight === 0) weight = move.max
        else if (move.step > 1) weight = Math.floor(weight / move.step) * move.step + 1
        break
      case 'left':
        if (last === move.key) last = move.previous
        break
      default:
        move satisfies never
    }
  }
  return { last, weight }
}

export function gcd(a: number, b: number): number {
  while (b !== 0) [a, b] = [b, a % b]
  return a
}

/** Costs the number of different weights, not of real servers. */
export function weightSteps(weights: ReadonlyMap<number, number>): WeightSteps {
  let step = 0
  let max = 0
  for (const weight of weights.keys()) {
    step = gcd(step, weight)
    if (weight > max) max = weight
  }
  if (step === 0) step = 1
  return { step, max: max - (step - 1) }
}

/** How many of `servers` have each positive weight. */
export function weightsOf(servers: Iterable<ServerEntry>): Map<number, number> {
  const weights = new Map<number, number>()
  for (const { value } of servers) count(weights, value.weight, 1)
  return weights
}

function count(weights: Map<number, number>, weight: number, by: 1 | -1): void {
  if (weight <= 0) return
  const left = (weights.get(weight) ?? 0) + by
  if (left === 0) weights.delete(weight)
  else weights.set(weight, left)
}

/** Builds what is derived from the real servers. */
export function weigh(service: ServiceEntry): void {
  service.weights = service.value.scheduler === 'wrr' ? weightsOf(service.servers) : null
}

/** A scheduler is given to a service: at its creation, or by an edit that names another one. */
export function bindScheduler(service: ServiceEntry, scheduler: SchedulerName): Move {
  service.weights = scheduler === 'wrr' ? weightsOf(service.servers) : null
  return { move: 'bound', weight: service.weights === null ? 0 : weightSteps(service.weights).max }
}

export function serverAdded(service: ServiceEntry, server: ServerEntry): Move | null {
  const { weights } = service
  if (weights === null) return null
  count(weights, server.value.weight, 1)
  return { move: 'reweighted', ...weightSteps(weights) }
}

export function serverEdited(service: ServiceEntry, before: number, after: number): Move | null {
  const { weights } = service
  if (weights === null) return null
  count(weights, before, -1)
  count(weights, after, 1)
  return { move: 'reweighted', ...weightSteps(weights) }
}

/**
 * `server` has left the list.
 * @param previous the entry in front of it, null for the head of the list.
 */
export function serverRemoved(
  service: ServiceEntry,
  server: ServerEntry,
  previous: ServerEntry | null,
): Move {
  const { weights } = service
  if (weights === null) return { move: 'left', key: server.key, previous: previous?.key ?? null }
  count(weights, server.value.weight, -1)
  return { move: 'reweighted', ...weightSteps(weights) }
}
