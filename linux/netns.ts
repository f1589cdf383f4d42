/** Network namespaces: sockets, XDP links and interface indices belong to the calling thread's. */

import { closeSync, openSync } from 'node:fs'
import { AF_INET, CLONE_NEWNET, SO_NETNS_COOKIE, SOCK_DGRAM_CLOEXEC, SOL_SOCKET } from './abi.ts'
import { check, libc } from './libc.ts'

const OWN = '/proc/thread-self/ns/net'

/** Moves the calling thread into the network namespace at `path` (`/run/netns/NAME`, `/proc/PID/ns/net`) for good. */
export function enterNetns(path: string): void {
  const fd = openSync(path, 'r')
  try {
    check(libc.setns(fd, CLONE_NEWNET), `enter network namespace ${path}`)
  } finally {
    closeSync(fd)
  }
}

/**
 * Runs a synchronous function in another network namespace and returns. What it opens (sockets, links)
 * stays bound to that namespace.
 */
export function inNetns<T>(path: string, action: () => T): T {
  const home = openSync(OWN, 'r')
  try {
    enterNetns(path)
    try {
      return action()
    } finally {
      check(libc.setns(home, CLONE_NEWNET), 'return to the network namespace of this process')
    }
  } finally {
    closeSync(home)
  }
}

/**
 * A number for the calling thread's network namespace that is never used twice while the machine runs
 * (SO_NETNS_COOKIE, Linux 5.14), unlike the inode of /proc/self/ns/net.
 */
export function netnsCookie(): bigint {
  const socket = check(libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'open a socket')
  try {
    const cookie = new BigUint64Array(1)
    const length = Uint8Array.of(8, 0, 0, 0)
    check(
      libc.getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, new Uint8Array(cookie.buffer), length),
      'read the cookie of the network namespace',
    )
    return cookie[0]!
  } finally {
    libc.close(socket)
  }
}
