/**
 * What states whole sets of services, as the daemon follows it: files and clusters are read when it starts, when they
 * change, and when it is told to; what becomes of each is told to the log and to those who look at events.
 */
import { existsSync } from 'node:fs'
import type { Logger } from 'pino'
import { isMachineTrouble } from '../../linux/machine-error.ts'
import { Turns } from '../apply/turns.ts'
import type { Journal } from '../model/journal.ts'
import { placeText, type Site } from '../model/site.ts'
import type { StatingSource } from '../model/source.ts'
import { CapacityError } from '../plan/plan.ts'
import { isFleetPlace } from '../registry/fleet/place.ts'
import type { RuleDirector } from '../rules/director.ts'
import { DEFAULT_CONFIG } from '../source/file/default-path.ts'
import {
  type Applied,
  type FirstReading,
  SiteSource,
  type SourceLog,
  WATCH_MS,
} from '../source/site-source.ts'
import type { Sources } from '../source/sources.ts'
import type { SiteReader } from '../source/thread/site-reader.ts'
import { whole } from './beats.ts'
import type { Beat } from './clockwork.ts'

/** Where each is; null: none of that kind, but for the usual file. */
export interface SourcePlaces {
  readonly config: string | null
  readonly keepalived: string | null
  readonly kubernetes: string | null
}

export interface FollowedOptions {
  readonly places: SourcePlaces
  readonly reader: SiteReader
  readonly director: RuleDirector
  readonly journal: Journal
  readonly log: Logger
  /** Told when another site is in force. */
  readonly applied: () => void
  /** Told of what nobody is waiting for. */
  readonly failed: (what: string, error: unknown) => void
  readonly isEnding: () => boolean
}

/** What ends the reading thread at once would do so again. */
const FOLLOW_AGAIN_MS = 1000
/** Of one file in the log; pointsman check has them all. */
const REMARKS_MAX = 50

export class FollowedSources {
  /** Where fronts find them. */
  readonly #sources: Sources
  readonly #options: FollowedOptions
  /** The last ones, by source. */
  readonly #remarks = new Map<SiteSource, ReadonlySet<string>>()

  constructor(sources: Sources, options: FollowedOptions) {
    this.#sources = sources
    this.#options = options
  }

  /** Brings all in force that can be read. `first`: the file as it was read before there was a director. */
  async open(first: FirstReading | null): Promise<void> {
    const { places, reader } = this.#options
    const file = this.#add('file', places.config ?? DEFAULT_CONFIG)
    const other = places.keepalived === null ? null : this.#add('keepalived', places.keepalived)
    const cluster = places.kubernetes === null ? null : this.#add('kubernetes', places.kubernetes)
    reader.onNotice = (notice) => {
      const source = this.#sources.get(notice.source)
      if (notice.kind === 'pools') source?.poolsStand(notice.pools)
      else if (this.#options.isEnding() || source === undefined) return
      else if (notice.kind === 'stale') source.poolsChanged()
      else this.#applyAgain(source)
    }
    reader.onLost = () => {
      // The next reading starts another thread, which follows what it reads of.
      const timer = setTimeout(() => this.#followAgain(), FOLLOW_AGAIN_MS)
      timer.unref()
    }
    if (first !== null) await this.#apply(file, () => file.start(first))
    if (other !== null) await this.#apply(other, () => other.start())
    if (cluster !== null) await this.#apply(cluster, () => cluster.start())
  }

  /** Looks whether files that others depend on have changed. */
  beat(): Beat {
    const watch = (): void => {
      if (this.#options.isEnding()) return
      for (const source of this.#sources.all()) source.watch()
    }
    return { name: 'files of pools', everyMs: WATCH_MS, run: whole(watch) }
  }

  /** Reads all of them again. */
  async applyAll(): Promise<void> {
    for (const source of this.#sources.all()) {
      if (this.#isWanted(source)) await this.#apply(source, () => source.apply())
    }
  }

  #followAgain(): void {
    if (this.#options.isEnding()) return
    for (const source of this.#sources.all()) {
      if (source.pools.length > 0) source.poolsChanged()
      else if (source.source === 'kubernetes' || isFleetPlace(source.path)) this.#applyAgain(source)
    }
  }

  #applyAgain(source: SiteSource): void {
    this.#apply(source, () => source.apply()).catch((error: unknown) =>
      this.#options.failed(`follow ${source.source}`, error),
    )
  }

  #add(source: StatingSource, path: string): SiteSource {
    const { director, reader, applied } = this.#options
    const added = new SiteSource({
      ...{ source, path, director, reader, applied },
      log: this.#logOf(source),
      pace: () => new Turns(),
    })
    this.#sources.add(added)
    return added
  }

  #logOf(source: StatingSource): SourceLog {
    const { journal, log } = this.#options
    const tell = (message: string, details: object): void => {
      const { path, err, ...counts } = details as { readonly path?: string; readonly err?: Error }
      const more = Object.entries(counts).filter(([, count]) => typeof count === 'number' && count > 0)
      const words = [
        message,
        path ?? '',
        err?.message ?? '',
        ...more.map(([what, count]) => `${what} ${count}`),
      ]
      const text = words.filter((word) => word !== '').join(' ')
      journal.add({ kind: 'source', about: source, words: text })
    }
    return {
      info: (details, message) => {
        log.info(details, message)
        tell(message, details)
      },
      error: (details, message) => {
        log.error(details, message)
        tell(message, details)
      },
    }
  }

  /** What was in force before stays so if it cannot be read, and the source says why. */
  async #apply(source: SiteSource, apply: () => Promise<Applied>): Promise<void> {
    const { log } = this.#options
    try {
      const { complaints } = await apply()
      const remarks = complaints.filter(({ severity }) => severity === 'remark')
      const told = remarks.slice(0, REMARKS_MAX).map(({ at, message }) => `${placeText(at)}: ${message}`)
      // What follows something else is brought in again and again, and remarks are said once.
      const before = this.#remarks.get(source)
      this.#remarks.set(source, new Set(told))
      for (const remark of told) if (before?.has(remark) !== true) log.warn(remark)
    } catch (error) {
      if (!isMachineTrouble(error) && !(error instanceof CapacityError)) throw error
      log.error({ err: error, source: source.source }, 'Cannot bring all of it in force')
    }
  }

  /** Nobody has to have the usual file; one that is gone is another matter. */
  #isWanted({ path, state }: SiteSource): boolean {
    const { config } = this.#options.places
    return path !== DEFAULT_CONFIG || config !== null || state.state !== 'unread' || existsSync(path)
  }
}

/** Before anything is opened: the file may name the interfaces. null: there is none to be read. */
export async function readConfiguration(
  reader: SiteReader,
  config: string | null,
): Promise<FirstReading | null> {
  if (config === null && !existsSync(DEFAULT_CONFIG)) return null
  const path = config ?? DEFAULT_CONFIG
  const now = await reader.read('file', path)
  return { now, lastGood: now.site === null ? await reader.read('file', path, 'last good') : null }
}

/** These, and those that sites name. */
export function interfacesOf(names: readonly string[], sites: readonly (Site | null)[]): readonly string[] {
  return [...new Set([...names, ...sites.flatMap((site) => site?.director.interfaces ?? [])])]
}
