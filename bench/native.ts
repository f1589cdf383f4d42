/** C programs of the bench, compiled when they are needed. */
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../dataplane/assets.ts'
import { must, run } from '../lab/command.ts'
import { Skip } from './section.ts'

/** Path of `bench/NAME.c`, compiled and linked with `libraries`. */
export async function nativeProgram(name: string, libraries: readonly string[] = []): Promise<string> {
  const source = join(packageRoot(), 'bench', `${name}.c`)
  const output = join(packageRoot(), 'dist', `bench-${name}`)
  if (existsSync(output) && statSync(output).mtimeMs > statSync(source).mtimeMs) return output
  mkdirSync(join(packageRoot(), 'dist'), { recursive: true })
  const temporary = `${output}.${process.pid}.tmp`
  await must([
    'clang',
    '-O2',
    '-g',
    '-Wall',
    '-Wextra',
    '-Werror',
    source,
    '-o',
    temporary,
    ...libraries.map((library) => `-l${library}`),
  ])
  renameSync(temporary, output)
  return output
}

const INSTALL_TIMEOUT_MS = 90_000

/** Sees to it that a command is there, by its Debian package if need be; else the part is skipped. */
export async function needCommand(command: string, name = command): Promise<void> {
  const there = async (): Promise<boolean> => (await run(['sh', '-c', `command -v ${command}`])).status === 0
  if (await there()) return
  if (process.getuid?.() === 0) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    const install: [string, ...string[]] = ['apt-get', 'install', '-y', '--no-install-recommends', name]
    await run(install, { env, timeoutMs: INSTALL_TIMEOUT_MS }).catch(() => undefined)
  }
  if (!(await there())) throw new Skip(`${command} is not installed: apt-get install ${name}`)
}
