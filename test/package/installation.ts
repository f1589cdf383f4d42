/** A machine that has Node and a few everyday tools but nothing to build with, and packages on it. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type CommandResult, must, run } from '../../lab/command.ts'

export const repository = fileURLToPath(new URL('../..', import.meta.url))

/** What a small server has; nothing of it compiles or links. */
const EVERYDAY = [
  ...['sh', 'bash', 'env', 'cat', 'ls', 'mkdir', 'rm', 'grep', 'sed', 'sleep', 'readlink', 'uname', 'id'],
  ...['ip', 'nft', 'ethtool', 'curl', 'ping', 'nsenter', 'setpriv', 'mount', 'umount'],
]

function where(tool: string): string | null {
  for (const folder of [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin']) {
    const path = join(folder, tool)
    if (folder !== '' && existsSync(path)) return path
  }
  return null
}

/** Fills a folder that is to be the whole PATH. */
export function layEverydayTools(folder: string): void {
  mkdirSync(folder, { recursive: true })
  for (const tool of EVERYDAY) {
    const path = where(tool)
    if (path !== null) symlinkSync(path, join(folder, tool))
  }
  symlinkSync(process.execPath, join(folder, 'node'))
}

/** Tools to build with that a PATH leads to. */
export function buildTools(path: string): string[] {
  const tool = /^(clang|gcc|cc|c\+\+|g\+\+|ld|lld|make|cmake|tsx|esbuild|python3)(-[\d.]+)?$/
  return path
    .split(':')
    .flatMap((folder) => readdirSync(folder))
    .filter((name) => tool.test(name))
}

/** npm's command line program, run by this Node whatever PATH is. */
function npm(): [string, string] {
  const path = where('npm')
  if (path === null) throw new Error('npm is not installed')
  return [process.execPath, execFileSync('readlink', ['-f', path], { encoding: 'utf8' }).trim()]
}

/** Runs `npm pack`, the build before it included. Returns the tarball's path. */
export async function pack(folder: string): Promise<string> {
  const text = await must([...npm(), 'pack', '--json', '--pack-destination', folder], {
    cwd: repository,
    timeoutMs: 280_000,
  })
  const [{ filename }] = JSON.parse(text.slice(text.indexOf('['))) as [{ filename: string }]
  return join(folder, filename)
}

/** `npm install --global` into a prefix, with nothing but `path` to find programs in. */
export function installGlobally(tarball: string, prefix: string, path: string): Promise<CommandResult> {
  const options = ['--global', '--prefix', prefix, '--prefer-offline', '--no-audit', '--no-fund']
  return run([...npm(), 'install', ...options, tarball], {
    env: { ...process.env, PATH: path },
    timeoutMs: 120_000,
  })
}
