/**
 * The applier over a data plane's maps: puts together who reconciles, counts, expires and follows the
 * network. What each does stands in its own file; here is what they share, and who hears of what.
 */
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { Setting, SettingsRecord } from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import { fullNatWord, readFullNat, writeFullNat } from '../compile/full-nat.ts'
import { refreshInterest } from '../compile/interest.ts'
import { NatIndex } from '../compile/nat-index.ts'
import { publishedNatSenders, publishedTimeouts } from '../compile/settings.ts'
import { countByReal, listConnections } from '../connections/list.ts'
import { readPage } from '../connections/page.ts'
import { planExpiry } from '../connections/reclaim.ts'
import { Sweep, type SweepReport } from '../connections/sweep.ts'
import { CounterBook } from '../counting/counters.ts'
import { Estimation } from '../counting/estimation.ts'
import { Tallies } from '../counting/tallies.ts'
import type { ConnectionListing, ConnectionPage, PageQuestion } from '../model/connection.ts'
import type { FullNatAddress } from '../model/full-nat.ts'
import { serverKey, serviceKey } from '../model/identity.ts'
import type { MarkListing } from '../model/mark.ts'
import type { Pace } from '../model/pace.ts'
import type { PortsTaken } from '../model/ports-taken.ts'
import type { ServiceState } from '../model/service.ts'
import type { SyncDaemon } from '../model/sync-daemon.ts'
import type { Timeouts } from '../model/timeouts.ts'
import { type Adoption, adopt } from '../plan/adopt.ts'
import { Capacity } from '../plan/capacity.ts'
import type { PlanView } from '../plan/draft.ts'
import { Ledger } from '../plan/ledger.ts'
import { execute, type Operation, type RuleMaps, ruleMaps } from '../plan/operations.ts'
import { planSettled } from '../plan/plan.ts'
import { type Applier, NO_TALLY, type ServiceTally, type Tally } from '../rules/applier.ts'
import type { ServiceEntry } from '../rules/entries.ts'
import type { Host, HostChange } from '../rules/host.ts'
import type { Room } from '../rules/room.ts'
import type { Rules } from '../rules/rules.ts'
import { Bypass } from './bypass.ts'
import { type Clock, systemClock } from './clock.ts'
import { Comparison } from './comparison.ts'
import { Cutting } from './cutting.ts'
import { FilterMaps } from './filters.ts'
import { Gates } from './gates.ts'
import { LimitMaps } from './limits.ts'
import { LocalAnswers } from './local-answers.ts'
import { MarkTables } from './marks.ts'
import { NetworkFacts } from './network.ts'
import { OwnClients } from './own-clients.ts'
import { ProbeWays } from './probe-way.ts'
import { Quiet } from './quiet.ts'
import { Reconciler } from './reconciler.ts'
import type { ServerAddresses } from './server-addresses.ts'
import { Settings } from './settings.ts'
import type { SavedState, StateFile } from './state-file.ts'

/** A hundredth of the bits of the filter. */
const FREED_MAX = 4096

const NO_STATE_FILE: StateFile = { load: () => null, save: () => {}, remove: () => {} }

export interface MapApplierOptions {
  readonly dataplane: Dataplane
  readonly host: Host
  readonly rules: Rules
  readonly stateFile?: StateFile
  /** What an applier over a copy of these maps kept beside them; else the state file is asked. */
  readonly saved?: SavedState | null
  readonly clock?: Clock
  /** Makes the hash seed of maps that have none; by chance, unless said otherwise. */
  readonly drawSeed?: () => number
  /** Told of every step before it is done, in order. */
  readonly trace?: (operation: Operation) => void
  /** Told of what goes wrong without stopping anything. */
  readonly warn?: (message: string) => void
  /** Whether the host's own sockets are clients, too, where the data plane can; not unless said otherwise. */
  readonly servesOwn?: boolean
  /** Told of a broken invariant that no caller is waiting for. */
  readonly failed?: (error: unknown) => void
}

export class MapApplier implements Applier {
  readonly dataplane: Dataplane
  readonly adoption: Adoption
  readonly sweep: Sweep
  readonly room: Room
  readonly filters: FilterMaps
  readonly limits: LimitMaps
  /** Where health checks go. */
  readonly probeWays: ProbeWays
  /** Of the services that something was ever said of, beside their own records. */
  readonly lastOrder: number
  /** What an earlier director left in the state file. */
  readonly saved: SavedState | null
  readonly #rules: Rules
  readonly #maps: RuleMaps
  /** Records that were freed since the filter of endpoints forgot what is no more. */
  #freed = 0
  readonly #ledger: Ledger
  readonly #book: CounterBook
  readonly #estimation: Estimation
  readonly #tallies: Tallies
  readonly #natIndex: NatIndex
  readonly #network: NetworkFacts
  readonly #quiet: Quiet
  readonly #settings: Settings
  readonly #marks: MarkTables
  readonly #answers: LocalAnswers
  readonly #own: OwnClients
  readonly #cutting: Cutting
  readonly #view: () => PlanView
  readonly #bypass: Bypass
  readonly #reconciler: Reconciler
  readonly #comparison: Comparison
  readonly #stateFile: StateFile
  readonly #identity: number
  readonly #servesOwn: boolean
  readonly #clock: Clock
  readonly #trace: ((operation: Operation) => void) | null
  readonly #warn: (message: string) => void
  #daemons: () => readonly SyncDaemon[] = () => []
  #markRules: readonly MarkListing[] = []
  #fullNat: readonly FullNatAddress[] = []
  /** Of the settings: how many of them packets may have. */
  #fullNatWord: number
  #stateDirty = false
  /** Whether the state could not be written at the last try. */
  #stateFailed = false
  #report: SweepReport | null = null
  #reportMs: number | null = null
  /** When the sweep under way met its first line (ms). */
  #firstSliceMs: number | null = null
  /** When the sweep under way began (ms). */
  #sweepBeganMs: number

  constructor(options: MapApplierOptions) {
    const { dataplane, host, rules } = options
    this.dataplane = dataplane
    this.#rules = rules
    this.#stateFile = options.stateFile ?? NO_STATE_FILE
    this.#clock = options.clock ?? systemClock
    this.#trace = options.trace ?? null
    this.#warn = options.warn ?? (() => {})
    this.#maps = ruleMaps(dataplane)
    this.#natIndex = new NatIndex(this.#maps)
    this.#ledger = new Ledger(dataplane.sizes)
    const gates = new Gates(dataplane)
    this.lastOrder = gates.lastOrder
    this.filters = new FilterMaps(dataplane, this.#ledger, gates)
    this.limits = new LimitMaps(dataplane, this.#ledger, gates, (owner) => this.filters.origins(owner))
    this.#book = new CounterBook(this.#maps, this.#ledger)
    this.#estimation = new Estimation(this.#maps, this.#ledger)
    this.#tallies = new Tallies(this.#maps, this.#ledger, this.#book, this.#estimation)
    this.sweep = new Sweep(dataplane)
    this.#sweepBeganMs = this.#clock.nowMs()
    this.room = new Capacity(this.#ledger, this.#maps.live, () => this.#clock.nowMs())
    this.#answers = new LocalAnswers(dataplane, (message) => this.#warn(message))
    this.#own = new OwnClients(dataplane, (message) => this.#warn(message))
    this.#cutting = new Cutting(dataplane, (message) => this.#warn(message))
    this.#servesOwn = options.servesOwn ?? false
    this.#network = new NetworkFacts({
      dataplane,
      host,
      rules,
      ledger: this.#ledger,
      isPending: (service) => this.#reconciler.isPending(service),
      execute: (operation) => this.#execute(operation),
    })
    const { placements } = this.#network
    this.probeWays = new ProbeWays(
      dataplane,
      this.#maps,
      this.#ledger,
      this.sweep.tables,
      (server) => placements.place(server),
      host.hops ?? null,
    )
    this.#settings = new Settings(
      dataplane,
      host,
      rules,
      (on) => this.#followNat(on),
      () => ({
        marks: this.#marks.word,
        marksHeld: this.#ledger.holdsMarks,
        filters: this.filters.count > 0,
        limits: this.limits.count > 0,
        answers: this.#answers.areSeen,
        own: this.#own.areServed,
        untracked: rules.kinds.untracked > 0 || this.#ledger.settling.size > 0,
        cuts: this.#cutting.isThere,
        gathers: this.#cutting.gathers,
        bypass: this.#bypass.real((this.#settings.sysctls.cache_bypass ?? 0) !== 0),
        fullNat: this.#fullNatWord,
      }),
    )
    this.#quiet = new Quiet(dataplane, this.#clock, (message) => this.#warn(message))
    this.#marks = new MarkTables(dataplane, host, this.#quiet, this.#clock)
    const view = () => ({
      ledger: this.#ledger,
      maps: this.#maps,
      quietMs: this.#quiet.ms,
      nowTicks: () => dataplane.nowTicks(),
      place: this.#network.placements.place.bind(this.#network.placements),
    })
    this.#view = view
    this.#reconciler = new Reconciler({
      rules,
      ledger: this.#ledger,
      clock: this.#clock,
      quiet: this.#quiet,
      view,
      execute: (operation) => this.#execute(operation),
      created: (service) => this.#created(service),
      publish: () => this.#publish(),
      failed: options.failed ?? (() => {}),
    })
    this.#comparison = new Comparison(view, rules, (service) => this.#reconciler.isPending(service))
    this.#identity = identityOf(dataplane, options.drawSeed ?? drawSeed)
    this.#fullNat = this.publishedFullNat()
    this.#fullNatWord = fullNatWord(this.#fullNat)
    this.saved = options.saved ?? this.#stateFile.load(this.#identity)
    this.adoption = adopt(this.#maps, this.#ledger, this.#clock.nowMs())
    this.#bypass = new Bypass(this.#maps, this.#ledger, (message) => this.#warn(message))
    this.#quiet.await()
    this.#afterAdoption()
  }

  #afterAdoption(): void {
    if (this.saved !== null) this.#book.restore(this.saved.counters)
    for (const holding of this.#ledger.holdings()) {
      for (const real of holding.reals.values()) {
        this.#estimation.restart(real)
        this.#network.touch(real)
        this.#answers.adopt(real)
        this.#cutting.adopt(real)
      }
    }
    this.#network.placements.natSources = publishedNatSenders(this.dataplane.map('settings'))
    this.#network.placements.directSources = this.#own.areServed
    if (this.#network.placements.natSources) this.#natIndex.fill()
  }

  /** Timeouts in force before this director; null when the maps are new. */
  publishedTimeouts(): Timeouts | null {
    return publishedTimeouts(this.dataplane.map('settings'))
  }

  /** Where the state file finds the daemons. */
  followDaemons(daemons: () => readonly SyncDaemon[]): void {
    this.#daemons = daemons
  }

  // Rules in force

  settle(own?: readonly string[]): Promise<void> {
    return this.#reconciler.settle(own)
  }

  states(): ReadonlyMap<string, ServiceState> {
    return this.#reconciler.states()
  }

  whyNoAnswers(): string | null {
    const { dataplane } = this
    if (dataplane.seeAnswers === undefined)
      return `its answers are not seen by the ${dataplane.plane} data plane`
    const answers = dataplane.answers?.() ?? null
    return answers === null || answers.seen ? null : `its answers are not seen: ${answers.refused.join('; ')}`
  }

  /** What was put right in the maps without a change of the rules, by what was wrong. */
  get repairs(): ReadonlyMap<string, number> {
    return this.#reconciler.repairs
  }

  /** A little of the comparison of the maps with what is wanted. */
  compareSlice(ms: number): void {
    for (const found of this.#comparison.slice(performance.now() + ms)) {
      if ('unplaced' in found) this.#network.placeAll()
      else if ('entry' in found) {
        this.#warn(`Entry ${found.entry} of the service index named no service in force: withdrawn`)
        this.#reconciler.withdraw(found.entry)
      } else {
        const { service, difference } = found
        this.#warn(`The ${difference} of service ${service} in the maps was not as wanted: put right`)
        this.#reconciler.repair(service, difference)
      }
    }
  }

  async #publish(): Promise<void> {
    const full = this.filters.lacking()
    if (full !== null) throw new Error(full)
    this.#natIndex.update()
    this.#forgetInterest()
    await this.#marks.fill()
    this.#writeFullNat()
    this.publishSettings()
    this.#marks.switched()
    this.saveState()
    await this.dataplane.published?.()
  }

  #writeFullNat(): void {
    const addresses = this.#fullNat
    writeFullNat(this.dataplane.map('full_nat'), addresses)
    this.#fullNatWord = fullNatWord(addresses)
  }

  /** Bits of endpoints that have gone make the filter coarser, never wrong: they go when there are many. */
  #forgetInterest(): void {
    if (this.#freed < FREED_MAX) return
    this.#freed = 0
    refreshInterest(this.#maps.interest, this.#maps.services, this.#maps.reals, this.probeWays.endpoints())
  }

  #execute(operation: Operation): void {
    this.#trace?.(operation)
    // A service keeps what its real servers counted, and the maps forget it with the index.
    if (operation.op === 'free-real' && this.#book.fold(operation.real)) this.#stateDirty = true
    if (operation.op === 'free-service') this.#book.forget(operation.slot)
    if (operation.op === 'free-real' || operation.op === 'free-service') this.#freed++
    this.#answers.before(operation)
    execute(this.#maps, operation)
    this.#answers.after(operation)
    this.#cutting.after(operation)
    if (
      operation.op === 'fill-service' ||
      (operation.op === 'revise-service' && operation.word === 'order')
    ) {
      this.#keepOut(operation.slot)
    }
    if ('real' in operation) {
      this.#natIndex.touch(operation.real)
      this.#network.touch(operation.real)
    }
    if (operation.op === 'fill-real') this.#estimation.restart(operation.real)
  }

  /** Before packets find a service, those stand ready who may not reach it. */
  #keepOut(slot: number): void {
    this.filters.filled(slot)
    this.limits.filled(slot)
    const flags = this.dataplane.map('settings').u32[SettingsRecord.offsets.flags / 4]!
    const wanted =
      (this.filters.count > 0 ? Setting.Filters : 0) | (this.limits.count > 0 ? Setting.Limits : 0)
    if ((flags & wanted) !== wanted) this.publishSettings()
  }

  /**
   * Also in a slot that has counted before, and with real servers revived from an earlier service of these
   * addresses: IPVS zeroes a destination that changes its service.
   */
  #created(service: ServiceEntry): void {
    if (this.#tallies.zero(service)) this.#stateDirty = true
  }

  // Settings, and what is kept beside the maps

  settingsChanged(timeouts: Timeouts, sysctls: Readonly<Record<string, number>>): void {
    this.#settings.want(timeouts, sysctls)
  }

  fullNatChanged(addresses: readonly FullNatAddress[]): void {
    this.#fullNat = addresses
  }

  portsTaken(): ReadonlyMap<IpAddress, PortsTaken> {
    return this.#report?.portsTaken ?? new Map()
  }

  /** Of the director before this one. */
  publishedFullNat(): readonly FullNatAddress[] {
    return readFullNat(this.dataplane.map('full_nat'), this.dataplane.map('settings'))
  }

  marksChanged(rules: readonly MarkListing[]): void {
    this.#marks.want(rules)
    this.#markRules = rules
  }

  /** Whether the host's own sockets are clients, too, and why not; null: nobody has asked for it. */
  get ownClients(): OwnClients['state'] {
    return this.#own.state
  }

  get watchesMemory(): boolean {
    return this.#settings.watchesMemory
  }

  publishSettings(): void {
    this.#cutting.before(this.#rules.serviceCount > 0)
    this.#own.before(this.#servesOwn && this.#rules.serviceCount > 0)
    this.#followOwn(this.#own.areServed)
    this.#settings.publish()
    this.#answers.published()
    this.#own.after()
  }

  /** Keeps, or no longer, our address towards each DR real server, which own clients are lent. */
  #followOwn(on: boolean): void {
    const { placements } = this.#network
    if (placements.directSources === on) return
    placements.directSources = on
    this.#network.placeAll()
  }

  /** Keeps, or no longer, what nat_icmp_send and engines need: our address towards each NAT real server, and the index. */
  #followNat(on: boolean): void {
    const { placements } = this.#network
    if (placements.natSources === on) return
    placements.natSources = on
    this.#network.placeAll()
    if (on) this.#natIndex.fill()
    else this.#natIndex.clear()
  }

  stateChanged(): void {
    this.#stateDirty = true
  }

  /** What the maps have no place for. */
  state(): SavedState {
    const lastWeights: [number, number][] = []
    const saidWeights: [number, number][] = []
    const owners: SavedState['owners'] = {}
    for (const service of this.#rules.entries()) {
      if (service.owner !== 'manual') {
        const keys = owners[service.owner] ?? []
        owners[service.owner] = keys
        keys.push(service.key)
      }
      const reals = this.#ledger.serviceOfKey(service.key)?.reals
      for (const { key, said, value, lastWeight } of service.servers) {
        if (value.weight !== 0 && said.weight === value.weight) continue
        const real = reals?.get(key)
        if (real === undefined) continue
        if (value.weight === 0 && lastWeight !== 0) lastWeights.push([real, lastWeight])
        if (said.weight !== value.weight) saidWeights.push([real, said.weight])
      }
    }
    return {
      sysctls: { ...this.#settings.sysctls },
      marks: [...this.#markRules],
      daemons: [...this.#daemons()],
      counters: this.#book.state(),
      lastWeights,
      saidWeights,
      owners,
      holds: Array.from(this.#rules.holds.all(), ({ service, server, hold }) => [
        serviceKey(service),
        serverKey(server),
        hold,
      ]),
    }
  }

  /**
   * Writes what only the state file keeps, if it has changed. A disk without room is no reason to refuse a
   * rule: the state stays unsaved, and the next beat tries again.
   */
  saveState(): void {
    if (!this.#stateDirty) return
    try {
      this.#stateFile.save(this.#identity, this.state())
      this.#stateDirty = false
      this.#stateFailed = false
    } catch (error) {
      if (!this.#stateFailed) this.#warn(`${(error as Error).message}; it is tried again every second`)
      this.#stateFailed = true
    }
  }

  /** The maps are about to go: nobody will ask for what was kept beside them. */
  forgetState(): void {
    this.#stateDirty = false
    this.#stateFile.remove(this.#identity)
  }

  // Counters and connections

  tally(service: ServiceEntry): ServiceTally {
    return this.#reconciler.created(service.key) ? NO_TALLY : this.#tallies.service(service.key)
  }

  totals(): Tally {
    return this.#tallies.totals()
  }

  zero(service: ServiceEntry | null): void {
    this.#stateDirty = true
    if (service === null) this.#tallies.zeroAll(this.#rules.entries())
    else this.#tallies.zero(service)
  }

  connections(): Iterable<ConnectionListing> {
    return listConnections(this.sweep.tables, this.#maps.reals, () => this.dataplane.nowTicks())
  }

  connectionPage(
    question: PageQuestion,
    pace: Pace,
    isOver: () => boolean,
  ): Promise<ConnectionPage | string | null> {
    const { tables } = this.sweep
    const { reals } = this.#maps
    return readPage({ tables, reals, nowTicks: () => this.dataplane.nowTicks() }, question, pace, isOver)
  }

  async countConnections(pace: Pace): Promise<(service: string, server: string) => number> {
    const counts = await countByReal(this.sweep.tables, this.#maps.reals.entries, pace)
    return (service, server) => {
      const real = this.#ledger.serviceOfKey(service)?.reals.get(server)
      return real === undefined ? 0 : counts[real]!
    }
  }

  connectionTableSize(): number {
    return this.dataplane.sizes.connections4
  }

  // What the clockwork calls

  /** The last finished sweep; null before the first. */
  get lastSweep(): SweepReport | null {
    return this.#report
  }

  /** From the beginning of that one to its end, with what went on between its slices. */
  get lastSweepMs(): number | null {
    return this.#reportMs
  }

  /** Tables before the ones in force go when their time is over. */
  settleTables(): void {
    if (this.#ledger.settling.size === 0) return
    const steps = planSettled(this.#view())
    if (steps.claims.length === 0) return
    this.#reconciler.apply(steps)
    this.#reconciler.lookAgain()
  }

  /** Whether a sweep of the tables can have anything to do. */
  sweepIsDue(): boolean {
    return this.sweep.due() || this.#ledger.goneReals.size > 0
  }

  /** Writes down the ways to real servers that have changed, for some milliseconds; true when all are. */
  renewHops(ms: number): boolean {
    return this.#network.renewHops(ms)
  }

  /**
   * Somebody looks after the tables, packets need not (bpf/expiry.h), and after the next hops of real servers
   * (bpf/next-hop.h). To be said every second or so.
   */
  presence(): void {
    if (!this.#network.hopsAreOurs) return
    const word = SettingsRecord.offsets.swept / 4
    Atomics.store(this.dataplane.map('settings').u32, word, this.dataplane.nowTicks())
  }

  /** One slice of expiry; true when it finished a sweep of the tables. */
  sweepSlice(lines: number): boolean {
    const { sysctls } = this.#settings
    this.#firstSliceMs ??= this.#clock.nowMs()
    const report = this.sweep.slice(lines, { expireGone: (sysctls.expire_nodest_conn ?? 0) !== 0 })
    if (report === null) return false
    this.#report = report
    const nowMs = this.#clock.nowMs()
    this.#reportMs = nowMs - this.#firstSliceMs
    this.#firstSliceMs = null
    const steps = planExpiry(
      { ledger: this.#ledger, quietMs: this.#quiet.ms },
      report,
      this.#sweepBeganMs,
      nowMs,
    )
    this.#reconciler.apply(steps)
    // Connections that have ended may be what others were waiting for.
    if (steps.operations.length > 0 || report.expired > 0) this.#reconciler.soon()
    this.#sweepBeganMs = nowMs
    return true
  }

  /** One slice of rate estimation; true when a step of all rates is complete. */
  estimateSlice(): boolean {
    if (this.#settings.sysctls.run_estimation === 0) return true
    return this.#estimation.slice()
  }

  networkChanged(change: HostChange): void {
    this.#network.changed(change)
    if (change.links && this.#marks.linksChanged()) this.#reconciler.lookAgain()
  }

  /** Addresses of real servers, which are to stay resolved. */
  get addresses(): ServerAddresses {
    return this.#network.addresses
  }

  /** Those that are out of the list are to stay resolved, too: which these are may have changed. */
  followAway(): void {
    this.addresses.wantAlso(this.#network.addressesAway())
  }

  /** The network is not followed any more: nothing is placed by itself. */
  stopFollowing(): void {
    this.#network.stop()
  }

  /** Another applier takes over, or the daemon ends: nothing is tried again. */
  async stop(): Promise<void> {
    this.#network.stop()
    this.#quiet.stop()
    this.probeWays.stop()
    await this.#reconciler.stop()
  }

  warnings(): readonly string[] {
    return this.#network.warnings()
  }
}

/** What tells these maps from all others: their hash seed, made with them. */
function identityOf(dataplane: Dataplane, draw: () => number): number {
  const { u32 } = dataplane.map('settings')
  const seed = SettingsRecord.offsets.hashSeed / 4
  if (u32[seed] === 0) Atomics.store(u32, seed, draw() || 1)
  return u32[seed]!
}

/** Attackers who know the hash could fill chosen sets; it must never change under live connections. */
function drawSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!
}
