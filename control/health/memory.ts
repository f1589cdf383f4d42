/**
 * What was known of health, for the next daemon: nothing flaps because one was started again. It lies in the
 * run directory, which does not outlive the machine's start.
 */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { writeAtomically } from '../../linux/atomic-file.ts'
import type { ProbeMemory } from './probe.ts'

const VERSION = 1

const weight = z.union([
  z.object({ kind: z.literal('is'), weight: z.number() }),
  z.object({ kind: z.literal('plus'), weight: z.number() }),
  z.object({ kind: z.literal('share'), share: z.number() }),
])
const state = z.enum(['up', 'down'])
const remembered = z.object({
  version: z.literal(VERSION),
  bootId: z.string(),
  /** By question (`Probe.key`). */
  probes: z.record(
    z.string(),
    z.object({
      state: z.enum(['unknown', 'up', 'down']),
      sinceMs: z.number(),
      words: z.string(),
      weight: weight.nullable(),
      changes: z.array(z.object({ atMs: z.number(), state, words: z.string() })),
    }),
  ),
  /** By identities of service and real server, with a bar between. */
  servers: z.record(z.string(), z.object({ state, sinceMs: z.number() })),
  /** By identity. */
  services: z.record(z.string(), z.object({ state, sinceMs: z.number() })),
})

export interface Known {
  readonly state: 'up' | 'down'
  readonly sinceMs: number
}

export interface HealthMemory {
  readonly probes: Readonly<Record<string, ProbeMemory>>
  readonly servers: Readonly<Record<string, Known>>
  readonly services: Readonly<Record<string, Known>>
}

export const NOTHING_KNOWN: HealthMemory = { probes: {}, servers: {}, services: {} }

export interface HealthFile {
  load(): HealthMemory
  /** Throws where it cannot be written. */
  save(memory: HealthMemory): void
}

export function healthFile(path: string, bootId: string, warn: (message: string) => void): HealthFile {
  return {
    load(): HealthMemory {
      let text: string
      try {
        text = readFileSync(path, 'utf8')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') warn(`Cannot read ${path}: ${String(error)}`)
        return NOTHING_KNOWN
      }
      try {
        const read = remembered.parse(JSON.parse(text))
        return read.bootId === bootId ? read : NOTHING_KNOWN
      } catch (error) {
        warn(`Cannot use ${path}: ${error instanceof Error ? error.message : error}`)
        return NOTHING_KNOWN
      }
    },
    save(memory): void {
      writeAtomically(path, JSON.stringify({ version: VERSION, bootId, ...memory }))
    },
  }
}
