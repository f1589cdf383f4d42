/** Rules with what is counted of them, as clients see them. */
import type { Counters, Rates } from '../model/counters.ts'
import type { Hold } from '../model/hold.ts'
import type { ForwardingMethod, ServerId, ServerListing, Tunnel } from '../model/server.ts'
import type { ServiceListing, ServiceState } from '../model/service.ts'
import type { ServerTally, ServiceTally } from './applier.ts'
import { newestFirst, type ServerEntry, type ServiceEntry } from './entries.ts'
import type { HoldBook } from './holds.ts'

export function serviceListing(
  service: ServiceEntry,
  tally: ServiceTally,
  state: ServiceState,
  holds: HoldBook,
): ServiceListing {
  return {
    ...service.value,
    source: service.owner,
    state,
    // When somebody looks at it: of thousands of services only one is there in full.
    get servers() {
      return Array.from(newestFirst(service), (server) =>
        serverListing(server, tally, holds.of(service.key, server.key)),
      )
    },
    get counters() {
      return tally.counters
    },
    get rates() {
      return tally.rates
    },
  }
}

export function serverListing(server: ServerEntry, service: ServiceTally, hold: Hold | null): ServerListing {
  return new ListedServer(server, service.server(server.key), hold)
}

/** There may be 100,000 of these: rules and connections as they are now, and the rest for those who look at it. */
class ListedServer implements ServerListing {
  readonly id: ServerId
  readonly method: ForwardingMethod
  readonly tunnel: Tunnel
  readonly weight: number
  readonly upperThreshold: number
  readonly lowerThreshold: number
  readonly saidWeight: number
  readonly hold: Hold | null
  readonly activeConns: number
  readonly inactiveConns: number
  readonly persistentConns: number
  readonly #tally: ServerTally

  constructor({ said, value }: ServerEntry, tally: ServerTally, hold: Hold | null) {
    this.id = value.id
    this.method = value.method
    this.tunnel = value.tunnel
    this.weight = value.weight
    this.upperThreshold = value.upperThreshold
    this.lowerThreshold = value.lowerThreshold
    this.saidWeight = said.weight
    this.hold = hold
    this.activeConns = tally.activeConns
    this.inactiveConns = tally.inactiveConns
    this.persistentConns = tally.persistentConns
    this.#tally = tally
  }

  get counters(): Counters {
    return this.#tally.counters
  }

  get rates(): Rates {
    return this.#tally.rates
  }
}
