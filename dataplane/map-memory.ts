import type { MapMemory } from './dataplane.ts'
import { MAPS, type MapName } from './layout/layout.gen.ts'

/** The bytes of one map, wherever they live, with all the views control code uses. */
export function mapMemory(
  name: MapName,
  entries: number,
  buffer: ArrayBuffer | SharedArrayBuffer,
  byteOffset = 0,
): MapMemory {
  const { entrySize } = MAPS[name]
  const length = entries * entrySize
  return {
    name,
    entries,
    entrySize,
    bytes: new Uint8Array(buffer, byteOffset, length),
    view: new DataView(buffer, byteOffset, length),
    u32: new Uint32Array(buffer, byteOffset, length / 4),
    i32: new Int32Array(buffer, byteOffset, length / 4),
    u64: new BigUint64Array(buffer, byteOffset, length / 8),
  }
}
