/** The BPF file system: where maps, programs and links outlive the process that made them. */
import { readFileSync, statfsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { makeDirectory } from './directory.ts'
import { errno, libc } from './libc.ts'
import { MachineError } from './machine-error.ts'
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
    throw new MachineError(
      `Cannot pin to ${directory}: ${existing} is not on a BPF file system; mount one: mount -t bpf bpf ${existing}`,
    )
  }
  makeDirectory(directory, 0o700)
}

/**
 * Why what is pinned in `directory` would not outlive this process, or null. `ip netns exec` gives its
 * command a mount namespace with a /sys of its own: a BPF file system mounted there goes with the
 * command, while the processes that started it see another one or none.
 */
export function pinTrap(directory: string): string | null {
  if (!directory.startsWith(`${BPFFS}/`)) return null
  const ours = statSync(BPFFS).dev
  const isShared = ancestors().every((pid) => (deviceOf(`/proc/${pid}/root${BPFFS}`) ?? ours) === ours)
  if (isShared) return null
  return `${BPFFS} is private to this mount namespace: forwarding will stop when the last process in it ends; enter network namespaces with nsenter --net=/run/netns/NAME instead of ip netns exec`
}

/** Processes this one comes from, nearest first, as far as they can be seen. */
function ancestors(): number[] {
  const found: number[] = []
  for (let pid = process.ppid; pid > 0; ) {
    found.push(pid)
    try {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8')
      pid = Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1] ?? 0)
    } catch {
      break
    }
  }
  return found
}

/** null where this process may not look. */
function deviceOf(path: string): number | null {
  try {
    return statSync(path).dev
  } catch {
    return null
  }
}

function mountBpffs(): void {
  if (!exists(BPFFS)) {
    throw new MachineError(`Cannot mount a BPF file system: ${BPFFS} does not exist; is sysfs mounted?`)
  }
  if (libc.mount('bpf', BPFFS, 'bpf', 0, 'mode=0700') < 0) {
    const reason = libc.strerror(errno())
    throw new MachineError(
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
