/** What the network adds to the rules in the maps: our addresses, our sources, the age of next hops. */

import type { Dataplane } from '../../dataplane/dataplane.ts'
import type { IpAddress } from '../../net/address.ts'
import { realImage, takesAnyPort } from '../compile/images.ts'
import { publishLocals } from '../compile/locals.ts'
import { isPlaced, Placements } from '../compile/placement.ts'
import { translates } from '../model/server.ts'
import type { LedgerView } from '../plan/ledger.ts'
import type { Operation } from '../plan/operations.ts'
import type { ServiceEntry } from '../rules/entries.ts'
import { type Host, type HostChange, localAddresses } from '../rules/host.ts'
import type { Rules } from '../rules/rules.ts'
import { NextHopEpoch } from './next-hop-epoch.ts'
import { Placing, type Which } from './placing.ts'
import { RealHops } from './real-hops.ts'
import { ServerAddresses } from './server-addresses.ts'

/** Real servers between two looks at the clock. */
const STRIDE = 64

export interface NetworkOptions {
  readonly dataplane: Dataplane
  readonly host: Host
  readonly rules: Rules
  readonly ledger: LedgerView
  /** Services that are about to be brought in force, and placed with that. */
  isPending(service: string): boolean
  execute(operation: Operation): void
}

export class NetworkFacts {
  readonly placements: Placements
  readonly #options: NetworkOptions
  readonly #epoch: NextHopEpoch
  readonly #placing: Placing<ServiceEntry>
  readonly #hops: RealHops | null
  /** Those whose next hops should stay resolved. */
  readonly addresses: ServerAddresses
  #own: ReadonlySet<IpAddress> = new Set()
  #localsLeftOut = 0

  constructor(options: NetworkOptions) {
    this.#options = options
    this.placements = new Placements(options.host)
    const { dataplane, host } = options
    this.addresses = new ServerAddresses(dataplane.map('reals'))
    this.#hops = host.hops === undefined ? null : new RealHops(dataplane, this.addresses, host.hops)
    this.#epoch = new NextHopEpoch(options.dataplane, () => this.#usesNat())
    this.#placing = new Placing<ServiceEntry>(
      (which) => (which === null ? options.rules.entries() : this.#servicesOf(which)),
      (service, which) => this.#place(service, which),
    )
  }

  /** Links, addresses, routes or neighbours are not what they were. */
  changed(change: HostChange): void {
    const { dataplane, host } = this.#options
    this.#epoch.changed(change)
    if (change.links || change.addresses) {
      const { own } = localAddresses(host)
      this.#localsLeftOut = publishLocals(dataplane.map('locals'), own)
      if (!sameSet(own, this.#own)) this.#placing.renew(null)
      this.#own = own
    }
    const { ways } = change
    if (ways !== undefined && ways.size > 0) this.#placing.renew(ways)
    if (ways === undefined && (change.links || change.addresses || change.routes)) this.#placing.renew(null)
  }

  /** Before the data plane is closed: nothing is left to be done by itself. */
  stop(): void {
    this.#epoch.stop()
    this.#placing.stop()
  }

  /** A real server has come to this index, has left it, or is another. */
  touch(real: number): void {
    this.#hops?.touch(real)
    this.addresses.touch(real)
  }

  /** Whether packets can go by what is written down of ways to real servers. */
  get hopsAreOurs(): boolean {
    return this.#hops?.isOurs ?? true
  }

  /** Writes down the ways to real servers that have changed, for some milliseconds; true when all are. */
  renewHops(ms: number): boolean {
    if (this.#hops === null) return true
    return this.#hops.renew(performance.now() + ms)
  }

  /** Brings what the network adds to all real servers up to date; others have their turns meanwhile. */
  placeAll(): void {
    this.#placing.renew(null)
  }

  /** Those that have real servers of these addresses; null where nothing is found for a while. */
  *#servicesOf(which: ReadonlySet<IpAddress>): Generator<ServiceEntry | null> {
    const { ledger, rules } = this.#options
    const keys = new Set<string>()
    while (this.addresses.catchUp(STRIDE)) yield null
    let looked = 0
    for (const address of which) {
      for (const real of this.addresses.of(address)) {
        const key = ledger.real(real)?.service.key
        if (key !== undefined) keys.add(key)
      }
      if (++looked % STRIDE === 0) yield null
    }
    for (const key of keys) yield rules.findKey(key) ?? null
  }

  /** The same for a service, some real servers at a time. */
  *#place({ key: identity }: ServiceEntry, which: Which): Generator<void> {
    const { dataplane, rules, ledger, isPending, execute } = this.#options
    // It may have been removed, or exchanged for another of its identity, since it was listed.
    const service = rules.findKey(identity)
    const holding = ledger.serviceOfKey(identity)
    if (service === undefined || holding === undefined || isPending(identity)) return
    const { u32 } = dataplane.map('reals')
    const { servers } = service
    const standing = { slot: holding.slot, anyPort: takesAnyPort(service.value.id) }
    for (let at = 0; at < servers.length; at++) {
      if (at % STRIDE === STRIDE - 1) {
        yield
        // Somebody else had a turn.
        if (ledger.serviceOfKey(identity) !== holding || isPending(identity)) return
      }
      const server = servers[at]
      if (server === undefined) return
      const { key, value } = server
      const real = holding.reals.get(key)
      if (real === undefined) continue
      if (which !== null && !which.has(value.id.address)) continue
      const placement = this.placements.place(value)
      if (isPlaced(u32, real, placement)) continue
      execute({ op: 'revise-real', real, image: realImage(value, standing, placement) })
    }
  }

  #usesNat(): boolean {
    for (const { servers } of this.#options.rules.entries()) {
      if (servers.some(({ value }) => translates(value.method))) return true
    }
    return false
  }

  /** Checks ask after those that are down, too, which are not in force. */
  addressesAway(): Set<IpAddress> {
    const away = new Set<IpAddress>()
    for (const service of this.#options.rules.entries()) {
      if (service.away.size === 0) continue
      for (const { said } of service.away.values()) away.add(said.id.address)
    }
    return away
  }

  /** What the network has more of than the maps have room for, in sentences for the log. */
  warnings(): readonly string[] {
    const left = this.#localsLeftOut
    if (left === 0) return []
    return [
      `${left} of the addresses of this host are not known to the packet program, whose table is full: packets that claim to come from them are not dropped as martians; see ip -br addr`,
    ]
  }
}

function sameSet(a: ReadonlySet<IpAddress>, b: ReadonlySet<IpAddress>): boolean {
  if (a === b) return true
  if (a.size !== b.size) return false
  for (const one of a) if (!b.has(one)) return false
  return true
}
