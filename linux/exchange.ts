import { check, libc } from './libc.ts'

const AT_FDCWD = -100
const RENAME_EXCHANGE = 2

/** Exchanges two files or folders of one file system: whoever looks finds the one or the other, never neither. */
export function exchangePaths(one: string, other: string): void {
  check(libc.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE), `exchange ${one} and ${other}`)
}
