/** What the numbers were measured on. */
import { execFileSync } from 'node:child_process'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { packageRoot } from '../dataplane/assets.ts'

export interface Machine {
  readonly cpu: string
  readonly cpus: number
  readonly memoryGb: number
  readonly kernel: string
  readonly node: string
  /** Processes that wanted a CPU, average of the last minute, before the bench began. */
  readonly load: number
  readonly commit: string
  readonly date: string
}

export function machine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cpus: cpus().length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    load: Math.round(loadavg()[0]! * 10) / 10,
    commit: commit(),
    date: new Date().toISOString().slice(0, 10),
  }
}

function commit(): string {
  try {
    const options = { cwd: packageRoot(), encoding: 'utf8' } as const
    return execFileSync('git', ['describe', '--always', '--dirty'], options).trim()
  } catch {
    return 'unknown'
  }
}
