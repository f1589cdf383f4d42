/**
 * One source of services that is read from a file: brings what it says in force, all of it or nothing, and
 * knows how that stands.
 */
import { statSync } from 'node:fs'
import { serverKey, serviceKey } from '../model/identity.ts'
import type { Pace } from '../model/pace.ts'
import type { NamedPoolState } from '../model/pool.ts'
import type { RealServer } from '../model/server.ts'
import type { ServiceId, VirtualService } from '../model/service.ts'
import { type Complaint, type Place, placeText, type Site, type SiteService } from '../model/site.ts'
import { ORIGINS, type Origin, type StatingSource } from '../model/source.ts'
import { isFleetPlace } from '../registry/fleet/place.ts'
import type { RuleDirector } from '../rules/director.ts'
import type { Statement } from '../rules/layers.ts'
import type { RefusedStatement, Restated, RuleChange } from '../rules/restate.ts'
import type { NumberedReading, SiteReader } from './thread/site-reader.ts'

export interface SiteSourceOptions {
  readonly source: StatingSource
  /** What it is read from, unless somebody says otherwise. */
  readonly path: string
  readonly director: RuleDirector
  readonly reader: SiteReader
  readonly pace: () => Pace
  readonly log: SourceLog
  /** Another site is what is wanted; told before it comes in force, so that checks can have their say. */
  readonly applied: () => void
}

export interface SourceLog {
  info(details: object, message: string): void
  error(details: object, message: string): void
}

export type SourceState =
  /** Nothing has been read yet; services of an earlier daemon go on. */
  | { readonly state: 'unread' }
  | { readonly state: 'in force' }
  /** What was read last is wrong, and what was in force before still is. */
  | { readonly state: 'refused'; readonly complaints: readonly Complaint[]; readonly goesOn: GoesOn }

/**
 * What is in force of a source that is refused: what it said `before`; what it said before the daemon started
 * (`last good`); or, where that is not known, the `rules` that were in force, without checks.
 */
export type GoesOn = 'before' | 'last good' | 'rules'

export interface Applied {
  readonly changes: readonly RuleChange[]
  /** Errors: nothing has changed. Remarks alone: it is in force. */
  readonly complaints: readonly Complaint[]
}

/** What a daemon reads before it has a director: it may name interfaces. */
export interface FirstReading {
  readonly now: NumberedReading
  /** Of what was in force last, where that is wrong. */
  readonly lastGood: NumberedReading | null
}

interface Occasion {
  readonly path: string
  readonly takeOver: boolean
  /** When reading began. */
  readonly beganMs: number
  readonly poolsOnly: boolean
}

const NOTHING_WRONG: { readonly whole: readonly Complaint[]; readonly pools: readonly Complaint[] } = {
  ...{ whole: [], pools: [] },
}

/** Times of files come from a clock that ticks so seldom. */
const CLOCK_STEP_MS = 20

/** How often watched files are looked at: by name, so that a replaced one is seen, on any file system. */
export const WATCH_MS = 1000

/** Looks at files that change at each of them, before they are read all the same. */
const UNSETTLED_MAX = 5

export class SiteSource {
  readonly source: StatingSource
  readonly path: string
  readonly #options: SiteSourceOptions
  #state: SourceState = { state: 'unread' }
  #sinceMs = Date.now()
  #site: Site | null = null
  /** Read last from somewhere else than `path`. */
  #from: string
  /** One after the other. */
  #turn: Promise<unknown> = Promise.resolve()
  /** How the watched files looked, at the last look and when they were read. */
  #seen = ''
  #readAs = ''
  #watching = false
  /** Looks in a row that found files being written. */
  #unsettled = 0
  /** What is in force was kept by an earlier daemon. */
  #kept = false
  /** Pools that follow a registry have changed since the last reading began. */
  #stale = false
  #pools: readonly NamedPoolState[] = []
  /** By the list of real servers, which the reader keeps where nothing has changed. */
  readonly #statements = new WeakMap<SiteService['servers'], Statement>()
  /** What is wrong with all of it as it was read last, and with its pools as they were read since. */
  #wrong: { readonly whole: readonly Complaint[]; readonly pools: readonly Complaint[] } = NOTHING_WRONG

  constructor(options: SiteSourceOptions) {
    this.source = options.source
    this.path = options.path
    this.#from = options.path
    this.#options = options
  }

  get state(): SourceState & { readonly sinceMs: number } {
    return { ...this.#state, sinceMs: this.#sinceMs }
  }

  /** What is in force; null: nothing was read since the daemon started. */
  get site(): Site | null {
    return this.#site
  }

  /** Where that was read from. */
  get from(): string {
    return this.#from
  }

  /**
   * Reads it and brings it in force.
   * @param read what was read of it a moment ago
   */
  apply(path = this.path, takeOver = false, read?: NumberedReading): Promise<Applied> {
    return this.#inTurn(async () => {
      const beganMs = Date.now()
      const reading = read ?? (await this.#options.reader.read(this.source, path))
      return await this.#bringIn(reading, { path, takeOver, beganMs, poolsOnly: false })
    })
  }

  /**
   * At the daemon's start: what it says, or, if that is refused, what was last in force of it; that it is
   * refused stays said.
   * @param read what was read of it a moment ago, and of what was in force if that is wrong
   */
  async start(read?: FirstReading): Promise<Applied> {
    const applied = await this.apply(this.path, false, read?.now)
    if (this.#site !== null) return applied
    await this.#inTurn(async () => {
      const beganMs = Date.now()
      const { reader, log } = this.#options
      const good = read?.lastGood ?? (await reader.read(this.source, this.path, 'last good'))
      const refused = this.#wrong
      if (good.site === null || this.#site !== null) return
      await this.#bringIn(good, { path: this.path, takeOver: false, beganMs, poolsOnly: false })
      this.#kept = this.#site !== null
      // Pools may have changed since.
      this.#readAs = ''
      this.#found(refused)
      const { source, path } = this
      if (this.#site !== null) log.error({ source, path }, 'Going on with what was last in force of it')
    })
    return applied
  }

  /** What `apply` would change. */
  diff(path = this.path, takeOver = false): Promise<Applied> {
    return this.#inTurn(async () => {
      const { site, complaints } = await this.#options.reader.read(this.source, path)
      if (site === null) return { changes: [], complaints }
      const restated = await this.#restate(site, path, takeOver, true)
      return { changes: restated.changes, complaints: [...complaints, ...places(restated.refused, site)] }
    })
  }

  /** How the pools stand that follow a registry. */
  get pools(): readonly NamedPoolState[] {
    return this.#pools
  }

  poolsStand(pools: readonly NamedPoolState[]): void {
    for (const pool of pools) this.#tellPool(pool)
    this.#pools = pools
  }

  /** A registry has said something else: it is read at once, and again if more was said meanwhile. */
  poolsChanged(): void {
    this.#stale = true
    if (!this.#watching && this.#site !== null) this.#readPools()
  }

  /** Looks at the watched files; a changed one is read when it has not changed since the last look. */
  watch(): void {
    // What failed when it was tried, too.
    if (this.#stale) this.poolsChanged()
    const watched = this.#site?.watched ?? []
    if (watched.length === 0 || this.#watching) return
    const now = looks(watched)
    if (now === this.#readAs) {
      this.#seen = now
      this.#unsettled = 0
      return
    }
    // One that is always being written would never be read.
    const settled = now === this.#seen || ++this.#unsettled >= UNSETTLED_MAX
    this.#seen = now
    if (!settled) return
    this.#unsettled = 0
    this.#readAs = now
    this.#readPools()
  }

  #readPools(): void {
    this.#watching = true
    let done = false
    void this.#inTurn(async () => {
      const path = this.#from
      const beganMs = Date.now()
      this.#stale = false
      const reading = await this.#options.reader.read(this.source, path, 'pools')
      await this.#bringIn(reading, { path, takeOver: false, beganMs, poolsOnly: true })
      done = true
    })
      .catch((error: unknown) => this.#options.log.error({ err: error }, 'Cannot read the pools again'))
      .finally(() => {
        this.#watching = false
        const again = this.#stale
        this.#stale = again || !done
        if (done && again) this.poolsChanged()
      })
  }

  async #bringIn(reading: NumberedReading, occasion: Occasion): Promise<Applied> {
    const { path, takeOver, beganMs, poolsOnly } = occasion
    const { complaints } = reading
    if (reading.site === null) return this.#refused(occasion, complaints)
    const missing = this.#missingPools(reading.site, poolsOnly)
    if (missing.length > 0) return this.#refused(occasion, [...complaints, ...missing])
    let site = reading.site
    const became = (): void => {
      this.#site = site
      this.#options.applied()
    }
    let restated = await this.#restate(site, path, takeOver, false, became)
    const without = withoutRefused(site, restated.refused, this.source === 'kubernetes')
    if (without !== null) {
      const [first] = restated.refused
      const { source } = this
      this.#options.log.error(
        { source, skipped: restated.refused.length },
        `What cannot be is left out of what others state: ${first?.message ?? ''}`,
      )
      site = without
      restated = await this.#restate(site, path, takeOver, false, became)
    }
    if (restated.refused.length > 0) {
      return this.#refused(occasion, [...complaints, ...places(restated.refused, site)])
    }
    const left = new Set(site.services)
    const out = reading.site.services.filter((one) => !left.has(one)).map(({ at }) => at.file)
    this.#options.reader.applied(reading, this.source === 'kubernetes' ? out : [])
    this.#from = path
    if (!poolsOnly) this.#kept = false
    // A pool that is right again says nothing about a file that was refused as a whole.
    this.#found(poolsOnly ? { ...this.#wrong, pools: [] } : NOTHING_WRONG)
    this.#seen = looks(site.watched)
    // What was written while it was read may not have been read.
    this.#readAs = changedSince(site.watched, beganMs - CLOCK_STEP_MS) ? '' : this.#seen
    await this.#options.director.settle(idsOf(restated.changes))
    const { source } = this
    this.#options.log.info({ source, path, ...countChanges(restated.changes) }, 'applied')
    return { changes: restated.changes, complaints }
  }

  /**
   * What is in force must not lose its real servers to a pool of which nobody has heard anything yet. When there
   * is nothing in force yet it is no loss.
   */
  #missingPools(site: Site, poolsOnly: boolean): Complaint[] {
    if (poolsOnly || this.#site === null) return []
    const before = new Set(this.#site.followed.map(poolIdentity))
    const at = { file: site.files[0] ?? '', line: 1, column: 1 }
    return site.followed
      .filter((pool) => !pool.known && !before.has(poolIdentity(pool)))
      .map(({ pool, registry, address }) => ({
        at,
        message: `Pool "${pool}" is not known yet: registry "${registry}" (${address.kind}) has not answered; when it does: pointsman apply`,
        severity: 'error',
      }))
  }

  /** Once for each state of affairs. */
  #tellPool(pool: NamedPoolState): void {
    const before = this.#pools.find((one) => one.pool === pool.pool)
    const name = `Pool ${pool.pool} (${pool.kind} ${pool.name})`
    const details = { source: this.source, pool: pool.pool }
    if (pool.away !== null && before?.away?.sinceMs !== pool.away.sinceMs) {
      this.#options.log.error(details, `${name}: its registry is away, what is known stays: ${pool.away.why}`)
    }
    if (pool.away === null && before?.away) this.#options.log.info(details, `${name}: its registry is back`)
    if (pool.held !== null && before?.held?.sinceMs !== pool.held.sinceMs) {
      this.#options.log.error(details, `${name}: held back, ${pool.held.why}`)
    }
    if (pool.held === null && before?.held) this.#options.log.info(details, `${name}: no longer held back`)
    if (pool.badCount > (before?.badCount ?? 0)) {
      const [first] = pool.bad
      const what = first === undefined ? '' : `, the first is ${first.key}: ${first.why}`
      this.#options.log.error(details, `${name}: ${pool.badCount} entries are skipped${what}`)
    }
  }

  #restate(
    site: Site,
    path: string,
    takeOver: boolean,
    dry: boolean,
    became: () => void = () => {},
  ): Promise<Restated> {
    const services = site.services.map((one) => this.#statement(one))
    const filters = site.services.flatMap(({ service, filters }) =>
      filters.map((filter) => ({ ...filter, service: service.id })),
    )
    const limits = site.services.flatMap(({ service, limit }) =>
      limit === null ? [] : [{ ...limit, service: service.id }],
    )
    const ofAll = site.filters.map((filter) => ({ ...filter, service: null }))
    const gate = { filters: [...ofAll, ...filters], marks: site.marks, limits }
    const restatement = { source: this.source, services, takeOver, ...gate }
    return this.#options.director.restate(restatement, site.director, this.#options.pace(), {
      dry,
      became,
      origin: originOf(this.source, path),
    })
  }

  /** What was read to the same values is the same statement: of ten thousand most are not to be looked at. */
  #statement({ service, servers }: SiteService): Statement {
    const known = this.#statements.get(servers)
    if (known?.service === service) return known
    const statement = { service, servers: servers.map(({ real }) => real) }
    this.#statements.set(servers, statement)
    return statement
  }

  #refused({ path, poolsOnly }: Occasion, complaints: readonly Complaint[]): Applied {
    this.#found(poolsOnly ? { ...this.#wrong, pools: complaints } : { whole: complaints, pools: [] })
    const [first] = complaints
    const more = complaints.length > 1 ? `, and ${complaints.length - 1} more` : ''
    const told = first === undefined ? '' : ` ${placeText(first.at)}: ${first.message}${more}`
    this.#options.log.error({ source: this.source, path }, `Cannot apply, nothing has changed:${told}`)
    return { changes: [], complaints }
  }

  #found(wrong: typeof NOTHING_WRONG): void {
    this.#wrong = wrong
    const complaints = [...wrong.whole, ...wrong.pools]
    const [first] = complaints.filter(({ severity }) => severity === 'error')
    this.#options.reader.stands(
      this.source,
      first === undefined ? null : `${placeText(first.at)}: ${first.message}`,
    )
    const goesOn = this.#site === null ? 'rules' : this.#kept ? 'last good' : 'before'
    this.#become(complaints.length > 0 ? { state: 'refused', complaints, goesOn } : { state: 'in force' })
  }

  #become(state: SourceState): void {
    if (state.state !== this.#state.state) this.#sinceMs = Date.now()
    this.#state = state
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(action)
    this.#turn = mine.catch(() => {})
    return mine
  }
}

function poolIdentity({ address, name }: Site['followed'][number]): string {
  return JSON.stringify([address.kind, address.endpoints, address.datacenter, name])
}

/**
 * The site without those of the refused real servers that came out of a registry: one of them must not keep all
 * others out. null: something else is refused, too, or nothing is.
 * @param servicesToo of a site that nobody has written as a whole
 */
function withoutRefused(site: Site, refused: readonly RefusedStatement[], servicesToo: boolean): Site | null {
  if (refused.length === 0) return null
  if (servicesToo) {
    const names = new Set(refused.map(({ service }) => service))
    return { ...site, services: site.services.filter(({ service }) => !names.has(serviceKey(service.id))) }
  }
  const followed = new Set(site.followed.map(({ pool }) => pool))
  const out = new Map<string, Set<string>>()
  for (const { service, server } of refused) {
    if (server === null) return null
    out.set(service, (out.get(service) ?? new Set()).add(server))
  }
  let stated = false
  const services = site.services.map((one) => {
    const names = out.get(serviceKey(one.service.id))
    if (names === undefined) return one
    const servers = one.servers.filter(({ real, pool }) => {
      if (!names.has(serverKey(real.id))) return true
      if (pool === null || !followed.has(pool)) stated = true
      return false
    })
    return { ...one, servers }
  })
  return stated ? null : { ...site, services }
}

function originOf(source: StatingSource, path: string): Origin {
  if (isFleetPlace(path)) {
    const title = `the fleet's configuration in ${path.replace(/\?.*/, '')}`
    return {
      title,
      instead: `change it for all of them: pointsman apply --to ${path.replace(/\?.*/, '')} FILE`,
    }
  }
  if (source === 'kubernetes') return ORIGINS.kubernetes
  const title = source === 'file' ? `the file ${path}` : path
  const instead =
    source === 'file'
      ? 'change it there, then: pointsman apply'
      : 'change it there, then: systemctl reload pointsmand'
  return { title, instead }
}

/** The identity, size and time of each file, as text to be compared. */
function looks(files: readonly string[]): string {
  return files
    .map((file) => {
      const stat = statSync(file, { bigint: true, throwIfNoEntry: false })
      return stat === undefined ? 'absent' : `${stat.ino} ${stat.size} ${stat.mtimeNs}`
    })
    .join('\n')
}

function changedSince(files: readonly string[], ms: number): boolean {
  return files.some((file) => (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0) >= ms)
}

/** What the rules refuse, at the places of the site that asked for it. */
function places(refused: readonly RefusedStatement[], site: Site): Complaint[] {
  if (refused.length === 0) return []
  const at = new Map(site.services.map(({ service, at }) => [serviceKey(service.id), at]))
  const first = { file: site.files[0] ?? '', line: 1, column: 1 }
  return refused.map(({ service, message, what }) => ({
    at: (what !== undefined && 'at' in what ? (what.at as Place) : at.get(service)) ?? first,
    message,
    severity: 'error',
  }))
}

export function idsOf(changes: readonly RuleChange[]): ServiceId[] {
  const ids = new Map<string, ServiceId>()
  let last: ServiceId | null = null
  for (const { id } of changes) {
    if (id === null) continue
    // Changes of one service stand together: a hundred thousand keys would keep others waiting.
    if (id !== last) ids.set(serviceKey(id), id)
    last = id
  }
  return [...ids.values()]
}

/** How many of each kind. */
export function countChanges(changes: readonly RuleChange[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { change } of changes) counts[change] = (counts[change] ?? 0) + 1
  return counts
}

/** In words: `weight 3 -> 0, method nat -> tunnel`. */
export function differences(
  before: RealServer | VirtualService,
  after: RealServer | VirtualService,
): readonly string[] {
  return Object.entries(after).flatMap(([name, value]) => {
    const was: unknown = Reflect.get(before, name)
    const [from, to] = [JSON.stringify(was), JSON.stringify(value)]
    return name === 'id' || from === to ? [] : [`${name} ${text(was)} -> ${text(value)}`]
  })
}

function text(value: unknown): string {
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value)
}
