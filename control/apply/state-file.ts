/**
 * What the maps have no place for, kept beside them: sysctls, sync daemons, bases of counters, last
 * weights of drained real servers. Most of it names slots, so it belongs to one set of maps and one boot:
 * each set has a file of its own, named after its hash seed, and a daemon that starts over other maps
 * neither reads it nor takes it away.
 */
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { writeAtomically } from '../../linux/atomic-file.ts'
import type { IpAddress } from '../../net/address.ts'
import { parseAddress } from '../../net/address.ts'
import { SOURCES, STATING_SOURCES } from '../model/source.ts'

const VERSION = 2
/** Files of maps that nobody came back for; more of them are removed, oldest first. */
const FILES_MAX = 8

const address = z.string().transform((text, context): IpAddress => {
  const parsed = parseAddress(text)
  if (parsed !== null) return parsed
  context.addIssue({ code: 'custom', message: `"${text}" is not an address` })
  return z.NEVER
})
const counts = z.array(z.string().regex(/^-?\d+$/))
const rows = z.array(z.tuple([z.int().nonnegative(), counts]))

const family = z.literal([4, 6])
const prefix = z.object({ family, address, length: z.int() })

/** A marking rule, and who states it. */
const mark = z.object({
  family,
  mark: z.int(),
  source: prefix.nullable(),
  destination: prefix.nullable(),
  protocol: z.enum(['tcp', 'udp', 'sctp']).nullable(),
  ports: z.object({ from: z.int(), to: z.int() }).nullable(),
  interface: z.string().nullable(),
  owner: z.enum(SOURCES),
})

const savedState = z.object({
  version: z.literal(VERSION),
  bootId: z.string(),
  /** Hash seed of the maps. */
  maps: z.int(),
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
  /** Index of a real server that an overlay has taken weight from, and the weight that was said. */
  saidWeights: z.array(z.tuple([z.int().nonnegative(), z.int().nonnegative()])),
  /** Services, by identity, of sources that are not commands. */
  owners: z.partialRecord(z.enum(STATING_SOURCES), z.array(z.string())).default({}),
  /** Weights held by hand, by identities of service and real server. */
  holds: z
    .array(
      z.tuple([
        z.string(),
        z.string(),
        z.object({
          weight: z.int().nonnegative(),
          sinceMs: z.number(),
          untilMs: z.number().nullable(),
          by: z.string(),
        }),
      ]),
    )
    .default([]),
  marks: z.array(mark).default([]),
})
export type SavedState = Omit<z.infer<typeof savedState>, 'version' | 'bootId' | 'maps'>

/** Every method takes the identity of the maps that the state is about. */
export interface StateFile {
  load(maps: number): SavedState | null
  /** Complete or not at all: a reader never meets half a file. Throws where it cannot be written. */
  save(maps: number, state: SavedState): void
  remove(maps: number): void
}

/**
 * State files in the daemon's folder.
 * @param warn told when a file exists but cannot be used
 */
export function stateFile(
  directory: string,
  boot: string,
  warn: (message: string) => void = () => {},
): StateFile {
  const pathOf = (maps: number): string => join(directory, `state-${maps.toString(16).padStart(8, '0')}.json`)
  let pruned = false
  return {
    load(maps): SavedState | null {
      const path = pathOf(maps)
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
      return parsed.data.bootId === boot && parsed.data.maps === maps ? parsed.data : null
    },

    save(maps, state): void {
      const path = pathOf(maps)
      try {
        writeAtomically(path, JSON.stringify({ version: VERSION, bootId: boot, maps, ...state }))
      } catch (error) {
        throw new Error(`Cannot write ${path}: ${(error as Error).message}`, { cause: error })
      }
      if (!pruned) prune(directory)
      pruned = true
    },

    remove(maps): void {
      rmSync(pathOf(maps), { force: true })
    },
  }
}

/** Every start with new maps makes a file, and a crash leaves it behind. */
function prune(directory: string): void {
  try {
    const files = readdirSync(directory)
      .filter((name) => /^state-[0-9a-f]{8}\.json$/.test(name))
      .map((name) => ({ path: join(directory, name), age: statSync(join(directory, name)).mtimeMs }))
      .sort((a, b) => b.age - a.age)
    for (const { path } of files.slice(FILES_MAX)) rmSync(path, { force: true })
  } catch {
    // Somebody else tidied up at the same time; the next start tries again.
  }
}

/** Keeps nothing: for data planes that keep nothing either. */
