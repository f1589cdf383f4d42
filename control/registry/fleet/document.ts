/** What lies in a fleet's registry: revisions of a configuration, which of them is meant, and who has which. */
import { gunzipSync, gzipSync } from 'node:zlib'
import { z } from 'zod'

/** All texts of a configuration, by the paths that they have where it was published. */
export interface FleetTexts {
  readonly main: string
  readonly files: ReadonlyMap<string, string>
  readonly folders: ReadonlyMap<string, readonly string[]>
}

export interface FleetRevision extends FleetTexts {
  readonly revision: number
  readonly by: string
  readonly atMs: number
  /** Of an earlier one that is meant again; null: it is new. */
  readonly rollbackOf: number | null
}

export interface DirectorReport {
  readonly director: string
  /** In force; null: none that came from here. */
  readonly revision: number | null
  readonly sinceMs: number
  readonly state: 'in force' | 'refused'
  /** The one that was refused, and why. */
  readonly refused: number | null
  readonly why: string | null
  readonly version: string
}

/** What an unpacked revision may have: a short value must not become all of the memory. */
const TEXT_BYTES_MAX = 64 * 1024 * 1024

const texts = z.object({
  main: z.string(),
  files: z.array(z.tuple([z.string(), z.string()])),
  folders: z.array(z.tuple([z.string(), z.array(z.string())])),
})
const revision = z.object({
  revision: z.int().min(1),
  by: z.string(),
  atMs: z.number(),
  rollbackOf: z.int().nullable(),
  packed: z.string(),
})
const report = z.object({
  director: z.string(),
  revision: z.int().nullable(),
  sinceMs: z.number(),
  state: z.enum(['in force', 'refused']),
  refused: z.int().nullable(),
  why: z.string().nullable(),
  version: z.string(),
})

export function revisionText({ main, files, folders, ...rest }: FleetRevision): string {
  const inner = JSON.stringify({ main, files: [...files], folders: [...folders] })
  return JSON.stringify({ ...rest, packed: gzipSync(inner).toString('base64') })
}

/** null: it is none. */
export function parseRevision(text: string): FleetRevision | null {
  try {
    const { packed, ...rest } = revision.parse(JSON.parse(text))
    const unpacked = gunzipSync(Buffer.from(packed, 'base64'), { maxOutputLength: TEXT_BYTES_MAX })
    const { main, files, folders } = texts.parse(JSON.parse(unpacked.toString('utf8')))
    return { ...rest, main, files: new Map(files), folders: new Map(folders) }
  } catch {
    return null
  }
}

/** null: it is none. */
export function parseReport(text: string): DirectorReport | null {
  try {
    return report.parse(JSON.parse(text))
  } catch {
    return null
  }
}

/** So that keys have the order of numbers. */
export function revisionKey(prefix: string, number: number): string {
  return `${prefix}/revisions/${String(number).padStart(10, '0')}`
}
