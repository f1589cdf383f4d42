/** What a program in traffic control keeps of datagrams that are not whole (bpf/gather.h). */
import { mapInfo } from '../../dataplane/kernel/object-info.ts'
import { libbpf, need } from '../../linux/libbpf.ts'
import { addressOf, libc } from '../../linux/libc.ts'

/** `struct bpf_prog_info` of <linux/bpf.h>: `nr_map_ids`, and the address that ids are written to. */
const INFO_BYTES = 80
const MAP_COUNT = 52
const MAP_IDS = 56

/** Forgets them: nobody else will, before their time is over. */
export function forgetDatagrams(programFd: number): void {
  for (const fd of mapsOf(programFd)) {
    const { name, entries, valueSize } = mapInfo(fd)
    const empty = new Uint8Array(valueSize)
    for (let row = 0; name === 'gather_rows' && row < entries; row++)
      need(libbpf().bpf_map_update_elem(fd, bytesOf(row), empty, 0), 'forget datagrams')
    libc.close(fd)
  }
}

function mapsOf(programFd: number): number[] {
  const ids = Buffer.alloc(256)
  const info = Buffer.alloc(INFO_BYTES)
  info.writeUInt32LE(ids.length / 4, MAP_COUNT)
  info.writeBigUInt64LE(addressOf(ids), MAP_IDS)
  need(libbpf().bpf_obj_get_info_by_fd(programFd, info, Uint32Array.of(INFO_BYTES)), 'read a program’s maps')
  return Array.from({ length: info.readUInt32LE(MAP_COUNT) }, (_, i) =>
    need(libbpf().bpf_map_get_fd_by_id(ids.readUInt32LE(i * 4)), 'open a map'),
  )
}

function bytesOf(word: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(word).buffer)
}
