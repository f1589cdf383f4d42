/**
 * The director: rules, timeouts, sysctls and daemons as its clients see them (`Director` in
 * control/model.ts). With an engine the rules reach packets; without one they are kept and listed.
 */

import type { ConnectionListing } from '../model/connection.ts'
import { CONNECTION_TABLE_SIZE } from '../model/connection.ts'
import type { Director } from '../model/director.ts'
import { serverKey } from '../model/identity.ts'
import { INT_MAX } from '../model/limits.ts'
import type { Outcome } from '../model/outcome.ts'
import { done, refuse, success } from '../model/outcome.ts'
import type { RealServer, ServerId, ServerListing } from '../model/server.ts'
import type { ServiceId, ServiceListing, ServiceRequest } from '../model/service.ts'
import type { SyncDaemon } from '../model/sync-daemon.ts'
import { completeDaemon, type DaemonRequest } from '../model/sync-daemon.ts'
import { checkSysctl, initialSysctls } from '../model/sysctls.ts'
import type { Timeouts } from '../model/timeouts.ts'
import type { Engine } from './applier.ts'
import { NO_TALLY } from './applier.ts'
import { newestFirst, type ServerEntry, type ServiceEntry } from './entries.ts'
import type { Host } from './host.ts'
import { noServer, noService, Rules } from './rules.ts'

export const DEFAULT_TIMEOUTS: Timeouts = { tcp: 900, tcpFin: 120, udp: 300 }

/** The kernel keeps timeouts in jiffies of a signed 32-bit number; HZ is 250 in Debian. */
const JIFFIES_MAX_S = Math.floor(INT_MAX / 250)

/** What a director starts with: nothing, or what an earlier one left behind. */
export interface DirectorState {
  readonly timeouts?: Timeouts
  readonly sysctls?: Readonly<Record<string, number>>
  readonly daemons?: readonly SyncDaemon[]
}

export interface DirectorOptions {
  readonly host: Host
  /** Made and filled by the engine when it adopts what the maps hold. */
  readonly rules?: Rules
  readonly engine?: Engine
  readonly state?: DirectorState
}

class RuleDirector implements Director {
  readonly #host: Host
  readonly #rules: Rules
  readonly #engine: Engine | null
  readonly #sysctls: Record<string, number>
  readonly #daemons = new Map<'master' | 'backup', SyncDaemon>()
  #timeouts: Timeouts

  constructor(options: DirectorOptions) {
    this.#host = options.host
    this.#rules = options.rules ?? new Rules(options.host)
    this.#engine = options.engine ?? null
    this.#timeouts = options.state?.timeouts ?? DEFAULT_TIMEOUTS
    this.#sysctls = { ...initialSysctls(), ...options.state?.sysctls }
    for (const daemon of options.state?.daemons ?? []) this.#daemons.set(daemon.state, daemon)
    this.#rules.synchronising = this.#daemons.size > 0
    if (this.#engine !== null) {
      this.#rules.watch(this.#engine)
      this.#engine.settingsChanged(this.#timeouts, this.#sysctls)
    }
  }

  addService(service: ServiceRequest): Outcome {
    return this.#rules.addService(service)
  }

  editService(service: ServiceRequest): Outcome {
    return this.#rules.editService(service)
  }

  deleteService(id: ServiceId): Outcome {
    return this.#rules.deleteService(id)
  }

  flush(): Outcome {
    return this.#rules.flush()
  }

  zero(id?: ServiceId): Outcome {
    if (id === undefined) {
      this.#engine?.zero(null)
      return done
    }
    const service = this.#rules.find(id)
    if (service === undefined) return noService(id)
    this.#engine?.zero(service)
    return done
  }

  addServer(id: ServiceId, server: RealServer): Outcome {
    return this.#rules.addServer(id, server)
  }

  editServer(id: ServiceId, server: RealServer): Outcome {
    return this.#rules.editServer(id, server)
  }

  deleteServer(id: ServiceId, server: ServerId): Outcome {
    return this.#rules.deleteServer(id, server)
  }

  services(): readonly ServiceListing[] {
    return this.#rules.list().map((service) => this.#listing(service))
  }

  service(id: ServiceId): Outcome<ServiceListing> {
    const service = this.#rules.find(id)
    if (service === undefined) return noService(id)
    return success(this.#listing(service))
  }

  server(id: ServiceId, serverId: ServerId): Outcome<ServerListing> {
    const service = this.#rules.find(id)
    if (service === undefined) return noService(id)
    const server = service.byKey.get(serverKey(serverId))
    return server === undefined ? noServer(serverId) : success(this.#serverListing(server))
  }

  #listing(service: ServiceEntry): ServiceListing {
    const { counters, rates } = this.#engine?.serviceTally(service) ?? NO_TALLY
    const servers = Array.from(newestFirst(service), (server) => this.#serverListing(server))
    return { ...service.value, servers, counters, rates }
  }

  #serverListing(server: ServerEntry): ServerListing {
    // Field by field: spreading costs a microsecond, and there may be 100,000 of these.
    const { id, method, tunnel, weight, upperThreshold, lowerThreshold } = server.value
    const tally = this.#engine?.serverTally(server) ?? NO_TALLY
    return {
      id,
      method,
      tunnel,
      weight,
      upperThreshold,
      lowerThreshold,
      activeConns: tally.activeConns,
      inactiveConns: tally.inactiveConns,
      persistentConns: tally.persistentConns,
      counters: tally.counters,
      rates: tally.rates,
    }
  }

  rules(): ReturnType<Director['rules']> {
    return this.#rules.list().map((service) => ({
      service: service.value,
      servers: Array.from(newestFirst(service), (server) => server.value),
    }))
  }

  connections(): Iterable<ConnectionListing> {
    return this.#engine?.connections() ?? []
  }

  connectionTableSize(): number {
    return this.#engine?.connectionTableSize() ?? CONNECTION_TABLE_SIZE
  }

  totals(): ReturnType<Director['totals']> {
    const { counters, rates } = this.#engine?.totals() ?? NO_TALLY
    return { counters, rates }
  }

  timeouts(): Timeouts {
    return this.#timeouts
  }

  setTimeouts(timeouts: Timeouts): Outcome {
    for (const name of ['tcp', 'tcpFin', 'udp'] as const) {
      const value = timeouts[name]
      if (!Number.isInteger(value) || value < 0 || value > JIFFIES_MAX_S) {
        return refuse(
          'EINVAL',
          `Cannot set timeout ${name} to ${value}: expected 0 to ${JIFFIES_MAX_S} seconds`,
        )
      }
    }
    this.#timeouts = {
      tcp: timeouts.tcp || this.#timeouts.tcp,
      tcpFin: timeouts.tcpFin || this.#timeouts.tcpFin,
      udp: timeouts.udp || this.#timeouts.udp,
    }
    this.#engine?.settingsChanged(this.#timeouts, this.#sysctls)
    return done
  }

  daemons(): readonly SyncDaemon[] {
    return (['master', 'backup'] as const).flatMap((state) => this.#daemons.get(state) ?? [])
  }

  startDaemon(request: DaemonRequest): Outcome {
    const nic = this.#host.interfaces().find(({ name }) => name === request.interface)
    const daemon = completeDaemon(request, nic?.mtu ?? 0)
    if (!daemon.ok) return daemon
    if (this.#rules.mixedFamilies > 0) {
      return refuse(
        'EINVAL',
        'Cannot start a sync daemon: some real server is of another family than its service',
      )
    }
    if (nic === undefined) return refuse('ENODEV', `No interface "${request.interface}"`)
    if (this.#daemons.has(request.state)) {
      return refuse('EEXIST', `Cannot start the ${request.state} daemon: it runs already`)
    }
    this.#daemons.set(request.state, daemon.value)
    this.#daemonsChanged()
    return done
  }

  stopDaemon(state: 'master' | 'backup'): Outcome {
    if (!this.#daemons.delete(state))
      return refuse('ESRCH', `Cannot stop the ${state} daemon: it does not run`)
    this.#daemonsChanged()
    return done
  }

  #daemonsChanged(): void {
    this.#rules.synchronising = this.#daemons.size > 0
    this.#engine?.stateChanged()
  }

  sysctls(): Readonly<Record<string, number>> {
    return this.#sysctls
  }

  setSysctl(name: string, value: number): Outcome {
    const checked = checkSysctl(name, value)
    if (!checked.ok) return checked
    this.#sysctls[name] = value
    this.#engine?.settingsChanged(this.#timeouts, this.#sysctls)
    this.#engine?.stateChanged()
    return done
  }

  async settle(): Promise<void> {
    await this.#engine?.settle()
  }
}

/** A director over an engine, or one that only keeps rules. */
export function createDirector(options: DirectorOptions): Director {
  return new RuleDirector(options)
}
