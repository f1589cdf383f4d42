import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DataplaneError } from './dataplane.ts'

/** The folder of package.json: the same from the sources and from a bundle in dist/. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder)
    if (parent === folder) throw new DataplaneError(`Cannot find package.json above ${import.meta.url}`)
    folder = parent
  }
  return folder
}

/** Path of something the build made, `pointsman.bpf.o`. */
export function builtFile(name: string): string {
  const path = join(packageRoot(), 'dist', name)
  if (!existsSync(path)) throw new DataplaneError(`Cannot find ${path}: build it first with npm run build`)
  return path
}
