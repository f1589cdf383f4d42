/** What the kernel says of its own objects (BPF_OBJ_GET_INFO_BY_FD), decoded by offset from <linux/bpf.h>. */

import { libbpf, need, objectInfoLater } from '../../linux/libbpf.ts'
import { addressOf, libc } from '../../linux/libc.ts'
import { type Btf, parseBtf } from '../layout/btf.ts'

export interface ProgramInfo {
  readonly id: number
  /** Up to 15 bytes of its name. */
  readonly name: string
  /** Hash of its instructions, 16 hex digits. */
  readonly tag: string
}

export interface MapInfo {
  readonly name: string
  readonly keySize: number
  readonly valueSize: number
  readonly entries: number
  /** 0 when the map was made without type information. */
  readonly btfId: number
}

export interface LinkInfo {
  readonly programId: number
  /** 0 once the interface is gone. */
  readonly ifindex: number
}

const PROGRAM_INFO_SIZE = 80
const MAP_INFO_SIZE = 80
const LINK_INFO_SIZE = 32
const BTF_INFO_SIZE = 32

function info(fd: number, size: number, what: string): Buffer {
  const bytes = Buffer.alloc(size)
  need(libbpf().bpf_obj_get_info_by_fd(fd, bytes, Uint32Array.of(size)), `read the kernel's notes on ${what}`)
  return bytes
}

function nameAt(bytes: Buffer, offset: number): string {
  const end = bytes.indexOf(0, offset)
  return bytes.toString('utf8', offset, Math.min(end < 0 ? offset + 16 : end, offset + 16))
}

export function programInfo(fd: number): ProgramInfo {
  const bytes = info(fd, PROGRAM_INFO_SIZE, 'a program')
  return { id: bytes.readUInt32LE(4), tag: bytes.toString('hex', 8, 16), name: nameAt(bytes, 64) }
}

export function mapInfo(fd: number): MapInfo {
  const bytes = info(fd, MAP_INFO_SIZE, 'a map')
  return {
    keySize: bytes.readUInt32LE(8),
    valueSize: bytes.readUInt32LE(12),
    entries: bytes.readUInt32LE(16),
    name: nameAt(bytes, 24),
    btfId: bytes.readUInt32LE(64),
  }
}

export function linkInfo(fd: number): LinkInfo {
  const bytes = info(fd, LINK_INFO_SIZE, 'a link')
  return { programId: bytes.readUInt32LE(8), ifindex: bytes.readUInt32LE(16) }
}

/** The same without holding up this thread; null where the kernel does not say. */
export async function linkInfoLater(fd: number): Promise<LinkInfo | null> {
  // The kernel fills in what it knows of; the rest is room.
  const bytes = Buffer.alloc(256)
  if ((await objectInfoLater(fd, bytes)) < 0) return null
  return { programId: bytes.readUInt32LE(8), ifindex: bytes.readUInt32LE(16) }
}

/** The type information a map was made with. */
export function kernelBtf(id: number): Btf {
  const fd = need(libbpf().bpf_btf_get_fd_by_id(id), `open BTF ${id}`)
  try {
    const size = info(fd, BTF_INFO_SIZE, 'BTF').readUInt32LE(8)
    const blob = new Uint8Array(size)
    const request = Buffer.alloc(BTF_INFO_SIZE)
    request.writeBigUInt64LE(addressOf(blob), 0)
    request.writeUInt32LE(size, 8)
    need(libbpf().bpf_obj_get_info_by_fd(fd, request, Uint32Array.of(BTF_INFO_SIZE)), `read BTF ${id}`)
    return parseBtf(blob)
  } finally {
    libc.close(fd)
  }
}
