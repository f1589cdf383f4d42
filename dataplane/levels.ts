/**
 * How much of a connection table is in use (PM_LEVEL in bpf/types.h): new lines are placed in one level of
 * it, lines may stand in others that have been left. The packet program makes it larger when it gets full,
 * the daemon smaller.
 */
import type { Sizes } from './dataplane.ts'
import { PM_LEVEL, PM_LEVELS, PM_LEVELS_SHIFT, PM_LINES_LEAST, SettingsRecord } from './layout/layout.gen.ts'

export interface Levels {
  /** Of new lines. */
  readonly current: number
  /** A bit for each other one that lines may stand in. */
  readonly others: number
}

export function readLevels(word: number): Levels {
  return { current: word & PM_LEVEL, others: word >>> PM_LEVELS_SHIFT }
}

export function levelsWord({ current, others }: Levels): number {
  return ((others << PM_LEVELS_SHIFT) | current) >>> 0
}

/** The level of a table that nothing is in. */
export function firstLevel(lines: number): number {
  const level = Math.ceil(Math.log2(lines / PM_LINES_LEAST))
  return Math.min(Math.max(level, 0), PM_LEVELS - 1)
}

/** Of a table's lines, those that may be in use: they are the first. */
export function linesInUse(lines: number, word: number): number {
  const { current, others } = readLevels(word)
  const all = others | (1 << current)
  const largest = 31 - Math.clz32(all & -all)
  return lines >>> largest
}

/** Of maps that are made anew: their tables start small. */
export function startSmall(settings: DataView, sizes: Pick<Sizes, 'connections4' | 'connections6'>): void {
  const word = (lines: number) => levelsWord({ current: firstLevel(lines), others: 0 })
  SettingsRecord.setLevels4(settings, 0, word(sizes.connections4))
  SettingsRecord.setLevels6(settings, 0, word(sizes.connections6))
}
