/**
 * The engine over a data plane's maps: collects what changes, brings it in force in `settle`, and keeps
 * the maps' housekeeping (expiry, rates, defence, network) going from `MapEngine.start` to `close`.
 */
import { randomInt } from 'node:crypto'
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { LiveRecord, SettingsRecord } from '../../dataplane/layout/layout.gen.ts'
import type { IpAddress } from '../../net/address.ts'
import { realImage } from '../compile/images.ts'
import { publishLocals } from '../compile/locals.ts'
import { SH_TABLE_SIZE } from '../compile/lookup-table.ts'
import { NatIndex } from '../compile/nat-index.ts'
import { isPlaced, Placements } from '../compile/placement.ts'
import {
  defence,
  publishedNatIcmpSend,
  publishedTimeouts,
  publishSettings,
  settingsWords,
} from '../compile/settings.ts'
import { listConnections } from '../connections/list.ts'
import { Sweep, type SweepReport } from '../connections/sweep.ts'
import { CounterBook } from '../counting/counters.ts'
import { Estimation } from '../counting/estimation.ts'
import type { ConnectionListing } from '../model/connection.ts'
import { MH_TABLE_SIZE } from '../model/scheduler.ts'
import type { SyncDaemon } from '../model/sync-daemon.ts'
import type { Timeouts } from '../model/timeouts.ts'
import { type Adoption, adopt, readCursor } from '../plan/adopt.ts'
import { Ledger, type ServiceHolding } from '../plan/ledger.ts'
import { execute, type Operation, type RuleMaps, ruleMaps } from '../plan/operations.ts'
import { CapacityError, type Change, type PlanContext, planRemoval, planService } from '../plan/plan.ts'
import { blockSize, MemberDemand } from '../plan/ranges.ts'
import type { Engine, ServerTally, Tally } from '../rules/applier.ts'
import { NO_TALLY } from '../rules/applier.ts'
import type { ServerEntry, ServiceEntry } from '../rules/entries.ts'
import { type Host, type HostChange, localAddresses } from '../rules/host.ts'
import type { Rules } from '../rules/rules.ts'
import { packetsMoved } from '../rules/scheduler-state.ts'
import { NextHopEpoch } from './next-hop-epoch.ts'
import { Placing, type Which } from './placing.ts'
import { noStateFile, type SavedState, type StateFile } from './state-file.ts'

const LIVE_WORDS = LiveRecord.size / 4
/** A schedule is not rewritten sooner after it went idle than any packet can still be reading it. */
const SCHEDULE_GRACE_MS = 5
/** Removed real servers keep their index at least this long, as in IPVS's trash. */
const GONE_MS_MIN = 120_000
/** The same when indices run short. */
const GONE_MS_MIN_SHORT = 2_000

interface Pending {
  created: boolean
  reschedule: boolean
  readonly touched: Set<ServerEntry>
  readonly removed: Set<string>
  /** Where the cursor stood when the change began; null for new services. */
  readonly seen: { readonly position: number; readonly weight: number } | null
}

export interface MapEngineOptions {
  readonly dataplane: Dataplane
  readonly host: Host
  readonly rules: Rules
  readonly stateFile?: StateFile
  /** Milliseconds, monotonic. */
  readonly nowMs?: () => number
  /** Told of every step before it is done, in order. */
  readonly trace?: (operation: Operation) => void
  /** Told of what goes wrong without stopping anything. */
  readonly warn?: (message: string) => void
}

export class MapEngine implements Engine {
  readonly dataplane: Dataplane
  readonly adoption: Adoption
  readonly sweep: Sweep
  /** What an earlier director left in the state file. */
  readonly saved: SavedState | null
  readonly #host: Host
  readonly #rules: Rules
  readonly #maps: RuleMaps
  readonly #ledger: Ledger
  readonly #book: CounterBook
  readonly #estimation: Estimation
  readonly #stateFile: StateFile
  readonly #placements: Placements
  readonly #natIndex: NatIndex
  readonly #epoch: NextHopEpoch
  readonly #placing = new Placing<ServiceEntry>(
    () => this.#rules.entries(),
    (service, which) => this.#placeServers(service, which),
  )
  #own: ReadonlySet<IpAddress> = new Set()
  #localsLeftOut = 0
  readonly #nowMs: () => number
  readonly #trace: ((operation: Operation) => void) | null
  readonly #warn: (message: string) => void
  readonly #identity: number
  readonly #pending = new Map<ServiceEntry, Pending>()
  /** Identities of removed services that the maps may still hold. */
  readonly #removed = new Set<string>()
  readonly #counts = { v4: 0, v6: 0, port0: 0, ftp: 0 }
  readonly #demand = new MemberDemand()
  #servers = 0
  #timeouts: Timeouts | null = null
  #sysctls: Readonly<Record<string, number>> = {}
  #daemons: () => readonly SyncDaemon[] = () => []
  #stateDirty = false
  /** Whether the state could not be written at the last try. */
  #stateFailed = false
  #settling: Promise<void> = Promise.resolve()
  #report: SweepReport | null = null
  /** When the sweep under way began (ms). */
  #sweepBeganMs: number

  constructor(options: MapEngineOptions) {
    this.dataplane = options.dataplane
    this.#host = options.host
    this.#rules = options.rules
    this.#stateFile = options.stateFile ?? noStateFile
    this.#placements = new Placements(options.host)
    this.#epoch = new NextHopEpoch(options.dataplane, () => this.#usesNat())
    this.#nowMs = options.nowMs ?? (() => performance.now())
    this.#trace = options.trace ?? null
    this.#maps = ruleMaps(options.dataplane)
    this.#natIndex = new NatIndex(this.#maps)
    this.#ledger = new Ledger(options.dataplane.sizes)
    this.#book = new CounterBook(this.#maps, this.#ledger)
    this.#estimation = new Estimation(this.#maps, this.#ledger)
    this.sweep = new Sweep(options.dataplane)
    this.#sweepBeganMs = this.#nowMs()
    this.#warn = options.warn ?? (() => {})
    this.#identity = identityOf(options.dataplane)
    this.saved = this.#stateFile.load(this.#identity)
    const lastWeights = new Map(this.saved?.lastWeights ?? [])
    this.adoption = adopt(this.#maps, this.#ledger, this.#rules, lastWeights, this.#nowMs())
    this.#afterAdoption()
  }

  #afterAdoption(): void {
    if (this.saved !== null) this.#book.restore(this.saved.counters)
    for (const service of this.#rules.entries()) {
      this.#count(service, 1)
      this.#servers += service.servers.length
      this.#demand.add(this.#demandOf(service, service.servers.length))
    }
    for (const holding of this.#ledger.holdings()) {
      for (const real of holding.reals.values()) this.#estimation.restart(real)
    }
    const settings = this.dataplane.map('settings')
    this.#placements.natSources = publishedNatIcmpSend(settings)
    if (this.#placements.natSources) this.#natIndex.fill()
    this.networkChanged({ links: true, addresses: true, routes: true, neighbours: true })
  }

  /** Timeouts in force before this director; null when the maps are new. */
  publishedTimeouts(): Timeouts | null {
    return publishedTimeouts(this.dataplane.map('settings'))
  }

  /** Where the state file finds the daemons. */
  followDaemons(daemons: () => readonly SyncDaemon[]): void {
    this.#daemons = daemons
  }

  // What the rules tell

  admitService(): boolean {
    return this.#rules.serviceCount < this.#ledger.sizes.services
  }

  admitServer(service: ServiceEntry): boolean {
    const { sizes, goneReals } = this.#ledger
    const count = service.servers.length
    const members = this.#demand.after(this.#demandOf(service, count), this.#demandOf(service, count + 1))
    return members <= sizes.members && this.#servers + goneReals.size < sizes.reals
  }

  #demandOf(service: ServiceEntry, servers: number): number {
    const { scheduler } = service.value
    const table =
      scheduler === 'mh' ? MH_TABLE_SIZE : scheduler === 'sh' || scheduler === 'dh' ? SH_TABLE_SIZE : 0
    return servers === 0 ? 0 : blockSize(servers + table)
  }

  changing(service: ServiceEntry): void {
    if (!this.#pending.has(service)) this.#pend(service, false)
    this.#demand.remove(this.#demandOf(service, service.servers.length))
    this.#servers -= service.servers.length
  }

  #changed(service: ServiceEntry): void {
    this.#demand.add(this.#demandOf(service, service.servers.length))
    this.#servers += service.servers.length
  }

  #pend(service: ServiceEntry, created: boolean): Pending {
    const known = this.#pending.get(service)
    if (known !== undefined) return known
    let seen: Pending['seen'] = null
    if (!created && service.slot >= 0) {
      const cursor = readCursor(this.#maps, service)
      seen = cursor
      service.state.last = cursor.last
      if (service.state.weights !== null) service.state.weight = cursor.weight
    }
    const pending: Pending = { created, reschedule: created, touched: new Set(), removed: new Set(), seen }
    this.#pending.set(service, pending)
    return pending
  }

  serviceAdded(service: ServiceEntry): void {
    this.#removed.delete(service.key)
    this.#pend(service, true)
    this.#count(service, 1)
  }

  serviceEdited(service: ServiceEntry, schedulerChanged: boolean): void {
    const pending = this.#pend(service, false)
    pending.reschedule ||= schedulerChanged
    this.#changed(service)
  }

  serviceRemoved(service: ServiceEntry): void {
    this.#pending.delete(service)
    this.#count(service, -1)
    if (this.#ledger.serviceOfKey(service.key) !== undefined) this.#removed.add(service.key)
  }

  serverChanged(service: ServiceEntry, server: ServerEntry): void {
    const pending = this.#pend(service, false)
    pending.reschedule = true
    pending.touched.add(server)
    this.#changed(service)
    if (service.value.scheduler === 'mh' && server.value.weight === 0) this.#stateDirty = true
  }

  serverRemoved(service: ServiceEntry, server: ServerEntry): void {
    const pending = this.#pend(service, false)
    pending.reschedule = true
    pending.touched.delete(server)
    pending.removed.add(server.key)
    this.#changed(service)
  }

  #count(service: ServiceEntry, by: 1 | -1): void {
    const { id } = service.value
    if (id.family === 4) this.#counts.v4 += by
    else this.#counts.v6 += by
    if (id.kind !== 'address') return
    if (id.port === 0) this.#counts.port0 += by
    if (id.port === 21 && id.protocol === 'tcp') this.#counts.ftp += by
  }

  settingsChanged(timeouts: Timeouts, sysctls: Readonly<Record<string, number>>): void {
    this.#timeouts = timeouts
    this.#sysctls = sysctls
  }

  stateChanged(): void {
    this.#stateDirty = true
  }

  // Bringing changes in force

  /** One at a time; a call made meanwhile covers what changed until then. */
  settle(): Promise<void> {
    const mine = this.#settling.then(() => this.#settle())
    this.#settling = mine.catch(() => {})
    return mine
  }

  async #settle(): Promise<void> {
    const failures: Error[] = []
    for (const service of [...this.#pending.keys()]) {
      try {
        await this.#bringInForce(service)
      } catch (error) {
        if (!(error instanceof CapacityError)) throw error
        // The others do not wait for this one; it is tried again with the next settle.
        failures.push(error)
      }
    }
    this.#applyRemovals()
    this.#natIndex.update()
    this.publishSettings()
    await this.dataplane.published?.()
    this.saveState()
    if (failures[0] !== undefined) throw failures[0]
  }

  async #bringInForce(service: ServiceEntry): Promise<void> {
    for (;;) {
      const pending = this.#pending.get(service)
      if (pending === undefined) return
      const waitMs = this.#apply(service, pending)
      if (waitMs > 0) await sleep(waitMs)
    }
  }

  /** Plans and does one service; or how long to wait before trying again (ms). */
  #apply(service: ServiceEntry, pending: Pending): number {
    const nowMs = this.#nowMs()
    const held = this.#ledger.serviceOfKey(service.key)
    if (held !== undefined && this.dataplane.plane !== 'memory') {
      const graceMs = held.switchedAtMs + SCHEDULE_GRACE_MS - nowMs
      if (graceMs > 0) return graceMs
    }
    this.#catchUp(service, pending)
    const planned = planService(this.#context(nowMs), service, pending satisfies Change)
    if ('waitMs' in planned) return Math.max(1, planned.waitMs)
    this.#pending.delete(service)
    for (const operation of planned) this.#execute(operation)
    // Also in a slot that has counted before, and with real servers revived from an earlier service of
    // these addresses: IPVS zeroes a destination that changes its service.
    if (pending.created && this.#zeroService(service)) this.#stateDirty = true
    return 0
  }

  #context(nowMs: number): PlanContext {
    return {
      ledger: this.#ledger,
      maps: this.#maps,
      nowMs,
      place: (server) => this.#placements.place(server),
    }
  }

  #execute(operation: Operation): void {
    this.#trace?.(operation)
    execute(this.#maps, operation)
    if ('real' in operation) this.#natIndex.touch(operation.real)
    if (operation.op === 'fill-real') this.#estimation.restart(operation.real)
  }

  /** Packets may have moved the cursor between the change and now. */
  #catchUp(service: ServiceEntry, pending: Pending): void {
    if (pending.seen === null) return
    const { position, weight } = readCursor(this.#maps, service)
    if (position === pending.seen.position && weight === pending.seen.weight) return
    const real = this.#chosenReal(service, position)
    packetsMoved(
      service,
      position === 0 ? null : service.servers.find((server) => server.real === real),
      weight,
    )
  }

  /** The real server at a position of the schedule in force. */
  #chosenReal(service: ServiceEntry, position: number): number {
    const range = this.#ledger.serviceOfKey(service.key)?.ranges.find((known) => known !== null)
    if (range === undefined || range === null || position === 0 || position > range.count) return -1
    return this.#maps.members.u32[(range.first + position - 1) * 2]!
  }

  #applyRemovals(): void {
    for (const key of this.#removed) {
      const holding = this.#ledger.serviceOfKey(key)
      if (holding === undefined || holding.state === 'gone') continue
      for (const operation of planRemoval(this.#context(this.#nowMs()), holding)) this.#execute(operation)
    }
    this.#removed.clear()
  }

  /** Whether settings follow the free memory, which changes by itself. */
  get watchesMemory(): boolean {
    return [this.#sysctls.drop_packet, this.#sysctls.secure_tcp].some((mode) => mode === 1 || mode === 2)
  }

  /** Publishes timeouts, sysctls and defence; also once in a while, because some of it changes by itself. */
  publishSettings(): void {
    if (this.#timeouts === null) return
    const state = defence(this.#sysctls, this.watchesMemory ? this.#host.availablePages() : null)
    const settings = this.dataplane.map('settings')
    const { offsets } = SettingsRecord
    // The first packet under a new rate is the one to drop.
    if (settings.u32[offsets.dropRate / 4] !== state.dropRate)
      Atomics.store(settings.u32, offsets.dropCount / 4, 0)
    const words = settingsWords(this.#timeouts, this.#sysctls, this.#counts, state, this.#host)
    // The program looks for NAT real servers from the moment the setting is published until it is not.
    const nat = (this.#sysctls.nat_icmp_send ?? 0) !== 0
    if (nat) this.#followNat(true)
    publishSettings(settings, words)
    if (!nat) this.#followNat(false)
  }

  /** Keeps, or no longer, what nat_icmp_send needs: our address towards each NAT real server, and the index. */
  #followNat(on: boolean): void {
    if (this.#placements.natSources === on) return
    this.#placements.natSources = on
    for (const service of this.#rules.entries()) this.#placeServers(service, null)
    if (on) this.#natIndex.fill()
    else this.#natIndex.clear()
  }

  /**
   * Writes what only the state file keeps, if it has changed. A disk without room is no reason to refuse a
   * rule: the state stays unsaved, and the next beat tries again.
   */
  saveState(): void {
    if (!this.#stateDirty) return
    const lastWeights: [number, number][] = []
    for (const service of this.#rules.entries()) {
      for (const { real, value, lastWeight } of service.servers) {
        if (real >= 0 && value.weight === 0 && lastWeight !== 0) lastWeights.push([real, lastWeight])
      }
    }
    try {
      this.#stateFile.save(this.#identity, {
        sysctls: { ...this.#sysctls },
        daemons: [...this.#daemons()],
        counters: this.#book.state(),
        lastWeights,
      })
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

  serverTally(server: ServerEntry): ServerTally {
    if (server.real < 0) return NO_TALLY
    const base = server.real * LIVE_WORDS
    const { u32 } = this.#maps.live
    return {
      counters: this.#book.real(server.real),
      rates: this.#estimation.reals.rates(server.real),
      activeConns: counted(u32[base + LiveRecord.offsets.active / 4]!),
      inactiveConns: counted(u32[base + LiveRecord.offsets.inactive / 4]!),
      persistentConns: u32[base + LiveRecord.offsets.persistent / 4]!,
    }
  }

  serviceTally(service: ServiceEntry): Tally {
    const holding = this.#ledger.serviceOfKey(service.key)
    if (holding === undefined || this.#pending.get(service)?.created) return NO_TALLY
    return { counters: this.#book.service(holding), rates: this.#estimation.services.rates(holding.slot) }
  }

  totals(): Tally {
    return { counters: this.#book.total(), rates: this.#estimation.total }
  }

  zero(service: ServiceEntry | null): void {
    this.#stateDirty = true
    if (service !== null) {
      this.#zeroService(service)
      return
    }
    for (const entry of this.#rules.entries()) this.#zeroService(entry)
    this.#book.rebaseTotal()
    this.#estimation.resetTotal()
  }

  /** From now on the service and its real servers count from zero; true if they had counted anything. */
  #zeroService(service: ServiceEntry): boolean {
    const holding = this.#ledger.serviceOfKey(service.key)
    if (holding === undefined) return false
    const reals = service.servers.map(({ real }) => real).filter((real) => real >= 0)
    const counted = this.#book.rebaseService(holding, reals)
    this.#estimation.services.reset(holding.slot)
    for (const real of reals) this.#estimation.restart(real)
    return counted
  }

  connections(): Iterable<ConnectionListing> {
    return listConnections(this.sweep.tables, this.#maps.reals, () => this.dataplane.nowTicks())
  }

  connectionTableSize(): number {
    return this.dataplane.sizes.connections4
  }

  /** The last finished sweep; null before the first. */
  get lastSweep(): SweepReport | null {
    return this.#report
  }

  // Housekeeping

  /** Whether a sweep of the tables can have anything to do. */
  sweepIsDue(): boolean {
    return this.sweep.due() || this.#ledger.goneReals.size > 0
  }

  /** Somebody looks after the tables: packets need not (bpf/expiry.h). To be said every second or so. */
  presence(): void {
    const word = SettingsRecord.offsets.swept / 4
    Atomics.store(this.dataplane.map('settings').u32, word, this.dataplane.nowTicks())
  }

  /** One slice of expiry; true when it finished a sweep of the tables. */
  sweepSlice(lines: number): boolean {
    const report = this.sweep.slice(lines, { expireGone: (this.#sysctls.expire_nodest_conn ?? 0) !== 0 })
    if (report === null) return false
    this.#report = report
    this.#reclaim(report)
    this.#sweepBeganMs = this.#nowMs()
    return true
  }

  /** Frees removed real servers that a whole sweep has found no connection of. */
  #reclaim(report: SweepReport): void {
    const nowMs = this.#nowMs()
    const short = this.#ledger.realsFree < this.#ledger.sizes.reals / 16
    const ageMs = short ? GONE_MS_MIN_SHORT : GONE_MS_MIN
    for (const [real, sinceMs] of this.#ledger.goneReals) {
      // Removed while the sweep was under way: lines it had passed may refer to it.
      if (nowMs - sinceMs < ageMs || sinceMs >= this.#sweepBeganMs || report.references[real] !== 0) continue
      const holding = this.#ledger.real(real)?.service
      if (this.#book.fold(real)) this.#stateDirty = true
      this.#execute({ op: 'free-real', real })
      this.#ledger.dropReal(real)
      if (holding !== undefined && holding.state === 'gone' && holding.reals.size === 0)
        this.#freeService(holding)
    }
    this.saveState()
  }

  #freeService(holding: ServiceHolding): void {
    this.#book.forget(holding.slot)
    this.#execute({ op: 'free-service', slot: holding.slot })
    this.#ledger.dropService(holding)
  }

  /** One slice of rate estimation; true when a step of all rates is complete. */
  estimateSlice(): boolean {
    if (this.#sysctls.run_estimation === 0) return true
    return this.#estimation.slice()
  }

  /** Links, addresses, routes or neighbours are not what they were. */
  networkChanged(change: HostChange): void {
    this.#epoch.changed(change)
    if (change.links || change.addresses) {
      const { own } = localAddresses(this.#host)
      this.#localsLeftOut = publishLocals(this.dataplane.map('locals'), own)
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

  /** Brings what the network adds to the real servers in force up to date. */
  #placeServers(service: ServiceEntry, which: Which): void {
    const touched = this.#pending.get(service)?.touched
    for (const server of service.servers) {
      if (server.real < 0 || touched?.has(server)) continue
      if (which !== null && !which.has(server.value.id.address)) continue
      const placement = this.#placements.place(server.value)
      if (isPlaced(this.#maps.reals.u32, server.real, placement)) continue
      const image = realImage(server.value, service.slot, placement)
      this.#execute({ op: 'revise-real', real: server.real, image })
    }
  }

  #usesNat(): boolean {
    for (const { servers } of this.#rules.entries()) {
      if (servers.some(({ value }) => value.method === 'nat')) return true
    }
    return false
  }

  /** Addresses whose next hops should stay resolved. */
  neighboursWanted(): Set<IpAddress> {
    const wanted = new Set<IpAddress>()
    for (const service of this.#rules.entries()) {
      for (const { value } of service.servers) wanted.add(value.id.address)
    }
    return wanted
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

/** What tells these maps from all others: their hash seed, made with them. */
function identityOf(dataplane: Dataplane): number {
  const { u32 } = dataplane.map('settings')
  const seed = SettingsRecord.offsets.hashSeed / 4
  // Attackers who know the hash could fill chosen sets; it must never change under live connections.
  if (u32[seed] === 0) Atomics.store(u32, seed, randomInt(1, 0xffffffff))
  return u32[seed]!
}

/** For nanoseconds a count may be below zero: a connection ends on one CPU before another has counted it. */
function counted(count: number): number {
  return Math.max(0, count | 0)
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
