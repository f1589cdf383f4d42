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

/** Parts whose partner is not installed are skipped: a bench does not change the machine that it measures. */
export async function needCommand(command: string, name = command): Promise<void> {
  const { status } = await run(['sh', '-c', `command -v ${command}`])
  if (status !== 0) throw new Skip(`${command} is not installed: apt-get install ${name}`)
}
