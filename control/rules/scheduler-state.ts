/**
 * What a scheduler remembers between connections (IPVS's per-service scheduler data), and how a change
 * of the real servers moves it. Packets move it too: the engine reads it back from the maps before the
 * first change and writes it out with the new schedule.
 */

import type { SchedulerName } from '../model/scheduler.ts'
import { type SchedulerState, type ServerEntry, type ServiceEntry, startState } from './entries.ts'

/** wrr: step and largest value of the current weight. */
export interface WeightSteps {
  /** Greatest common divisor of the positive weights, 1 if there are none. */
  readonly step: number
  /** Largest weight less (step - 1); 0 if nothing can be chosen. */
  readonly max: number
}

function gcd(a: number, b: number): number {
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

function count(weights: Map<number, number>, weight: number, by: 1 | -1): void {
  if (weight <= 0) return
  const left = (weights.get(weight) ?? 0) + by
  if (left === 0) weights.delete(weight)
  else weights.set(weight, left)
}

/** What every change of a wrr service's real servers does to its state. */
function recompute(state: SchedulerState, weights: Map<number, number>): void {
  const { step, max } = weightSteps(weights)
  state.last = null
  if (state.weight > max || state.weight === 0) state.weight = max
  else if (step > 1) state.weight = Math.floor(state.weight / step) * step + 1
}

/** A scheduler is given to a service: at its creation, or by an edit that names another one. */
export function bindScheduler(service: ServiceEntry, scheduler: SchedulerName): void {
  const state = startState()
  if (scheduler === 'wrr') {
    state.weights = new Map()
    for (const server of service.servers) count(state.weights, server.value.weight, 1)
    state.weight = weightSteps(state.weights).max
  }
  service.state = state
}

/** Builds what is derived from the real servers, keeping position and current weight (adoption). */
export function restoreState(service: ServiceEntry, last: ServerEntry | null, weight: number): void {
  bindScheduler(service, service.value.scheduler)
  service.state.last = last
  service.state.weight = weight
}

export function serverAdded(service: ServiceEntry, server: ServerEntry): void {
  const { weights } = service.state
  if (weights === null) return
  count(weights, server.value.weight, 1)
  recompute(service.state, weights)
}

export function serverEdited(service: ServiceEntry, before: number, after: number): void {
  const { weights } = service.state
  if (weights === null) return
  count(weights, before, -1)
  count(weights, after, 1)
  recompute(service.state, weights)
}

/**
 * `server` has left the list.
 * @param previous the entry in front of it, null for the head of the list.
 */
export function serverRemoved(
  service: ServiceEntry,
  server: ServerEntry,
  previous: ServerEntry | null,
): void {
  const { state } = service
  if (state.weights !== null) {
    count(state.weights, server.value.weight, -1)
    recompute(state, state.weights)
  } else if (state.last === server) {
    state.last = previous
  }
}

/**
 * Packets have moved the state after it was read for a change that is not in force yet.
 * @param last chosen last according to the maps; undefined if it has left the list since
 */
export function packetsMoved(
  service: ServiceEntry,
  last: ServerEntry | null | undefined,
  weight: number,
): void {
  const { state } = service
  if (state.weights !== null) {
    state.weight = weight
    recompute(state, state.weights)
  } else if (last !== undefined) {
    state.last = last
  }
}
