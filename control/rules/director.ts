/**
 * The director: rules, timeouts, sysctls and daemons as its clients see them (`Director` in
 * control/model/director.ts). With an applier the rules reach packets; without one they are kept and
 * listed.
 */

import type { IpAddress } from '../../net/address.ts'
import { USUAL_LOCAL_PORTS } from '../../net/ports.ts'
import type { ConnectionListing, ConnectionPage, PageQuestion } from '../model/connection.ts'
import { CONNECTION_TABLE_SIZE } from '../model/connection.ts'
import type { Director } from '../model/director.ts'
import { sameButForWeight } from '../model/equal.ts'
import type { ComparedFilters, FilterChange, FilterListing, StatedFilters } from '../model/filter.ts'
import { changedFullNat, type FullNatAddress, type FullNatChange, hasFullNat } from '../model/full-nat.ts'
import type { Hold } from '../model/hold.ts'
import { serverKey, serviceKey } from '../model/identity.ts'
import type { LimitChange, LimitListing, StatedLimits } from '../model/limit.ts'
import { INT_MAX } from '../model/limits.ts'
import type { MarkChange, MarkListing } from '../model/mark.ts'
import type { Outcome } from '../model/outcome.ts'
import { done, refuse, success } from '../model/outcome.ts'
import type { Pace } from '../model/pace.ts'
import type { PortsTaken } from '../model/ports-taken.ts'
import type { RealServer, ServerId, ServerListing } from '../model/server.ts'
import type {
  ServiceId,
  ServiceListing,
  ServiceRequest,
  ServiceState,
  VirtualService,
} from '../model/service.ts'
import { IN_FORCE } from '../model/service.ts'
import type { DirectorSettings } from '../model/site.ts'
import { ORIGINS, type Origin, type SourceName, type StatingSource } from '../model/source.ts'
import { unsupported } from '../model/supported.ts'
import type { SyncDaemon } from '../model/sync-daemon.ts'
import { completeDaemon, type DaemonRequest } from '../model/sync-daemon.ts'
import { checkSysctl, initialSysctls } from '../model/sysctls.ts'
import type { Timeouts } from '../model/timeouts.ts'
import type { Applier, ServiceTally } from './applier.ts'
import { NO_TALLY } from './applier.ts'
import { type ServiceEntry, stated } from './entries.ts'
import type { HeldServer } from './holds.ts'
import { type Host, isLocalAddress, localAddresses } from './host.ts'
import type { Overlays } from './layers.ts'
import { serverListing, serviceListing } from './listing.ts'
import { MarkBook } from './marks.ts'
import { ownedBy, type Restated, type Restatement, type RuleChange, restate } from './restate.ts'
import { UNLIMITED } from './room.ts'
import { noServer, noService, Rules, statedServer } from './rules.ts'

export const DEFAULT_TIMEOUTS: Timeouts = { tcp: 900, tcpFin: 120, udp: 300 }

/** The kernel keeps timeouts in jiffies of a signed 32-bit number; HZ is 250 in Debian. */
const JIFFIES_MAX_S = Math.floor(INT_MAX / 250)

/** What a director starts with: nothing, or what an earlier one left behind. */
export interface DirectorState {
  readonly timeouts?: Timeouts
  readonly sysctls?: Readonly<Record<string, number>>
  readonly daemons?: readonly SyncDaemon[]
  readonly marks?: readonly MarkListing[]
  readonly fullNat?: readonly FullNatAddress[]
}

export interface DirectorOptions {
  readonly host: Host
  /** Filled by whoever adopts what the maps hold. */
  readonly rules?: Rules
  readonly applier?: Applier
  readonly state?: DirectorState
  /** Wall clock, ms; holds have to mean the same after a restart. */
  readonly wallMs?: () => number
}

/** What `ipvsadm -e` asks for when nothing but the weight was typed. */
const UNTYPED = {
  method: 'direct-routing',
  tunnel: { type: 'ipip' },
  upperThreshold: 0,
  lowerThreshold: 0,
} as const

/** A change that came while a transaction was open, to be made again on top of it. */
interface Meanwhile {
  /** Identities of the services it was about. */
  readonly services: readonly string[]
  again(director: RuleDirector): void
}

/**
 * The director stays for as long as the daemon runs. What brings its rules in force may be exchanged below
 * it (another data plane), or be absent.
 */
export class RuleDirector implements Director {
  readonly #host: Host
  readonly #rules: Rules
  #applier: Applier | null
  #sysctls: Record<string, number>
  #daemons = new Map<'master' | 'backup', SyncDaemon>()
  #fullNat: readonly FullNatAddress[]
  #marks: MarkBook
  /** What sources have said of filters and limits, for an applier that comes. */
  readonly #gates: Map<StatingSource, Stated>
  #timeouts: Timeouts
  /** Who the sources are, in words. */
  readonly #origins: Map<SourceName, Origin>
  readonly #wallMs: () => number
  /** In a draft: services whose counters are to be zeroed when it comes in force; null is everything. */
  readonly #zeroed: (ServiceEntry | null)[] | null
  #meanwhile: Meanwhile[] | null = null
  /** Transactions and exchanges of the applier, one after the other. */
  #turn: Promise<unknown> = Promise.resolve()
  /** While the applier is being exchanged. */
  #exchange: Promise<unknown> | null = null
  /** Told whenever changes have come in force. */
  onSettled: () => void = () => {}

  constructor(options: DirectorOptions, draftOf: RuleDirector | null = null) {
    const isDraft = draftOf !== null
    this.#host = options.host
    this.#origins = isDraft ? draftOf.#origins : new Map(Object.entries(ORIGINS) as [SourceName, Origin][])
    this.#wallMs = options.wallMs ?? Date.now
    this.#rules = options.rules ?? new Rules(options.host)
    this.#timeouts = options.state?.timeouts ?? DEFAULT_TIMEOUTS
    this.#sysctls = { ...initialSysctls(), ...options.state?.sysctls }
    this.#fullNat = options.state?.fullNat ?? []
    for (const daemon of options.state?.daemons ?? []) this.#daemons.set(daemon.state, daemon)
    this.#rules.synchronising = this.#daemons.size > 0
    this.#marks = isDraft ? draftOf.#marks.copy() : MarkBook.of(options.state?.marks ?? [])
    this.#gates = isDraft ? draftOf.#gates : new Map()
    this.#applier = options.applier ?? null
    this.#zeroed = isDraft ? [] : null
    if (!isDraft) this.#limit()
  }

  /** The rules have to fit into what the applier has room for. */
  #limit(): void {
    this.#rules.limit(this.#applier?.room ?? UNLIMITED)
    this.#publishSettings()
    this.#publishMarks()
    this.#publishFullNat()
    if (this.#applier === null) return
    this.#applier.filters.origins = (owner) => this.#originOf(owner)
    // Its maps hold what those before had: there is room for it.
    for (const [source, stated] of this.#gates) {
      this.#applier.filters.state(stated, source)
      this.#applier.limits.state(stated, source)
    }
  }

  #originOf(owner: SourceName): Origin {
    return this.#origins.get(owner) ?? ORIGINS[owner]
  }

  #publishMarks(): void {
    if (this.#zeroed === null) this.#applier?.marksChanged(this.#marks.list())
  }

  #publishFullNat(): void {
    if (this.#zeroed === null) this.#applier?.fullNatChanged(this.#fullNat)
  }

  #publishSettings(): void {
    if (this.#zeroed === null) this.#applier?.settingsChanged(this.#timeouts, this.#sysctls)
  }

  /** Notes an accepted change for the transaction that is open, if one is. */
  #noted(outcome: Outcome, services: readonly string[], again: (director: RuleDirector) => void): Outcome {
    if (outcome.ok) this.#meanwhile?.push({ services, again })
    return outcome
  }

  addService(service: ServiceRequest): Outcome {
    const owned = this.#owned(service.id)
    if (owned !== null) return owned
    return this.#noted(this.#rules.addService(service), [serviceKey(service.id)], (director) =>
      director.addService(service),
    )
  }

  editService(service: ServiceRequest): Outcome {
    const owned = this.#owned(service.id)
    if (owned !== null) return owned
    return this.#noted(this.#rules.editService(service), [serviceKey(service.id)], (director) =>
      director.editService(service),
    )
  }

  deleteService(id: ServiceId): Outcome {
    const owned = this.#owned(id)
    if (owned !== null) return owned
    return this.#noted(this.#rules.deleteService(id), [serviceKey(id)], (director) =>
      director.deleteService(id),
    )
  }

  flush(): Outcome<number> {
    const services = this.#meanwhile === null ? [] : Array.from(this.#rules.entries(), ({ key }) => key)
    this.#noted(this.#rules.flush('manual'), services, (director) => director.flush())
    return success(this.#rules.serviceCount)
  }

  /** The refusal for the sake of a service's owner; null where commands may do with it what they like. */
  #owned(id: ServiceId): Outcome<never> | null {
    const owner = this.#rules.find(id)?.owner ?? 'manual'
    if (owner === 'manual') return null
    return refuse('EBUSY', ownedBy(id, this.#originOf(owner)))
  }

  addServer(id: ServiceId, server: RealServer): Outcome {
    const owned = this.#owned(id)
    if (owned !== null) return owned
    return this.#noted(this.#rules.addServer(id, server), [serviceKey(id)], (director) =>
      director.addServer(id, server),
    )
  }

  editServer(id: ServiceId, server: RealServer): Outcome {
    const owned = this.#owned(id)
    if (owned !== null) return this.#holdByEdit(id, server, owned)
    const edited = this.#rules.editServer(id, server)
    // Who says a weight by hand does not want an earlier one held against it.
    if (edited.ok && this.#rules.holdOf(serviceKey(id), serverKey(server.id)) !== null) {
      this.#rules.hold(id, server.id, null)
      this.#holdsChanged()
    }
    return this.#noted(edited, [serviceKey(id)], (director) => director.editServer(id, server))
  }

  /**
   * What a person does at night, whoever states the service: another weight is a hold; the weight that was
   * said ends one. `-e` says everything of a real server, and what was not typed is at ipvsadm's defaults.
   */
  #holdByEdit(id: ServiceId, asked: RealServer, owned: Outcome<never>): Outcome {
    const service = this.#rules.find(id)
    const server = service === undefined ? undefined : statedServer(service, serverKey(asked.id))
    if (server === undefined) return noServer(asked.id)
    const { said } = server
    if (!sameButForWeight(asked, said) && !sameButForWeight(asked, { ...asked, ...UNTYPED })) return owned
    if (asked.weight > INT_MAX || asked.weight < 0) {
      return refuse('ERANGE', `Cannot use weight ${asked.weight}: expected 0 to ${INT_MAX}`)
    }
    if (asked.weight === said.weight) return this.hold(id, asked.id, null)
    const hold = { weight: asked.weight, sinceMs: this.#wallMs(), untilMs: null, by: 'ipvsadm -e' }
    return this.hold(id, asked.id, hold)
  }

  hold(id: ServiceId, server: ServerId, hold: Hold | null): Outcome {
    const outcome = this.#rules.hold(id, server, hold)
    if (outcome.ok) this.#holdsChanged()
    return this.#noted(outcome, [serviceKey(id)], (director) => director.hold(id, server, hold))
  }

  #holdsChanged(): void {
    if (this.#zeroed === null) this.#applier?.stateChanged()
  }

  holds(): readonly HeldServer[] {
    return [...this.#rules.holds.all()]
  }

  /** Ends the holds whose time is over; those that it ended. Somebody has to settle then. */
  endHolds(): readonly HeldServer[] {
    const nowMs = this.#wallMs()
    const over = this.holds().filter(({ hold }) => hold.untilMs !== null && hold.untilMs <= nowMs)
    for (const { service, server } of over) this.hold(service, server, null)
    return over
  }

  /**
   * Overlays say something else than before.
   * @param services identities of those that it can be about; left out: all
   */
  overlay(overlays: Overlays, services?: readonly string[]): void {
    this.#rules.overlay(overlays, services)
    const about =
      this.#meanwhile === null ? [] : (services ?? Array.from(this.#rules.entries(), ({ key }) => key))
    this.#noted(done, about, (director) => director.overlay(overlays, services))
  }

  /**
   * A source says anew all that it wants, and perhaps what it wants of the director: all of it becomes so,
   * or nothing does.
   * @param dry only says what would become of it
   */
  restate(
    restatement: Restatement,
    settings: DirectorSettings,
    pace: Pace,
    options: {
      readonly dry?: boolean
      readonly origin?: Origin
      /** Told when the rules are other ones, before anybody can bring them in force. */
      readonly became?: () => void
    } = {},
  ): Promise<Restated> {
    return this.#inTurn(async () => {
      const draft = this.#draft()
      this.#meanwhile = []
      try {
        const steps = restate(draft.#rules, restatement, this.#origins)
        let step = steps.next()
        while (step.done !== true) {
          if (pace.over) await pace.pass()
          step = steps.next()
        }
        const marks = draft.#takeMarks(restatement)
        const gates = this.#compareGates(restatement)
        const restated = {
          changes: [...step.value.changes, ...marks.changes, ...gates.changes],
          refused: [...step.value.refused, ...draft.#take(settings), ...marks.refused, ...gates.refused],
        }
        if (options.dry === true || restated.refused.length > 0) return restated
        const full = this.#stateGates(restatement)
        if (full.length > 0) return { ...restated, refused: full }
        if (options.origin !== undefined) this.#origins.set(restatement.source, options.origin)
        this.#become(draft, this.#meanwhile)
        this.#meanwhile = null
        options.became?.()
        return restated
      } finally {
        this.#meanwhile = null
      }
    })
  }

  #takeMarks({ marks, source, takeOver }: Restatement): Restated {
    const { changes, refused } = this.#marks.restate(marks, source, takeOver, (owner) =>
      this.#originOf(owner),
    )
    return {
      changes: changes.map(({ difference, rule }) => ({
        change: difference === 'added' ? 'add mark' : 'delete mark',
        id: null,
        rule,
      })),
      refused: refused.map(({ rule, message }) => ({ service: '', server: null, message, what: rule })),
    }
  }

  #compareGates(restatement: Restatement): Restated {
    if (this.#applier === null) return { changes: [], refused: [] }
    const stated = statedGates(restatement)
    const filters = this.#applier.filters.compare(stated, restatement.source)
    const limits = this.#applier.limits.compare(stated, restatement.source)
    return {
      changes: [
        ...filters.differences.map(
          ({ difference, filter }): RuleChange => ({
            change: difference === 'added' ? 'add filter' : 'delete filter',
            id: filter.service,
            filter,
          }),
        ),
        ...limits.differences.map(
          ({ difference, limit }): RuleChange => ({
            change: difference === 'added' ? 'add limit' : 'delete limit',
            id: limit.service,
            limit,
          }),
        ),
      ],
      refused: [
        ...refusedFilters(filters.refused),
        ...limits.refused.map(({ limit, message }) => ({
          service: serviceKey(limit.service),
          server: null,
          message,
        })),
      ],
    }
  }

  /** What is refused, with nothing changed. */
  #stateGates(restatement: Restatement): Restated['refused'] {
    const stated = statedGates(restatement)
    const refused = this.#applier?.filters.state(stated, restatement.source).refused ?? []
    if (refused.length === 0) {
      this.#applier?.limits.state(stated, restatement.source)
      this.#gates.set(restatement.source, stated)
    }
    return refusedFilters(refused)
  }

  /** In a draft: what a source says about the director itself. What it does not say stays as it is. */
  #take({ timeouts, sysctls, daemons, fullNat }: DirectorSettings): Restated['refused'] {
    const outcomes: Outcome[] = []
    if (timeouts !== null) outcomes.push(this.setTimeouts(timeouts))
    for (const [name, value] of Object.entries(sysctls)) outcomes.push(this.setSysctl(name, value))
    if (fullNat !== null) {
      const stated = new Set(fullNat.map(({ address }) => address))
      const others = this.#fullNat.map(({ address }) => address).filter((address) => !stated.has(address))
      outcomes.push(this.changeFullNat({ add: fullNat, delete: others }))
    }
    for (const daemon of daemons) {
      if (this.#daemons.has(daemon.state)) this.stopDaemon(daemon.state)
      outcomes.push(this.startDaemon(daemon))
    }
    return outcomes.flatMap((outcome) =>
      outcome.ok ? [] : [{ service: '', server: null, message: outcome.message }],
    )
  }

  /** How many services each source states. */
  owners(): ReadonlyMap<SourceName, number> {
    const count = new Map<SourceName, number>()
    for (const { owner } of this.#rules.entries()) count.set(owner, (count.get(owner) ?? 0) + 1)
    return count
  }

  origin(source: StatingSource): Origin {
    return this.#origins.get(source) ?? ORIGINS[source]
  }

  deleteServer(id: ServiceId, server: ServerId): Outcome {
    const owned = this.#owned(id)
    if (owned !== null) return owned
    return this.#noted(this.#rules.deleteServer(id, server), [serviceKey(id)], (director) =>
      director.deleteServer(id, server),
    )
  }

  zero(id?: ServiceId): Outcome {
    let service: ServiceEntry | null = null
    if (id !== undefined) {
      service = this.#rules.find(id) ?? null
      if (service === null) return noService(id)
    }
    if (this.#zeroed === null) this.#applier?.zero(service)
    else this.#zeroed.push(service)
    return done
  }

  services(): readonly ServiceListing[] {
    const states = this.states()
    return this.#rules.list().map((service) => this.#listing(service, states))
  }

  /**
   * What is in force with what is counted of it, in the order of `services`; nothing is copied, and counters
   * are read when they are asked for.
   */
  *counted(): Generator<{ readonly entry: ServiceEntry; readonly tally: ServiceTally }> {
    const tallyOf = (entry: ServiceEntry): ServiceTally => this.#tally(entry)
    for (const entry of this.#rules.list()) {
      yield {
        entry,
        // The sum of its real servers; who only counts services does not ask.
        get tally() {
          return tallyOf(entry)
        },
      }
    }
  }

  service(id: ServiceId): Outcome<ServiceListing> {
    const service = this.#rules.find(id)
    return service === undefined ? noService(id) : success(this.#listing(service, this.states()))
  }

  server(id: ServiceId, serverId: ServerId): Outcome<ServerListing> {
    const service = this.#rules.find(id)
    if (service === undefined) return noService(id)
    const server = service.byKey.get(serverKey(serverId))
    if (server === undefined) return noServer(serverId)
    return success(serverListing(server, this.#tally(service), this.#rules.holdOf(service.key, server.key)))
  }

  #listing(service: ServiceEntry, states: ReadonlyMap<string, ServiceState>): ServiceListing {
    const state = states.get(service.key) ?? IN_FORCE
    return serviceListing(service, this.#tally(service), state, this.#rules.holds)
  }

  /** What was made a moment ago has counted nothing, whatever an earlier service of its identity has. */
  #tally(service: ServiceEntry): ServiceTally {
    if (this.#applier === null || this.#rules.changes.created(service.key)) return NO_TALLY
    return this.#applier.tally(service)
  }

  rules(): ReturnType<Director['rules']> {
    return this.#rules.list().map((service) => ({
      service: service.value,
      source: service.owner,
      servers: Array.from(stated(service), (server) => server.said).reverse(),
    }))
  }

  states(): ReadonlyMap<string, ServiceState> {
    return this.#applier?.states() ?? new Map()
  }

  unsupported(service: VirtualService, servers: readonly RealServer[]): readonly string[] {
    const locals = localAddresses(this.#host)
    const why = this.#applier === null ? 'there is no data plane' : this.#applier.whyNoAnswers()
    const isDeaf = (address: IpAddress): string | null => (isLocalAddress(address, locals) ? why : null)
    const isOwn = (address: IpAddress): boolean => isLocalAddress(address, locals)
    return unsupported(service, servers, isDeaf, isOwn, (family) => !hasFullNat(this.#fullNat, family))
  }

  connections(): Iterable<ConnectionListing> {
    return this.#applier?.connections() ?? []
  }

  async connectionPage(
    question: PageQuestion,
    pace: Pace,
    isOver: () => boolean,
  ): Promise<ConnectionPage | string | null> {
    const page = await this.#applier?.connectionPage(question, pace, isOver)
    return page === undefined ? { connections: [], matched: 0, next: null } : page
  }

  async countConnections(pace: Pace): Promise<(service: string, server: string) => number> {
    return (await this.#applier?.countConnections(pace)) ?? (() => 0)
  }

  connectionTableSize(): number {
    return this.#applier?.connectionTableSize() ?? CONNECTION_TABLE_SIZE
  }

  totals(): ReturnType<Director['totals']> {
    return this.#applier?.totals() ?? NO_TALLY
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
    this.#publishSettings()
    return this.#noted(done, [], (director) => director.setTimeouts(timeouts))
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
    return this.#noted(done, [], (director) => director.startDaemon(request))
  }

  stopDaemon(state: 'master' | 'backup'): Outcome {
    if (!this.#daemons.delete(state))
      return refuse('ESRCH', `Cannot stop the ${state} daemon: it does not run`)
    this.#daemonsChanged()
    return this.#noted(done, [], (director) => director.stopDaemon(state))
  }

  #daemonsChanged(): void {
    this.#rules.synchronising = this.#daemons.size > 0
    if (this.#zeroed === null) this.#applier?.stateChanged()
  }

  sysctls(): Readonly<Record<string, number>> {
    return this.#sysctls
  }

  setSysctl(name: string, value: number): Outcome {
    const checked = checkSysctl(name, value)
    if (!checked.ok) return checked
    this.#sysctls[name] = value
    this.#publishSettings()
    if (this.#zeroed === null) this.#applier?.stateChanged()
    return this.#noted(done, [], (director) => director.setSysctl(name, value))
  }

  fullNat(): readonly FullNatAddress[] {
    return this.#fullNat
  }

  portsTaken(): ReadonlyMap<IpAddress, PortsTaken> {
    return this.#applier?.portsTaken() ?? new Map()
  }

  changeFullNat(change: FullNatChange): Outcome {
    const local = this.#host.localPorts?.() ?? USUAL_LOCAL_PORTS
    const changed = changedFullNat(this.#fullNat, change, local)
    if (!changed.ok) return changed
    this.#fullNat = changed.value
    this.#publishFullNat()
    return this.#noted(done, [], (director) => director.changeFullNat(change))
  }

  marks(): readonly MarkListing[] {
    return this.#marks.list()
  }

  changeMarks(change: MarkChange): Outcome {
    const changed = this.#marks.copy()
    const outcome = changed.change(change, 'manual', (owner) => this.#originOf(owner))
    if (!outcome.ok) return outcome
    this.#marks = changed
    this.#publishMarks()
    if (this.#zeroed === null) this.#applier?.stateChanged()
    return this.#noted(done, [], (director) => director.changeMarks(change))
  }

  filters(): Iterable<FilterListing> {
    return this.#applier?.filters.list() ?? []
  }

  changeFilters(change: FilterChange): Outcome {
    if (this.#applier === null) {
      return refuse('EOPNOTSUPP', 'Without a data plane there is nothing to keep filters in')
    }
    return this.#applier.filters.change(change, 'manual')
  }

  limits(): readonly LimitListing[] {
    return this.#applier?.limits.list() ?? []
  }

  changeLimits(change: LimitChange): Outcome {
    if (this.#applier === null) {
      return refuse('EOPNOTSUPP', 'Without a data plane there is nothing to keep limits in')
    }
    return this.#applier.limits.change(change, 'manual')
  }

  async settle(own?: Iterable<ServiceId>): Promise<void> {
    if (this.#zeroed !== null) return
    const keys = own === undefined ? undefined : Array.from(own, serviceKey)
    for (;;) {
      // What changes meanwhile comes in force with the applier that comes.
      while (this.#exchange !== null) await this.#exchange.catch(() => {})
      const applier = this.#applier
      try {
        if (applier === null) this.#rules.changes.clear()
        else await applier.settle(keys)
      } catch (error) {
        // What an applier could not do that has been exchanged meanwhile is the next one's to try.
        if (this.#applier === applier) throw error
      }
      if (this.#applier === applier) break
    }
    this.onSettled()
  }

  #draft(): RuleDirector {
    return new RuleDirector(
      {
        host: this.#host,
        rules: this.#rules.draft(),
        state: {
          timeouts: this.#timeouts,
          sysctls: this.#sysctls,
          daemons: [...this.#daemons.values()],
          fullNat: this.#fullNat,
        },
        wallMs: this.#wallMs,
        ...(this.#applier === null ? {} : { applier: this.#applier }),
      },
      this,
    )
  }

  /** The next one begins when all earlier ones are through. */
  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(action)
    this.#turn = mine.catch(() => {})
    return mine
  }

  transact<T>(body: (draft: Director) => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      const draft = this.#draft()
      this.#meanwhile = []
      try {
        const result = await body(draft)
        this.#become(draft, this.#meanwhile)
        return result
      } finally {
        this.#meanwhile = null
      }
    })
  }

  /**
   * Others did not wait: their changes were answered, may be in force already, and are made again on top.
   * One that has become impossible is left out, so what it was about is compared with the maps.
   */
  #become(draft: RuleDirector, meanwhile: readonly Meanwhile[]): void {
    for (const { services, again } of meanwhile) {
      again(draft)
      for (const key of services) draft.#rules.changes.noteAll(key)
    }
    this.#rules.become(draft.#rules)
    this.#timeouts = draft.#timeouts
    this.#sysctls = draft.#sysctls
    this.#daemons = draft.#daemons
    this.#publishSettings()
    if (draft.#fullNat !== this.#fullNat) {
      this.#fullNat = draft.#fullNat
      this.#publishFullNat()
    }
    if (draft.#marks.version !== this.#marks.version) {
      this.#marks = draft.#marks
      this.#publishMarks()
    }
    this.#applier?.stateChanged()
    for (const service of draft.#zeroed ?? []) {
      // A service of the draft may have been removed by it, or never have been in force.
      const now = service === null ? null : this.#rules.findKey(service.key)
      if (now !== undefined) this.#applier?.zero(now)
    }
  }

  /**
   * Carries on over another applier, which holds what the maps of this one held, or held at some time: all
   * rules are compared with it. Changes made meanwhile wait for it in `settle`; tallies are not known.
   */
  exchange(make: () => Promise<Applier | null>): Promise<void> {
    return this.#inTurn(async () => {
      const exchange = (async () => {
        this.#applier = null
        this.#applier = await make()
        this.#rules.lookAtAll()
        this.#limit()
      })()
      this.#exchange = exchange
      try {
        await exchange
      } finally {
        this.#exchange = null
      }
    })
  }
}

/** What a source has said of what stands in front of its services. */
type Stated = StatedFilters & StatedLimits

function statedGates({ filters, limits, services, takeOver }: Restatement): Stated {
  const keys = new Set(services.map(({ service }) => serviceKey(service.id)))
  return { filters, limits, services: keys, takeOver }
}

function refusedFilters(refused: ComparedFilters['refused']): Restated['refused'] {
  return refused.map(({ filter, message }) => ({
    service: filter.service === null ? '' : serviceKey(filter.service),
    server: null,
    message,
    what: filter,
  }))
}

/** A director over an applier, or one that only keeps rules. */
export function createDirector(options: DirectorOptions): RuleDirector {
  return new RuleDirector(options)
}
