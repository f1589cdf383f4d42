/** A director over a data plane, made from what its maps hold. */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { adoptRules } from '../plan/adopt.ts'
import { createDirector, type RuleDirector } from '../rules/director.ts'
import type { Host } from '../rules/host.ts'
import { Rules } from '../rules/rules.ts'
import { MapApplier, type MapApplierOptions } from './map-applier.ts'

export interface ManagedDirector {
  readonly director: RuleDirector
  readonly applier: MapApplier
  readonly rules: Rules
}

export interface OpenDirectorOptions extends Omit<MapApplierOptions, 'rules' | 'saved'> {
  readonly dataplane: Dataplane
  readonly host: Host
}

const EVERYTHING = { links: true, addresses: true, routes: true, neighbours: true }

/** Adopts what the maps and the state file hold. Nothing is published before the first `settle`. */
export function openDirector(options: OpenDirectorOptions): ManagedDirector {
  const rules = new Rules(options.host)
  const applier = new MapApplier({ ...options, rules })
  const { saved, adoption } = applier
  adoptRules(adoption.held, rules, {
    lastWeights: new Map(saved?.lastWeights ?? []),
    saidWeights: new Map(saved?.saidWeights ?? []),
    owners: saved?.owners ?? {},
    holds: saved?.holds ?? [],
  })
  rules.skipOrders(applier.lastOrder)
  // Whoever was here before may have died between two steps, with a record ahead of the schedule it is in.
  rules.lookAtAll()
  applier.networkChanged(EVERYTHING)
  const timeouts = applier.publishedTimeouts()
  const director = createDirector({
    host: options.host,
    rules,
    applier,
    state: {
      ...(timeouts === null ? {} : { timeouts }),
      fullNat: applier.publishedFullNat(),
      ...(saved === null ? {} : { sysctls: saved.sysctls, daemons: saved.daemons, marks: saved.marks }),
    },
  })
  applier.followDaemons(() => director.daemons())
  return { director, applier, rules }
}

/**
 * Puts another data plane below a director, which goes on: `change` moves what the old maps hold into new
 * ones. If it fails, the director goes on over the old ones, and the error is handed back.
 */
export async function exchangePlane(
  { director, applier, rules }: ManagedDirector,
  options: Omit<OpenDirectorOptions, 'dataplane'>,
  change: () => Promise<Dataplane>,
): Promise<{ readonly applier: MapApplier; readonly error: unknown }> {
  let { dataplane } = applier
  let error: unknown = null
  let next = applier
  await director.exchange(async () => {
    await applier.stop()
    const saved = applier.state()
    try {
      dataplane = await change()
    } catch (failure) {
      error = failure
    }
    next = new MapApplier({ ...options, dataplane, rules, saved })
    next.followDaemons(() => director.daemons())
    // Its identity may be another one.
    next.stateChanged()
    next.networkChanged(EVERYTHING)
    return next
  })
  return { applier: next, error }
}
