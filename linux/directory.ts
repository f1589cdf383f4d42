import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'

/**
 * Makes a directory and the missing ones above it. Node's own `recursive` never returns where a file
 * system refuses new names with ENOENT, as /proc does.
 * @throws the system's error for the first directory that cannot be made
 */
export function makeDirectory(path: string, mode: number): void {
  if (existsSync(path)) return
  makeDirectory(dirname(path), mode)
  try {
    mkdirSync(path, { mode })
  } catch (error) {
    if (!existsSync(path)) throw error
  }
}
