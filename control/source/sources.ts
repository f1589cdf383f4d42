/** All sources that state whole sets, as fronts and status see them. */
import type { SiteService } from '../model/site.ts'
import type { SourceName, StatingSource } from '../model/source.ts'
import type { SiteSource } from './site-source.ts'

export class Sources {
  readonly #sources = new Map<StatingSource, SiteSource>()

  add(source: SiteSource): void {
    this.#sources.set(source.source, source)
  }

  get(name: SourceName): SiteSource | undefined {
    return name === 'manual' ? undefined : this.#sources.get(name)
  }

  all(): readonly SiteSource[] {
    return [...this.#sources.values()]
  }

  /** What the sources in force say, with checks and policies. */
  services(): readonly SiteService[] {
    return this.all().flatMap(({ site }) => site?.services ?? [])
  }
}
