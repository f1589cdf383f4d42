/**
 * A version of earlier days, built out of the repository's history: what an operator upgrades from. Only
 * what it takes to run is built, with the tools of today.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
/** The last commit whose maps had layout 7. */
const COMMIT = '60ca3a8f08d855252cc07586c77cd31bf3eead55'
/** Objects that only tests want. */
const NOT_NEEDED = ['bpf/pointsman.native.c', 'lab/lab.bpf.c', 'bench/wrap.bpf.c']

/** Why it cannot be built here, or false. */
export const skipWithoutHistory: string | false =
  !existsSync(join(root, '.git')) ||
  spawnSync('git', ['-C', root, 'cat-file', '-e', `${COMMIT}^{commit}`], { stdio: 'ignore' }).status !== 0
    ? `needs the repository's history back to ${COMMIT.slice(0, 7)}: git fetch --unshallow`
    : spawnSync('clang', ['--version'], { stdio: 'ignore' }).status === 0
      ? false
      : 'needs clang to build an earlier version'

export interface OlderVersion {
  /** Its executables. */
  readonly bin: string
  remove(): void
}

export function buildOlderVersion(): OlderVersion {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-older-'))
  const remove = () => rmSync(folder, { recursive: true })
  try {
    const archive = execFileSync('git', ['-C', root, 'archive', COMMIT], { maxBuffer: 1 << 30 })
    execFileSync('tar', ['x', '-C', folder], { input: archive })
    for (const path of NOT_NEEDED) rmSync(join(folder, path), { force: true })
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
    const argv = ['--import', import.meta.resolve('tsx'), 'scripts/build.ts']
    execFileSync(process.execPath, argv, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
    return { bin: join(folder, 'bin'), remove }
  } catch (error) {
    remove()
    throw error
  }
}
