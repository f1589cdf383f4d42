/** A director over a data plane, made from what its maps hold. */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import type { Director } from '../model/director.ts'
import { createDirector } from '../rules/director.ts'
import type { Host } from '../rules/host.ts'
import { Rules } from '../rules/rules.ts'
import { MapEngine, type MapEngineOptions } from './map-engine.ts'
import type { StateFile } from './state-file.ts'

export interface ManagedDirector {
  readonly director: Director
  readonly engine: MapEngine
  readonly rules: Rules
}

/** Adopts what the maps and the state file hold. Nothing is published before the first `settle`. */
export function openDirector(options: {
  readonly dataplane: Dataplane
  readonly host: Host
  readonly stateFile?: StateFile
  readonly nowMs?: () => number
  readonly trace?: NonNullable<MapEngineOptions['trace']>
  readonly warn?: NonNullable<MapEngineOptions['warn']>
}): ManagedDirector {
  const rules = new Rules(options.host)
  const engine = new MapEngine({ ...options, rules })
  const timeouts = engine.publishedTimeouts()
  const { saved } = engine
  const director = createDirector({
    host: options.host,
    rules,
    engine,
    state: {
      ...(timeouts === null ? {} : { timeouts }),
      ...(saved === null ? {} : { sysctls: saved.sysctls, daemons: saved.daemons }),
    },
  })
  engine.followDaemons(() => director.daemons())
  return { director, engine, rules }
}
