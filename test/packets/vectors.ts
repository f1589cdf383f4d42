/**
 * Recorded vectors: rules, frames in, frames and listings out, as kernel IPVS gave them.
 *
 * One JSON array per area. Frames are complete Ethernet frames without FCS in hexadecimal; `expect` names
 * every frame that the director sent on both wires. `volatile` names bytes that no two runs share.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

export type Wire = 'c' | 'r'

export interface WireFrame {
  readonly wire: Wire
  readonly frame: string
}

export interface PartialChecksum {
  /** Offset in the frame from which the transport checksum sums. */
  readonly start: number
  /** Place of the checksum field, from `start`. */
  readonly offset: number
}

export interface InjectStep {
  readonly inject: WireFrame & { readonly partial_checksum?: PartialChecksum }
  readonly expect: readonly WireFrame[]
  readonly note?: string
}

export interface RunStep {
  readonly run: readonly string[]
  readonly expect_stdout: string
  readonly stdout_lines?: readonly string[]
  readonly unordered?: boolean
  readonly rc?: number
  readonly stderr?: string
}

export interface WaitStep {
  readonly wait_ms: number
}

export type Step = InjectStep | RunStep | WaitStep
export type Setup = readonly string[] | { readonly sysctl: string }

export interface Volatile {
  readonly step: number
  readonly frame: number
  /** Half-open range of offsets in the frame. */
  readonly bytes: readonly [number, number]
  readonly why: string
}

export interface Vector {
  readonly name: string
  readonly area: string
  readonly kernel: string
  readonly setup: readonly Setup[]
  readonly steps: readonly Step[]
  readonly volatile?: readonly Volatile[]
}

export const isInject = (step: Step): step is InjectStep => 'inject' in step
export const isRun = (step: Step): step is RunStep => 'run' in step
export const isWait = (step: Step): step is WaitStep => 'wait_ms' in step

/** All vectors of the named files, and of the `.json` files in named folders, in order of file name. */
export function loadVectors(paths: readonly string[]): Vector[] {
  return paths.flatMap((path) => {
    if (statSync(path).isDirectory()) {
      const files = readdirSync(path)
        .filter((name) => name.endsWith('.json'))
        .sort()
      return loadVectors(files.map((name) => join(path, name)))
    }
    return parseVectors(readFileSync(path, 'utf8'), path)
  })
}

function parseVectors(text: string, path: string): Vector[] {
  const parsed: unknown = JSON.parse(text)
  if (!Array.isArray(parsed) || !parsed.every(isVector)) {
    throw new Error(`Cannot use ${path}: expected a JSON array of vectors with name, area, setup and steps`)
  }
  return parsed
}

function isVector(value: unknown): value is Vector {
  if (typeof value !== 'object' || value === null) return false
  const { name, area, setup, steps } = value as Record<string, unknown>
  return typeof name === 'string' && typeof area === 'string' && Array.isArray(setup) && Array.isArray(steps)
}
