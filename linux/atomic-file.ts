/**
 * A file that is complete or absent, whatever happens while it is written: readers find the old content or
 * the new one, also after a crash or on a full disk.
 */
import { closeSync, fsyncSync, lstatSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

/**
 * Replaces `path`; throws the system's error and leaves the old content if it cannot. Two writers of one
 * path must not run at the same time.
 */
export function writeAtomically(path: string, data: string | Uint8Array, mode = 0o600): void {
  // Renaming over a socket or a device would take away what somebody else made there.
  if (lstatSync(path, { throwIfNoEntry: false })?.isFile() === false) {
    throw new Error(`Cannot write ${path}: something other than a file is there`)
  }
  // Always the same name, so that what a killed writer left behind is gone with the next one.
  const temporary = join(dirname(path), `.${basename(path)}.new`)
  try {
    rmSync(temporary, { force: true })
    const file = openSync(temporary, 'wx', mode)
    try {
      writeFileSync(file, data)
      // Without it a crash of the machine may leave the new name over no content.
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}
