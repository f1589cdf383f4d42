/**
 * Plays recorded sessions with a real daemon, in namespaces of its own.
 *
 * A process in a new network and mount namespace (`stage.ts`) lays out the recording's interfaces and
 * names, starts the daemon and runs the commands; all of it disappears with that process.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Result } from './play.ts'
import type { Recording } from './scenario.ts'

/** Whose ipvsadm is run: Debian's with the preload library. */
export type Whose = 'ours' | 'debian'

/** Why there can be no stage here; null if there can. */
export function stageObstacle(): string | null {
  if (process.getuid?.() !== 0) return 'namespaces and packet programs need root'
  for (const built of ['../../../../bin/ipvsadm', '../../../../dist/pointsmand.js']) {
    const path = fileURLToPath(new URL(built, import.meta.url))
    if (!existsSync(path)) return `${path} is missing: run npm run build`
  }
  return null
}

export async function playOnStage(
  recording: Recording,
  report: (result: Result) => void,
  whose: Whose = 'ours',
): Promise<Result[]> {
  const obstacle = stageObstacle()
  if (obstacle !== null) throw new Error(`Cannot play with a daemon: ${obstacle}`)
  const scratch = mkdtempSync(join(tmpdir(), 'pointsman-ipvsadm-'))
  try {
    const path = join(scratch, 'recording.json')
    writeFileSync(path, JSON.stringify(recording))
    const stage = spawn(
      'unshare',
      [
        ...['--net', '--mount', '--propagation', 'private', '--'],
        ...[process.execPath, '--import', import.meta.resolve('tsx')],
        ...[fileURLToPath(new URL('stage.ts', import.meta.url)), path, scratch, whose],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    const results: Result[] = []
    for await (const line of createInterface({ input: stage.stdout })) {
      const result = JSON.parse(line) as Result
      report(result)
      results.push(result)
    }
    if (stage.exitCode === null) await once(stage, 'exit')
    if (stage.exitCode !== 0 || results.length !== recording.scenarios.length) {
      throw new Error(
        `The stage ended with status ${stage.exitCode} after ${results.length} of ${recording.scenarios.length} scenarios`,
      )
    }
    return results
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}
