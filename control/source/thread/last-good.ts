/**
 * The texts that came in force last, kept on disk: with a file that is refused, the next daemon goes on with
 * what this one had, checks, sorry servers and pools included, not only with the rules that the maps hold.
 */
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { writeAtomically } from '../../../linux/atomic-file.ts'
import type { StatingSource } from '../../model/source.ts'

export interface GoodTexts {
  readonly source: StatingSource
  readonly path: string
  readonly files: ReadonlyMap<string, string>
  readonly folders: ReadonlyMap<string, readonly string[]>
}

const kept = z.object({
  version: z.literal(1),
  path: z.string(),
  files: z.array(z.tuple([z.string(), z.string()])),
  folders: z.array(z.tuple([z.string(), z.array(z.string())])),
})

/** Files of pools may change every second, and the rest of the site be large. */
const POOLS_MS = 10_000

export class LastGood {
  readonly #folder: string | null
  readonly #saved = new Map<StatingSource, GoodTexts>()
  #later = new Map<StatingSource, NodeJS.Timeout>()

  /** @param folder null: nothing is kept */
  constructor(folder: string | null) {
    this.#folder = folder
  }

  #path(source: StatingSource): string | null {
    return this.#folder === null ? null : join(this.#folder, `last-good-${source}.json`)
  }

  /** What was in force of this file; null: that is not known. */
  load(source: StatingSource, path: string): GoodTexts | null {
    const from = this.#path(source)
    if (from === null) return null
    let json: unknown
    try {
      json = JSON.parse(readFileSync(from, 'utf8'))
    } catch {
      return null
    }
    const parsed = kept.safeParse(json)
    if (!parsed.success || parsed.data.path !== path) return null
    const texts = { source, path, files: new Map(parsed.data.files), folders: new Map(parsed.data.folders) }
    this.#saved.set(source, texts)
    return texts
  }

  /**
   * These texts are in force now. A disk that cannot be written is no reason to refuse them: then an older
   * answer would be worse than none.
   * @param own those that are not read again by themselves
   */
  keep(texts: GoodTexts, own: (path: string) => boolean): void {
    const { source } = texts
    const before = this.#saved.get(source)
    clearTimeout(this.#later.get(source))
    if (before !== undefined && sameTexts(before, texts, () => true)) return
    if (before === undefined || !sameTexts(before, texts, own)) this.#save(texts)
    else {
      const later = setTimeout(() => this.#save(texts), POOLS_MS).unref()
      this.#later.set(source, later)
    }
  }

  #save(texts: GoodTexts): void {
    const { source, path, files, folders } = texts
    const to = this.#path(source)
    if (to === null) return
    try {
      writeAtomically(to, JSON.stringify({ version: 1, path, files: [...files], folders: [...folders] }))
      this.#saved.set(source, texts)
    } catch {
      rmSync(to, { force: true })
      this.#saved.delete(source)
    }
  }
}

function sameTexts(a: GoodTexts, b: GoodTexts, which: (path: string) => boolean): boolean {
  if (a.path !== b.path || a.files.size !== b.files.size || a.folders.size !== b.folders.size) return false
  for (const [path, text] of b.files) if (which(path) && a.files.get(path) !== text) return false
  for (const [path, names] of b.folders) {
    if (a.folders.get(path)?.join('\n') !== names.join('\n')) return false
  }
  return true
}
