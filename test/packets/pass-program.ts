/**
 * The smallest XDP program, loaded straight through bpf(2): "pass". A veth end takes frames that its peer
 * redirects only while it runs NAPI itself, which an attached program switches on.
 */
import koffi from 'koffi'
import { interfaceIndex } from './libc.ts'

const libc = koffi.load('libc.so.6')
const syscall = libc.func('long syscall(long, long, void *, long)')
const close = libc.func('int close(int)')
const strerror = libc.func('str strerror(int)')

/** x86-64 and arm64 number this call differently. */
const SYS_BPF = process.arch === 'arm64' ? 280 : 321
const BPF_PROG_LOAD = 5
const BPF_LINK_CREATE = 28
const BPF_PROG_TYPE_XDP = 6
const BPF_ATTACH_XDP = 37

/** `r0 = XDP_PASS; exit` */
const INSTRUCTIONS = Buffer.from('b700000002000000' + '9500000000000000', 'hex')
const LICENSE = Buffer.from('MIT\0')

function bpf(command: number, attributes: Buffer, action: string): number {
  const result = Number(syscall(SYS_BPF, command, attributes, attributes.length))
  if (result < 0) throw new Error(`Cannot ${action}: ${strerror(koffi.errno())}`)
  return result
}

/** Attaches the program to an interface of the current network namespace; the caller closes it. */
export function attachPassProgram(interfaceName: string): { close(): void } {
  const load = Buffer.alloc(72)
  load.writeUInt32LE(BPF_PROG_TYPE_XDP, 0)
  load.writeUInt32LE(INSTRUCTIONS.length / 8, 4)
  load.writeBigUInt64LE(koffi.address(INSTRUCTIONS), 8)
  load.writeBigUInt64LE(koffi.address(LICENSE), 16)
  load.writeUInt32LE(BPF_ATTACH_XDP, 68)
  const program = bpf(BPF_PROG_LOAD, load, 'load the XDP pass program')
  try {
    const link = Buffer.alloc(16)
    link.writeUInt32LE(program, 0)
    link.writeUInt32LE(interfaceIndex(interfaceName), 4)
    link.writeUInt32LE(BPF_ATTACH_XDP, 8)
    const fd = bpf(BPF_LINK_CREATE, link, `attach the XDP pass program to ${interfaceName}`)
    return { close: () => close(fd) }
  } finally {
    close(program)
  }
}
