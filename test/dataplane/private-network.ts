/** A network namespace for one test file: entered by its thread, gone with its process. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { CLONE_NEWNET } from '../../linux/abi.ts'
import { check, libc } from '../../linux/libc.ts'

/** Why a test that needs networks of its own cannot run, or false. */
export const skipWithoutPrivileges: string | false =
  process.getuid?.() === 0 ? false : 'needs root for a network namespace of its own'

/** Moves this thread, and every process and thread it starts from now on, into a new namespace. */
export function enterPrivateNetwork(): void {
  check(libc.unshare(CLONE_NEWNET), 'make a network namespace')
  ip('link set lo up')
}

export function ip(words: string): string {
  return execFileSync('ip', words.split(' '), { encoding: 'utf8' })
}

/** `net/ipv4/ip_forward` */
export function sysctl(path: string, value: number): void {
  writeFileSync(`/proc/sys/${path}`, String(value))
}

export async function until(condition: () => boolean, what: string, timeoutMs = 5000): Promise<void> {
  const end = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > end) throw new Error(`Timed out after ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
