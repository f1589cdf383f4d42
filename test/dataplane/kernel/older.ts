/**
 * An older version of the layout: records begin with a field that is no more, so that every field of
 * theirs stands elsewhere. Objects with it, and maps of today turned back into its.
 */
import { readdirSync, readFileSync } from 'node:fs'
import type { MapMemory, Sizes } from '../../../dataplane/dataplane.ts'
import { linkInfo, mapInfo } from '../../../dataplane/kernel/object-info.ts'
import { openPinnedMaps } from '../../../dataplane/kernel/pinned-maps.ts'
import { pinnedSizes } from '../../../dataplane/kernel/pinned-program.ts'
import { Pins } from '../../../dataplane/kernel/pins.ts'
import { type LoadedProgram, loadObject, readObjectFile } from '../../../dataplane/kernel/program.ts'
import {
  LAYOUT_DESCRIPTION,
  MAP_NAMES,
  type MapName,
  SettingsRecord,
} from '../../../dataplane/layout/layout.gen.ts'
import { type Layout, parseLayout, recordOf } from '../../../dataplane/layout/version.ts'
import { EARLIER_LAYOUTS, type LayoutText } from '../../../dataplane/layout/versions.gen.ts'
import { Migration, planMigration } from '../../../dataplane/migrate.ts'
import { mapEntries } from '../../../dataplane/sizes.ts'
import { libbpf, need } from '../../../linux/libbpf.ts'
import { libc, mapShared } from '../../../linux/libc.ts'
import { compileBpf } from '../compile-bpf.ts'

/** Smaller than any that was. */
export const OLDER_VERSION = 1
const MOVED = ['pm_conn4', 'pm_conn6', 'pm_counters', 'pm_real', 'pm_live']

/** types.h of that version. */
export function olderTypes(header: string): string {
  const moved = MOVED.reduce(
    (text, name) => text.replace(`struct ${name} {`, `struct ${name} {\n\t__u64 older;`),
    header,
  )
  return moved.replace(/#define PM_LAYOUT_VERSION \d+/, `#define PM_LAYOUT_VERSION ${OLDER_VERSION}`)
}

/** The packet program with that layout. */
export function compileOlder(): Buffer {
  const folder = new URL('../../../bpf/', import.meta.url)
  const text = (name: string) => readFileSync(new URL(name, folder), 'utf8')
  const names = readdirSync(folder).filter((name) => name.endsWith('.h'))
  const headers = Object.fromEntries(names.map((name) => [name, text(name)]))
  return compileBpf(text('pointsman.bpf.c'), { ...headers, 'types.h': olderTypes(text('types.h')) })
}

/** The description of that version: every field of those records stands eight bytes further. */
function olderText(): LayoutText {
  const lines = LAYOUT_DESCRIPTION.split('\n').map((line) => {
    const [name = '', size, ...fields] = line.split(' ')
    if (!MOVED.includes(name)) return line
    const moved = fields.map((field) => field.replace(/^\d+/, (offset) => String(Number(offset) + 8)))
    return [name, Number(size) + 8, '0:older:u64', ...moved].join(' ')
  })
  return { version: OLDER_VERSION, fingerprint: 'ffffffffffffffff', description: lines.join('\n') }
}

/** Makes this process know that layout, as if it had been released. */
export function knowOlder(): Layout {
  const text = olderText()
  ;(EARLIER_LAYOUTS as LayoutText[]).push(text)
  return parseLayout(text)
}

/** Loads an object of the older layout, its maps stamped as that version did. */
export function loadOlder(objectPath: string, sizes: Sizes): LoadedProgram {
  const loaded = loadObject(readObjectFile(objectPath, sizes), sizes, new Map())
  stampOlder(loaded)
  return loaded
}

function stampOlder({ mapFds }: LoadedProgram): void {
  const mapping = mapShared(mapFds.get('settings')!, SettingsRecord.size, 'map settings')
  SettingsRecord.setLayout(new DataView(mapping.buffer), 0, OLDER_VERSION)
  mapping.unmap()
}

/** Pins it as that version did: in place, the program last. */
export function pinOlder(directory: string, { mapFds, programFd }: LoadedProgram): void {
  const pins = new Pins(directory)
  pins.make()
  for (const [name, fd] of mapFds) pins.pinMap(name, fd)
  pins.pinProgram(programFd)
}

/** One map of any layout as memory. */
export function mapOf(fd: number, name: MapName, layout: Layout): MapMemory & { unmap(): void } {
  const entrySize = recordOf(layout, name).size
  const { entries } = mapInfo(fd)
  const { buffer, unmap } = mapShared(fd, entries * entrySize, `map ${name}`)
  return {
    name,
    entries,
    entrySize,
    bytes: new Uint8Array(buffer),
    view: new DataView(buffer),
    u32: new Uint32Array(buffer),
    i32: new Int32Array(buffer),
    u64: new BigUint64Array(buffer),
    unmap,
  }
}

/** Puts the older program with maps of its layout, filled from those of today, in the place of what is pinned. */
export function downgrade(directory: string, objectPath: string): void {
  const layout = knowOlder()
  const sizes = pinnedSizes(directory)
  if (sizes === null) throw new Error(`Nothing is pinned in ${directory}`)
  const pins = new Pins(directory)
  const present = openPinnedMaps(pins)
  const loaded = loadOlder(objectPath, sizes)
  const maps = new Map(MAP_NAMES.map((name) => [name, mapOf(loaded.mapFds.get(name)!, name, layout)]))
  const plan = planMigration(present, mapEntries(sizes), {}, layout)
  if ('refusal' in plan) throw new Error(plan.refusal)
  // The object has maps of its own for all: nothing is shared.
  const all = { ...plan, shared: [], carried: MAP_NAMES }
  const migration = new Migration(present.read(), { map: (name) => maps.get(name)! }, all, layout)
  migration.copy()
  stampOlder(loaded)
  const fresh = pins.beside()
  pinOlder(fresh.directory, loaded)
  for (const ifindex of pins.links()) {
    const fd = pins.openLink(ifindex)
    fresh.pinLink(ifindex, fd, pins.nameOf(ifindex) ?? '')
    if (linkInfo(fd).ifindex === ifindex)
      need(libbpf().bpf_link_update(fd, loaded.programFd, null), 'go back')
    libc.close(fd)
  }
  migration.finish()
  pins.replace()
  fresh.remove()
  for (const map of maps.values()) map.unmap()
  present.close()
  loaded.close()
}
