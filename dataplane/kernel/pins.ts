/**
 * The pin directory: what the packet program needs to go on without us.
 *
 *     settings ... locals   the maps
 *     program               the program; made last and removed first, so without it the rest is debris
 *     link-IFINDEX          one attachment; forwarding lasts as long as this file
 */
import { existsSync, readdirSync, renameSync, rmdirSync, unlinkSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { libbpf, need } from '../../linux/libbpf.ts'
import { libc, mapShared } from '../../linux/libc.ts'
import { DataplaneError, type Sizes } from '../dataplane.ts'
import { layoutDifference } from '../layout/check.ts'
import { MAP_NAMES, MAPS, type MapName, SettingsRecord } from '../layout/layout.gen.ts'
import { readStamp, stampDifference } from '../layout/stamp.ts'
import { mapEntries, sizesOfEntries } from '../sizes.ts'
import { kernelBtf, type MapInfo, mapInfo } from './object-info.ts'

const PROGRAM = 'program'
const LINK = /^link-(\d+)$/

export class Pins {
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
  }

  /** True when a program with all its maps was pinned here. */
  complete(): boolean {
    return existsSync(this.#path(PROGRAM))
  }

  pinMap(name: MapName, fd: number): void {
    this.#pin(fd, name)
  }

  openMap(name: MapName): number {
    return this.#open(name)
  }

  openProgram(): number {
    return this.#open(PROGRAM)
  }

  /** Pins the program, in place of another if there is one: at no moment there is none. */
  pinProgram(fd: number): void {
    const fresh = `${PROGRAM}-new`
    if (existsSync(this.#path(fresh))) unlinkSync(this.#path(fresh))
    this.#pin(fd, fresh)
    renameSync(this.#path(fresh), this.#path(PROGRAM))
  }

  /** ifindex of every pinned link. */
  links(): number[] {
    return this.#names().flatMap((name) => {
      const match = LINK.exec(name)
      return match === null ? [] : [Number(match[1])]
    })
  }

  pinLink(ifindex: number, fd: number): void {
    this.#pin(fd, `link-${ifindex}`)
  }

  openLink(ifindex: number): number {
    return this.#open(`link-${ifindex}`)
  }

  /** The link itself goes with its last file descriptor. */
  unpinLink(ifindex: number): void {
    unlinkSync(this.#path(`link-${ifindex}`))
  }

  /** Removes everything: links first, so that forwarding stops before its state goes. */
  remove(): boolean {
    const names = this.#names()
    const order = (name: string) => (LINK.test(name) ? 0 : name.startsWith(PROGRAM) ? 1 : 2)
    for (const name of names.sort((a, b) => order(a) - order(b))) unlinkSync(this.#path(name))
    if (existsSync(this.directory)) rmdirSync(this.directory)
    const parent = dirname(this.directory)
    // The folder of the default directories, once no other namespace has one.
    if (basename(parent) === 'pointsman' && existsSync(parent) && readdirSync(parent).length === 0) {
      rmdirSync(parent)
    }
    return names.length > 0
  }

  #path(name: string): string {
    return join(this.directory, name)
  }

  #names(): string[] {
    return existsSync(this.directory) ? readdirSync(this.directory) : []
  }

  #pin(fd: number, name: string): void {
    need(libbpf().bpf_obj_pin(fd, this.#path(name)), `pin ${this.#path(name)}`)
  }

  #open(name: string): number {
    return need(libbpf().bpf_obj_get(this.#path(name)), `open ${this.#path(name)}`)
  }
}

/** The sizes of the maps pinned in `directory`, or null if no data plane is pinned there. */
export function pinnedSizes(directory: string): Sizes | null {
  const pins = new Pins(directory)
  if (!pins.complete()) return null
  const fds = openMaps(pins)
  try {
    return sizesOfEntries(entriesOf(fds))
  } finally {
    for (const fd of fds.values()) libc.close(fd)
  }
}

/** Opens all pinned maps, or none. */
export function openMaps(pins: Pins): Map<MapName, number> {
  const fds = new Map<MapName, number>()
  try {
    for (const name of MAP_NAMES) fds.set(name, pins.openMap(name))
    return fds
  } catch (cause) {
    for (const fd of fds.values()) libc.close(fd)
    throw new DataplaneError(
      `Cannot carry on with ${pins.directory}: a map is missing; take the old state off with pointsman detach`,
      { cause },
    )
  }
}

function entriesOf(fds: ReadonlyMap<MapName, number>): Record<MapName, number> {
  const pairs = [...fds].map(([name, fd]) => [name, mapInfo(fd).entries] as const)
  return { ...mapEntries(NO_SIZES), ...Object.fromEntries(pairs) }
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

/** Looks at the `settings` map, whatever its layout: its head is the same in all. */
export function withSettings<T>(mapFds: ReadonlyMap<MapName, number>, look: (settings: DataView) => T): T {
  const fd = mapFds.get('settings')
  if (fd === undefined) throw new DataplaneError('Cannot read map settings: there is none')
  const { valueSize } = mapInfo(fd)
  if (valueSize < SettingsRecord.size) {
    throw new DataplaneError(
      `Cannot read map settings: it is ${valueSize} bytes, expected ${SettingsRecord.size}`,
    )
  }
  const mapping = mapShared(fd, valueSize, 'map settings')
  try {
    return look(new DataView(mapping.buffer))
  } finally {
    mapping.unmap()
  }
}

/** Refuses maps whose records or sizes are not what this build works with. */
export function checkPinnedMaps(pins: Pins, fds: ReadonlyMap<MapName, number>, sizes: Sizes): void {
  const infos = new Map<MapName, MapInfo>()
  for (const [name, fd] of fds) infos.set(name, mapInfo(fd))
  const difference = stampDifference(withSettings(fds, readStamp))
  if (difference !== null) {
    throw refusal(pins.directory, typeDifference([...infos.values()]) ?? difference)
  }
  const entries = mapEntries(sizes)
  for (const [name, info] of infos) {
    const { record, entrySize } = MAPS[name]
    if (info.valueSize !== entrySize) {
      const what = record.startsWith('pm_') ? `struct ${record}` : `a record of ${name}`
      throw refusal(pins.directory, `${what} is ${info.valueSize} bytes, expected ${entrySize}`)
    }
    if (info.entries !== entries[name]) {
      throw refusal(pins.directory, `map ${name} has ${info.entries} entries, expected ${entries[name]}`)
    }
  }
}

/** The difference by field, where the kernel lets this process read types by number (CAP_SYS_ADMIN). */
function typeDifference(infos: readonly MapInfo[]): string | null {
  for (const btfId of new Set(infos.map((info) => info.btfId))) {
    if (btfId === 0) continue
    try {
      const difference = layoutDifference(kernelBtf(btfId))
      if (difference !== null) return difference
    } catch {
      return null
    }
  }
  return null
}

export function refusal(directory: string, difference: string): DataplaneError {
  return new DataplaneError(
    `Cannot carry on with the state pinned in ${directory}: ${difference}; take it off with pointsman detach (connections are lost), then start again`,
  )
}
