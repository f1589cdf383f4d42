/** The scenarios of capacity.c at full length: ten minutes of traffic, floods of ten tables, an hour without a daemon,
 * growth under load from 65,536 lines to four million. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const SCENARIOS = [
  ['short', 600],
  ['lookups', 600],
  ['syn', 11],
  ['forged', 60],
  ['datagrams', 60],
  ['alone', 3600],
  // Lines of the table, from a sixty-fourth of which it grows.
  ['load', 2 ** 22],
  ['calls', 0],
  ['thresholds', 0],
] as const

/** True if nobody suffered who must not. */
export function measureCapacity(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'pm-capacity-'))
  const program = join(folder, 'capacity')
  const source = fileURLToPath(new URL('capacity.c', import.meta.url))
  try {
    execFileSync('clang', ['-O2', '-g', source, '-o', program])
    const statuses = SCENARIOS.map(
      ([scenario, seconds]) => spawnSync(program, [scenario, String(seconds)], { stdio: 'inherit' }).status,
    )
    return statuses.every((status) => status === 0)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
