/** Looking at a pinned map from outside of the daemon. */
import { defaultPinDirectory } from '../../linux/bpffs.ts'
import { libc, mapShared } from '../../linux/libc.ts'
import type { MapMemory } from '../dataplane.ts'
import { MAPS, type MapName } from '../layout/layout.gen.ts'
import { mapMemory } from '../map-memory.ts'
import { mapInfo } from './object-info.ts'
import { Pins } from './pins.ts'

/** A copy of what the map holds now; null if none is pinned, or one of another layout. */
export function readPinnedMap(name: MapName, directory: string = defaultPinDirectory()): MapMemory | null {
  const pins = new Pins(directory)
  if (!pins.complete()) return null
  const fd = pins.openMap(name)
  try {
    const { entries, valueSize } = mapInfo(fd)
    if (valueSize !== MAPS[name].entrySize) return null
    const mapping = mapShared(fd, entries * valueSize, `map ${name}`)
    try {
      return mapMemory(name, entries, mapping.buffer.slice(0))
    } finally {
      mapping.unmap()
    }
  } finally {
    libc.close(fd)
  }
}
