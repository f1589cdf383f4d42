/** The BPF file system: where maps, programs and links outlive the process that made them. */
import { mkdirSync, statfsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DataplaneError } from '../dataplane.ts'
import { errno, libc } from '../libc.ts'
import { netnsCookie } from './netns.ts'

const BPFFS = '/sys/fs/bpf'
const BPF_FS_MAGIC = 0xcafe4a11

/** One folder per network namespace, since directors in several may share one mount namespace. */
export function defaultPinDirectory(): string {
  return join(BPFFS, 'pointsman', `netns-${netnsCookie()}`)
}

/** Makes `directory` and checks that it lies on a BPF file system, mounting the usual one if need be. */
export function makePinDirectory(directory: string): void {
  if (directory.startsWith(`${BPFFS}/`) && !isBpffs(BPFFS)) mountBpffs()
  let existing = directory
  while (!exists(existing)) existing = dirname(existing)
  if (!isBpffs(existing)) {
    throw new DataplaneError(
      `Cannot pin to ${directory}: ${existing} is not on a BPF file system; mount one: mount -t bpf bpf ${existing}`,
    )
  }
  mkdirSync(directory, { recursive: true, mode: 0o700 })
}

function mountBpffs(): void {
  if (!exists(BPFFS)) {
    throw new DataplaneError(`Cannot mount a BPF file system: ${BPFFS} does not exist; is sysfs mounted?`)
  }
  if (libc.mount('bpf', BPFFS, 'bpf', 0, 'mode=0700') < 0) {
    const reason = libc.strerror(errno())
    throw new DataplaneError(
      `Cannot mount a BPF file system on ${BPFFS}: ${reason}; as root: mount -t bpf bpf ${BPFFS}`,
    )
  }
}

function isBpffs(path: string): boolean {
  // The magic number's sign depends on how the platform widens it.
  return Number(BigInt.asUintN(32, BigInt(statfsSync(path).type))) === BPF_FS_MAGIC
}

function exists(path: string): boolean {
  return statfsOf(path) !== null
}

function statfsOf(path: string): object | null {
  try {
    return statfsSync(path)
  } catch {
    return null
  }
}
