/**
 * What the maps have no place for, kept beside them: sysctls, sync daemons, bases of counters, last
 * weights of drained real servers. It belongs to one boot, like the maps: after a reboot it is ignored.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import type { IpAddress } from '../../net/address.ts'
import { parseAddress } from '../../net/address.ts'

const VERSION = 1

const address = z.string().transform((text, context): IpAddress => {
  const parsed = parseAddress(text)
  if (parsed !== null) return parsed
  context.addIssue({ code: 'custom', message: `"${text}" is not an address` })
  return z.NEVER
})
const counts = z.array(z.string().regex(/^-?\d+$/))
const rows = z.array(z.tuple([z.int().nonnegative(), counts]))

const savedState = z.object({
  version: z.literal(VERSION),
  bootId: z.string(),
  sysctls: z.record(z.string(), z.int()),
  daemons: z.array(
    z.object({
      state: z.enum(['master', 'backup']),
      interface: z.string(),
      syncId: z.int(),
      maxLength: z.int(),
      group: address,
      port: z.int(),
      ttl: z.int(),
    }),
  ),
  counters: z.object({ reals: rows, services: rows, total: counts }),
  /** Index of a real server whose weight is 0, and its last other weight. */
  lastWeights: z.array(z.tuple([z.int().nonnegative(), z.int().nonnegative()])),
})
export type SavedState = Omit<z.infer<typeof savedState>, 'version' | 'bootId'>

export interface StateFile {
  load(): SavedState | null
  /** Complete or not at all: a reader never meets half a file. */
  save(state: SavedState): void
  remove(): void
}

/**
 * @param warn told when a file exists but cannot be used
 */
export function stateFile(path: string, boot: string, warn: (message: string) => void = () => {}): StateFile {
  return {
    load(): SavedState | null {
      let text: string
      try {
        text = readFileSync(path, 'utf8')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') warn(`Cannot read ${path}: ${String(error)}`)
        return null
      }
      let json: unknown
      try {
        json = JSON.parse(text)
      } catch {
        warn(`Cannot use ${path}: it is no JSON`)
        return null
      }
      const parsed = savedState.safeParse(json)
      if (!parsed.success) {
        warn(`Cannot use ${path}: ${z.prettifyError(parsed.error)}`)
        return null
      }
      return parsed.data.bootId === boot ? parsed.data : null
    },

    save(state: SavedState): void {
      const temporary = join(dirname(path), `.state-${randomUUID()}`)
      try {
        writeFileSync(temporary, JSON.stringify({ version: VERSION, bootId: boot, ...state }), {
          mode: 0o600,
        })
        renameSync(temporary, path)
      } catch (error) {
        rmSync(temporary, { force: true })
        throw new Error(`Cannot write ${path}`, { cause: error })
      }
    },

    remove(): void {
      rmSync(path, { force: true })
    },
  }
}

/** Keeps nothing: for data planes that keep nothing either. */
export const noStateFile: StateFile = { load: () => null, save: () => {}, remove: () => {} }
