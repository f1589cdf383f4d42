/**
 * The C library, through koffi. One binding per function, typed here and nowhere else.
 *
 * Pointers: a `Uint8Array` (also one over shared wasm memory) is passed as its address, a `bigint` as
 * it is. Lengths are bytes. Functions return -1 on failure; `errno()` right after the call tells why.
 */

import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'
import { MAP_SHARED, PROT_READ, PROT_READ_WRITE } from './abi.ts'
import { MachineError } from './machine-error.ts'

export type Pointer = Uint8Array | bigint | null

const library = koffi.load(null)

const bindings = {
  socket: library.func('int socket(int domain, int type, int protocol)'),
  pthread_sigmask: library.func('int pthread_sigmask(int how, void *set, void *before)'),
  _exit: library.func('void _exit(int status)'),
  bind: library.func('int bind(int fd, void *address, uint32_t length)'),
  setsockopt: library.func('int setsockopt(int fd, int level, int name, void *value, uint32_t length)'),
  getsockopt: library.func('int getsockopt(int fd, int level, int name, void *value, void *length)'),
  send: library.func('int64_t send(int fd, void *data, size_t length, int flags)'),
  recv: library.func('int64_t recv(int fd, void *data, size_t length, int flags)'),
  sendto: library.func(
    'int64_t sendto(int fd, void *data, size_t length, int flags, void *address, uint32_t n)',
  ),
  recvmsg: library.func('int64_t recvmsg(int fd, void *message, int flags)'),
  recvmmsg: library.func('int recvmmsg(int fd, void *messages, uint32_t count, int flags, void *timeout)'),
  sendmmsg: library.func('int sendmmsg(int fd, void *messages, uint32_t count, int flags)'),
  poll: library.func('int poll(void *fds, uint64_t count, int timeout_ms)'),
  mmap: library.func(
    'void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)',
  ),
  getpagesize: library.func('int getpagesize()'),
  munmap: library.func('int munmap(void *address, size_t length)'),
  fallocate: library.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)'),
  madvise: library.func('int madvise(void *address, size_t length, int advice)'),
  eventfd: library.func('int eventfd(uint32_t initial, int flags)'),
  read: library.func('int64_t read(int fd, void *data, size_t length)'),
  write: library.func('int64_t write(int fd, void *data, size_t length)'),
  close: library.func('int close(int fd)'),
  setns: library.func('int setns(int fd, int kind)'),
  unshare: library.func('int unshare(int flags)'),
  mount: library.func('int mount(str source, str target, str type, uint64_t flags, str data)'),
  renameat2: library.func('int renameat2(int from, str path, int to, str other, uint32_t flags)'),
  syscall: library.func('syscall', 'int64_t', ['int64_t', 'int64_t', 'int64_t', 'int64_t']),
  fcntl: library.func('fcntl', 'int', ['int', 'int', 'void *']),
  ioctl: library.func('ioctl', 'int', ['int', 'uint64_t', 'void *']),
  if_nametoindex: library.func('uint32_t if_nametoindex(str name)'),
  if_indextoname: library.func('void *if_indextoname(uint32_t index, void *name)'),
  strerror: library.func('str strerror(int number)'),
  getgrnam: library.func('void *getgrnam(str name)'),
}

export const libc = bindings as {
  readonly socket: (domain: number, type: number, protocol: number) => number
  readonly bind: (fd: number, address: Pointer, length: number) => number
  readonly setsockopt: (fd: number, level: number, name: number, value: Pointer, length: number) => number
  /** `length` is a 32-bit number in memory: room before, size after. */
  readonly getsockopt: (fd: number, level: number, name: number, value: Pointer, length: Pointer) => number
  readonly send: (fd: number, data: Pointer, length: number, flags: number) => number
  readonly recv: (fd: number, data: Pointer, length: number, flags: number) => number
  readonly sendto: (
    fd: number,
    data: Pointer,
    length: number,
    flags: number,
    address: Pointer,
    addressLength: number,
  ) => number
  readonly recvmsg: (fd: number, message: Pointer, flags: number) => number
  readonly recvmmsg: (fd: number, messages: Pointer, count: number, flags: number, timeout: null) => number
  readonly sendmmsg: (fd: number, messages: Pointer, count: number, flags: number) => number
  readonly poll: (fds: Pointer, count: number, timeoutMs: number) => number
  /** Address, or `MAP_FAILED`. */
  readonly mmap: (
    address: Pointer,
    length: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ) => bigint
  readonly getpagesize: () => number
  readonly munmap: (address: Pointer, length: number) => number
  readonly fallocate: (fd: number, mode: number, offset: number, length: number) => number
  readonly madvise: (address: Pointer, length: number, advice: number) => number
  readonly eventfd: (initial: number, flags: number) => number
  readonly read: (fd: number, data: Pointer, length: number) => number
  readonly write: (fd: number, data: Pointer, length: number) => number
  readonly close: (fd: number) => number
  readonly setns: (fd: number, kind: number) => number
  readonly unshare: (flags: number) => number
  readonly mount: (source: string, target: string, type: string, flags: number, data: string | null) => number
  readonly renameat2: (from: number, path: string, to: number, other: string, flags: number) => number
  /** For calls that the library has no function for; see syscall(2) for the numbers. */
  readonly syscall: (number: number, first: number, second: number, third: number) => number
  /** Only commands whose argument is a structure. */
  readonly fcntl: (fd: number, command: number, argument: Pointer) => number
  readonly ioctl: (fd: number, request: number, argument: Pointer) => number
  /** In the network namespace of the calling thread; 0 when there is none. */
  readonly if_nametoindex: (name: string) => number
  /** `name` has room for 16 bytes; null when there is no such interface. */
  readonly if_indextoname: (index: number, name: Pointer) => bigint | null
  readonly pthread_sigmask: (how: number, set: Pointer, before: Pointer) => number
  readonly _exit: (status: number) => void
  readonly strerror: (number: number) => string
  /** Address of a struct group that the next call may overwrite; null: no such group. */
  readonly getgrnam: (name: string) => bigint | null
}

export const MAP_FAILED = 0xffff_ffff_ffff_ffffn

/** Error numbers that are answers rather than failures somewhere (asm-generic/errno.h). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  ENXIO: 6,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  ERANGE: 34,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ENOBUFS: 105,
  EHOSTUNREACH: 113,
} as const

/** errno of this thread's last call. */
export function errno(): number {
  return koffi.errno()
}

/** A system call failed; the message says what was tried and names the error. */
export class SystemError extends MachineError {
  override readonly name = 'SystemError'
  readonly errno: number
  /** `ENODEV` and the like. */
  readonly code: string

  constructor(action: string, number: number) {
    const code = errorName(number)
    super(`Cannot ${action}: ${code}`)
    this.errno = number
    this.code = code
  }
}

export function errorName(number: number): string {
  return number > 0 ? getSystemErrorName(-number) : `error ${number}`
}

/** The result of a call, or the error it left behind. `action` completes "Cannot ...". */
export function check(result: number, action: string): number {
  if (result < 0) throw new SystemError(action, koffi.errno())
  return result
}

/** Address of memory that JavaScript holds; valid as long as its buffer is. */
export function addressOf(bytes: Uint8Array): bigint {
  return koffi.address(bytes)
}

/** A call that may block, made by another thread: its result, negative where it failed. */
function later(
  call: { async(...parameters: unknown[]): void },
  fd: number,
  bytes: Uint8Array,
): Promise<number> {
  return new Promise((resolve) => {
    // By address, and held by this closure until the other thread is done with it.
    call.async(fd, addressOf(bytes), bytes.length, 0, (error: Error | null, result: unknown) => {
      resolve(error === null && bytes.length > 0 ? Number(result) : -1)
    })
  })
}

/** `send` without holding up this thread. */
export function sendLater(fd: number, bytes: Uint8Array): Promise<number> {
  return later(bindings.send, fd, bytes)
}

/** `recv` without holding up this thread. */
export function recvLater(fd: number, bytes: Uint8Array): Promise<number> {
  return later(bindings.recv, fd, bytes)
}

/** Memory at an address as a buffer; never touch it after it was unmapped. */
export function memoryAt(address: bigint, length: number): ArrayBuffer {
  return koffi.view(address, length)
}

/** A setsockopt value of 32-bit numbers. */
export function words(...values: number[]): Uint8Array {
  return new Uint8Array(new Uint32Array(values).buffer)
}

/** Memory shared with the kernel until `unmap`. */
export interface Mapping {
  /** Never touch it, or any view of it, after `unmap`: the process would die. */
  readonly buffer: ArrayBuffer
  unmap(): void
}

/** Maps `length` bytes of a file descriptor for reading and writing. `what` completes "Cannot mmap ...". */
export function mapShared(fd: number, length: number, what: string, offset = 0): Mapping {
  return mapped(fd, length, what, offset, PROT_READ_WRITE)
}

/** The same of what may only be read: a write would end the process. */
export function mapToRead(fd: number, length: number, what: string, offset = 0): Mapping {
  return mapped(fd, length, what, offset, PROT_READ)
}

function mapped(fd: number, length: number, what: string, offset: number, protection: number): Mapping {
  const address = libc.mmap(null, length, protection, MAP_SHARED, fd, offset)
  if (address === MAP_FAILED) throw new SystemError(`mmap ${what}`, koffi.errno())
  return {
    buffer: memoryAt(address, length),
    unmap: () => {
      check(libc.munmap(address, length), `munmap ${what}`)
    },
  }
}
