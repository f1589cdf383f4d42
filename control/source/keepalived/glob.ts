/** File names by wildcards, as glob(3) with braces finds them: `*`, `?`, `[a-z]`, `{a,b}`. */
import { join } from 'node:path'
import type { Files } from '../file/read.ts'

/** Paths in the order of their names; one without wildcards whether it is there or not. */
export function matching(pattern: string, files: Files): readonly string[] {
  return braced(pattern).flatMap((path) => {
    if (!/[*?[]/.test(path)) return [path]
    const [root, ...parts] = path.split('/')
    return walk(root === '' ? '/' : root!, parts, files)
  })
}

/** `a{b,c}` is `ab` and `ac`. */
function braced(pattern: string): string[] {
  const open = /^(.*?)\{([^{}]*)\}(.*)$/.exec(pattern)
  if (open === null) return [pattern]
  return open[2]!.split(',').flatMap((choice) => braced(`${open[1]}${choice}${open[3]}`))
}

function walk(folder: string, [part, ...rest]: readonly string[], files: Files): string[] {
  if (part === undefined) return [folder]
  if (!/[*?[]/.test(part)) return walk(join(folder, part), rest, files)
  const source = part
    .replaceAll(/[.+^${}()|\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
    .replaceAll('[!', '[^')
  let names: readonly string[]
  try {
    names = files.list(folder)
  } catch {
    // No folder, no files.
    return []
  }
  const wanted = new RegExp(`^${source}$`)
  return [...names]
    .filter((name) => wanted.test(name) && (!name.startsWith('.') || part.startsWith('.')))
    .sort()
    .flatMap((name) => walk(join(folder, name), rest, files))
}
