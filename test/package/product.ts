/** What the product's sources name: files that are built, packages. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from './installation.ts'

/** The sources that end up in the bundles. */
function productSources(): string[] {
  return ['control', 'dataplane', 'linux', 'net'].flatMap((room) =>
    readdirSync(join(repository, room), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts'))
      .map((path) => readFileSync(join(repository, room, path), 'utf8')),
  )
}

export function named(pattern: RegExp): string[] {
  const names = productSources().flatMap((text) => [...text.matchAll(pattern)].map(([, name]) => name!))
  return [...new Set(names)].sort()
}

/** Every file that the product asks for. */
export const builtFiles = (): string[] => named(/builtFile\('([^']+)'\)/g)
