/** The maps in a pin directory, of this version or an earlier one: which layout they have, how large they are. */
import { libc, mapShared } from '../../linux/libc.ts'
import { DataplaneError, type Sizes } from '../dataplane.ts'
import { layoutDifference } from '../layout/check.ts'
import { SettingsRecord } from '../layout/layout.gen.ts'
import { OWN_STAMP, readStamp, stampDifference } from '../layout/stamp.ts'
import { findLayout, type Layout, recordOf } from '../layout/version.ts'
import type { OldMaps } from '../migrate.ts'
import { mapEntries, sizesOfEntries } from '../sizes.ts'
import { kernelBtf, mapInfo } from './object-info.ts'
import type { Pins } from './pins.ts'

export interface PinnedMaps {
  readonly layout: Layout
  /** By name; those of the layout, all of them. */
  readonly fds: ReadonlyMap<string, number>
  readonly sizes: Sizes
  entries(name: string): number
  /** All of them as memory, until `close`. */
  read(): OldMaps
  close(): void
}

/** Opens what is pinned; throws `DataplaneError` where this version cannot work with it. */
export function openPinnedMaps(pins: Pins): PinnedMaps {
  const fds = new Map<string, number>()
  const mappings: (() => void)[] = []
  const close = () => {
    for (const unmap of mappings.splice(0)) unmap()
    for (const fd of fds.values()) libc.close(fd)
    fds.clear()
  }
  try {
    fds.set('settings', openMap(pins, 'settings'))
    const stamp = readStampOf(fds.get('settings')!)
    const layout = findLayout(stamp)
    if (layout === null) {
      const words = stampDifference(stamp) ?? 'its layout is unknown'
      // Of another version its number says more than the first of many differences; 0 is nobody's number.
      const says = stamp.version !== 0 && stamp.version !== OWN_STAMP.version
      const types = says ? null : typeDifference(mapInfo(fds.get('settings')!).btfId)
      throw refusal(pins.directory, types ?? words)
    }
    for (const name of layout.maps.keys()) if (!fds.has(name)) fds.set(name, openMap(pins, name))
    const entries = new Map<string, number>()
    for (const [name, fd] of fds) {
      const info = mapInfo(fd)
      const { size, name: record } = recordOf(layout, name)
      if (info.valueSize !== size) {
        throw refusal(pins.directory, `struct ${record} is ${info.valueSize} bytes, expected ${size}`)
      }
      entries.set(name, info.entries)
    }
    const count = (name: string) => entries.get(name) ?? 0
    return {
      layout,
      fds,
      sizes: sizesOfEntries({ ...mapEntries(NO_SIZES), ...Object.fromEntries(entries) }),
      entries: count,
      read: () => ({ layout, entries: count, bytes: reader(fds, layout, count, mappings) }),
      close,
    }
  } catch (error) {
    close()
    throw error
  }
}

const NO_SIZES: Sizes = {
  services: 0,
  serviceBuckets: 0,
  reals: 0,
  members: 0,
  connections4: 0,
  connections6: 0,
  cpus: 0,
}

function openMap(pins: Pins, name: string): number {
  try {
    return pins.openMap(name)
  } catch (cause) {
    throw new DataplaneError(
      `Cannot carry on with ${pins.directory}: a map is missing (${name}); take the old state off with pointsman detach`,
      { cause },
    )
  }
}

function reader(
  fds: ReadonlyMap<string, number>,
  layout: Layout,
  entries: (name: string) => number,
  mappings: (() => void)[],
): (name: string) => Uint8Array {
  const known = new Map<string, Uint8Array>()
  return (name) => {
    const there = known.get(name)
    if (there !== undefined) return there
    const fd = fds.get(name)
    if (fd === undefined) throw new DataplaneError(`Cannot read map ${name}: there is none`)
    const mapping = mapShared(fd, entries(name) * recordOf(layout, name).size, `map ${name}`)
    mappings.push(mapping.unmap)
    const bytes = new Uint8Array(mapping.buffer)
    known.set(name, bytes)
    return bytes
  }
}

/** Looks at the first record of a `settings` map, whatever its layout: its head is the same in all. */
export function withSettings<T>(fd: number, look: (settings: DataView) => T): T {
  const { valueSize } = mapInfo(fd)
  if (valueSize < SettingsRecord.offsets.fingerprint + 8) {
    throw new DataplaneError(`Cannot read map settings: its record is ${valueSize} bytes long`)
  }
  const mapping = mapShared(fd, valueSize, 'map settings')
  try {
    return look(new DataView(mapping.buffer))
  } finally {
    mapping.unmap()
  }
}

function readStampOf(fd: number) {
  return withSettings(fd, readStamp)
}

/** The difference by field, where the kernel lets this process read types by number (CAP_SYS_ADMIN). */
function typeDifference(btfId: number): string | null {
  if (btfId === 0) return null
  try {
    return layoutDifference(kernelBtf(btfId))
  } catch {
    return null
  }
}

/** Refuses sizes that are not those of the maps: they are fixed when the maps are made. */
export function checkSizesOf(directory: string, maps: PinnedMaps, sizes: Sizes): void {
  for (const [name, wanted] of Object.entries(mapEntries(sizes))) {
    if (maps.entries(name) !== wanted) {
      throw refusal(directory, `map ${name} has ${maps.entries(name)} entries, expected ${wanted}`)
    }
  }
}

export function refusal(directory: string, difference: string): DataplaneError {
  return new DataplaneError(
    `Cannot carry on with the state pinned in ${directory}: ${difference}; take it off with pointsman detach (connections are lost), then start again`,
  )
}
