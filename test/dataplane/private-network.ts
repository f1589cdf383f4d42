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

/** For what comes at once where nothing else goes on, and is late only where it never comes. */
const PATIENCE_MS = 60_000

export async function until(
  condition: () => boolean,
  what: string,
  timeoutMs: number = PATIENCE_MS,
): Promise<void> {
  const end = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > end) throw new Error(`Timed out after ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/**
 * Waits until this namespace answers to the IPv6 addresses it was given. They are local only when a worker of
 * the kernel has come to them, after `ip` has returned (addrconf_dad_work, also with `nodad`); until then a
 * packet to one is forwarded like any other of its prefix.
 */
export function awaitLocal(addresses: readonly string[], namespace: readonly string[] = []): void {
  const end = Date.now() + PATIENCE_MS
  for (;;) {
    const local = execFileSync('ip', [...namespace, '-6', 'route', 'show', 'table', 'local'], {
      encoding: 'utf8',
    })
    const missing = addresses.filter((address) => !local.includes(`local ${address} `))
    if (missing.length === 0) return
    if (Date.now() > end)
      throw new Error(`Not local after ${PATIENCE_MS} ms: ${missing.join(', ')}\n${local}`)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
  }
}
