/** C programs of the bench, compiled when they are needed. */
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../dataplane/assets.ts'
import { must } from '../lab/command.ts'

/** Path of `bench/NAME.c`, compiled. */
export async function nativeProgram(name: string): Promise<string> {
  const source = join(packageRoot(), 'bench', `${name}.c`)
  const output = join(packageRoot(), 'dist', `bench-${name}`)
  if (existsSync(output) && statSync(output).mtimeMs > statSync(source).mtimeMs) return output
  mkdirSync(join(packageRoot(), 'dist'), { recursive: true })
  const temporary = `${output}.${process.pid}.tmp`
  await must(['clang', '-O2', '-g', '-Wall', '-Wextra', '-Werror', source, '-o', temporary])
  renameSync(temporary, output)
  return output
}
