/** Another commit, checked out and built beside this tree. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../../dataplane/assets.ts'
import { must, run } from '../../lab/command.ts'

/** A cold build on a busy machine. */
const BUILD_TIMEOUT_MS = 900_000
const INSTALL_TIMEOUT_MS = 300_000
/** What the stopwatch needs of a tree that may not have it yet, or another one. */
const BROUGHT = ['stand.ts', 'protocol.ts']

export interface Checkout {
  readonly commit: string
  readonly tree: string
  remove(): void
}

/** The full name of what `revision` says; throws when there is no such commit here. */
export async function commitOf(revision: string): Promise<string> {
  const asked = [
    'git',
    'rev-parse',
    '--verify',
    '--quiet',
    '--end-of-options',
    `${revision}^{commit}`,
  ] as const
  const { status, stdout } = await run([...asked], { cwd: packageRoot() })
  if (status === 0) return stdout.trim()
  throw new Error(`No commit "${revision}" in this repository: git log --oneline shows what there is`)
}

/** Brings what is built here up to date with the sources: a judge of what was built yesterday would mislead. */
export async function buildHere(): Promise<void> {
  await must(['npm', 'run', '--silent', 'build'], { cwd: packageRoot(), timeoutMs: BUILD_TIMEOUT_MS })
}

/** Into a folder of its own below the temporary one; `remove` takes it away. */
export async function checkOut(commit: string): Promise<Checkout> {
  const scratch = mkdtempSync(join(tmpdir(), 'pointsman-against.'))
  const stop = (): void => process.exit(1)
  const removeNow = (): void => rmSync(scratch, { recursive: true, force: true })
  const remove = (): void => {
    process.off('SIGINT', stop).off('SIGTERM', stop).off('exit', removeNow)
    removeNow()
  }
  // A built tree in somebody's temporary folder: gone as well when the bench is ended in the middle.
  process.once('SIGINT', stop).once('SIGTERM', stop).once('exit', removeNow)
  try {
    const tree = join(scratch, 'tree')
    const archive = join(scratch, 'archive.tar')
    mkdirSync(tree)
    await must(['git', 'archive', '--format=tar', '-o', archive, commit], { cwd: packageRoot() })
    await must(['tar', '-xf', archive, '-C', tree])
    rmSync(archive)
    await bringPackages(tree)
    await must(['npm', 'run', '--silent', 'build'], { cwd: tree, timeoutMs: BUILD_TIMEOUT_MS })
    bringStand(tree)
    return { commit, tree, remove }
  } catch (error) {
    remove()
    throw error
  }
}

/** The packages of this tree where the other one asks for the same; else its own. */
async function bringPackages(tree: string): Promise<void> {
  const lock = (folder: string): string => readFileSync(join(folder, 'package-lock.json'), 'utf8')
  if (lock(tree) === lock(packageRoot())) {
    symlinkSync(join(packageRoot(), 'node_modules'), join(tree, 'node_modules'))
    return
  }
  const install = ['npm', 'ci', '--no-audit', '--no-fund', '--prefer-offline'] as const
  await must([...install], { cwd: tree, timeoutMs: INSTALL_TIMEOUT_MS })
}

function bringStand(tree: string): void {
  const folder = join(tree, 'bench/against')
  mkdirSync(folder, { recursive: true })
  for (const name of BROUGHT) copyFileSync(join(packageRoot(), 'bench/against', name), join(folder, name))
}
