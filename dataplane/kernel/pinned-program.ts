/**
 * A program with pinned maps: made, found again, exchanged for another build's, or moved to new maps when
 * the layout has changed. Killed at any moment, the next start finds the old state or the new one, and
 * finishes what was begun.
 */
import { randomBytes } from 'node:crypto'
import { netDeviceName } from '../../linux/device.ts'
import { waitForGracePeriod } from '../../linux/grace.ts'
import { libbpf, need } from '../../linux/libbpf.ts'
import { libc, type Mapping, mapShared } from '../../linux/libc.ts'
import { lockPinDirectory } from '../../linux/netns-lock.ts'
import type { MapMemory, Sizes } from '../dataplane.ts'
import { MAPS, type MapName, SettingsRecord } from '../layout/layout.gen.ts'
import { stampLayout } from '../layout/stamp.ts'
import { OWN_LAYOUT, recordOf } from '../layout/version.ts'
import { startSmall } from '../levels.ts'
import { mapMemory } from '../map-memory.ts'
import { Migration, type MigrationPlan, type OldMaps, planMigration } from '../migrate.ts'
import { mapEntries } from '../sizes.ts'
import { linkInfo, mapInfo, programInfo } from './object-info.ts'
import { checkSizesOf, openPinnedMaps, type PinnedMaps, refusal, withSettings } from './pinned-maps.ts'
import { Pins, type Trace } from './pins.ts'
import { loadProgram } from './program.ts'

/** A program in the kernel with its maps, new or found; `release` lets go of all file descriptors. */
export interface OpenedProgram {
  readonly programFd: number
  readonly mapFds: ReadonlyMap<MapName, number>
  readonly adopted: boolean
  release(): void
}

export function openUnpinned(objectPath: string, sizes: Sizes): OpenedProgram {
  const { programFd, mapFds, close } = loadProgram(objectPath, sizes, new Map())
  initialise(mapFds, sizes)
  return { programFd, mapFds, adopted: false, release: close }
}

export function openPinned(directory: string, objectPath: string, sizes: Sizes, trace: Trace): OpenedProgram {
  const lock = lockPinDirectory(directory)
  try {
    const pins = new Pins(directory, trace)
    finishMigration(pins, trace)
    const adopted = pins.complete()
    if (adopted) renew(pins, objectPath, sizes, trace)
    else pinNewProgram(pins, objectPath, sizes)
    const { fds } = openPinnedMaps(pins)
    const mapFds = fds as ReadonlyMap<MapName, number>
    const programFd = pins.openProgram()
    const release = () => {
      for (const fd of [...mapFds.values(), programFd]) libc.close(fd)
      lock.release()
    }
    return { programFd, mapFds, adopted, release }
  } catch (error) {
    lock.release()
    throw error
  }
}

/** The sizes of the maps pinned in `directory`, or null if no data plane is pinned there. */
export function pinnedSizes(directory: string): Sizes | null {
  const pins = new Pins(directory)
  if (!pins.complete()) return null
  const maps = openPinnedMaps(pins)
  try {
    return maps.sizes
  } finally {
    maps.close()
  }
}

/** Takes everything off: forwarding stops, connections are forgotten; whether there was anything. */
export function removePinned(directory: string): boolean {
  const lock = lockPinDirectory(directory)
  try {
    const pins = new Pins(directory)
    const rest = pins.beside().remove()
    return pins.remove() || rest
  } finally {
    lock.release()
  }
}

/** What maps hold before anybody can find them: whose they are, and a seed of their own. */
function initialise(mapFds: ReadonlyMap<MapName, number>, sizes: Sizes): void {
  withSettings(mapFds.get('settings')!, (settings) => {
    SettingsRecord.setHashSeed(settings, 0, randomBytes(4).readUInt32LE(0))
    startSmall(settings, sizes)
    stampLayout(settings)
  })
}

function pinNewProgram(pins: Pins, objectPath: string, sizes: Sizes): void {
  // What a version that pinned in place was interrupted at.
  pins.remove()
  const fresh = pins.beside()
  fresh.make()
  let loaded: ReturnType<typeof loadProgram> | null = null
  try {
    loaded = loadProgram(objectPath, sizes, new Map())
    initialise(loaded.mapFds, sizes)
    pinAll(fresh, loaded)
    pins.replace()
  } catch (error) {
    fresh.remove()
    throw error
  } finally {
    loaded?.close()
  }
}

function pinAll(pins: Pins, { mapFds, programFd }: Pick<OpenedProgram, 'mapFds' | 'programFd'>): void {
  for (const [name, fd] of mapFds) pins.pinMap(name, fd)
  pins.pinProgram(programFd)
}

/** Sees to it that the object's program is the pinned one, on maps of its layout. */
function renew(pins: Pins, objectPath: string, sizes: Sizes, trace: Trace): void {
  const maps = openPinnedMaps(pins)
  try {
    if (maps.layout === OWN_LAYOUT) renewProgram(pins, maps, objectPath, sizes)
    else migrate(pins, maps, objectPath, sizes, trace)
  } finally {
    maps.close()
  }
}

function renewProgram(pins: Pins, maps: PinnedMaps, objectPath: string, sizes: Sizes): void {
  checkSizesOf(pins.directory, maps, sizes)
  const loaded = loadProgram(objectPath, sizes, maps.fds as ReadonlyMap<MapName, number>)
  const runningFd = pins.openProgram()
  try {
    if (programInfo(loaded.programFd).tag !== programInfo(runningFd).tag) pins.pinProgram(loaded.programFd)
  } finally {
    libc.close(runningFd)
    loaded.close()
  }
}

/** Moves everything to maps of this layout; until the directories are exchanged nothing has changed. */
function migrate(pins: Pins, maps: PinnedMaps, objectPath: string, sizes: Sizes, trace: Trace): void {
  const old = maps.read()
  const plan = planMigration(old, mapEntries(sizes))
  if ('refusal' in plan) throw refusal(pins.directory, plan.refusal)
  const shared = new Map(plan.shared.map((name) => [name, maps.fds.get(name)!]))
  const loaded = loadProgram(objectPath, sizes, shared)
  const memory = new MapFiles(loaded.mapFds)
  const links = livingLinks(pins)
  const fresh = pins.beside()
  let isMoved = false
  const move = () => {
    pins.replace()
    isMoved = true
  }
  try {
    fresh.make()
    pinAll(fresh, loaded)
    for (const [ifindex, fd] of links)
      fresh.pinLink(ifindex, fd, pins.nameOf(ifindex) ?? netDeviceName(ifindex) ?? '')
    carryOver({ old, plan, memory, links, programFd: loaded.programFd, move, trace })
    fresh.remove()
  } catch (error) {
    if (!isMoved) fresh.remove()
    throw error
  } finally {
    for (const fd of links.values()) libc.close(fd)
    memory.close()
    loaded.close()
  }
}

interface Move {
  readonly old: OldMaps
  readonly plan: MigrationPlan
  readonly memory: MapFiles
  readonly links: ReadonlyMap<number, number>
  /** The program on the new maps. */
  readonly programFd: number
  /** Puts the new directory in its place. */
  readonly move: () => void
  readonly trace: Trace
}

/** Passes over the old maps before the exchange, as long as each finds half as much as the one before. */
const PASSES = 3

function carryOver({ old, plan, memory, links, programFd, move, trace }: Move): void {
  const migration = new Migration(old, memory, plan)
  let blocks = migration.copy()
  trace('copied')
  for (let pass = 0; pass < PASSES; pass++) {
    const changed = migration.catchUp()
    if (changed === 0 || 2 * changed > blocks) break
    blocks = changed
  }
  trace('caught up')
  const resume = plan.carried.some((name) => name.startsWith('connections')) ? holdNew(old) : () => {}
  try {
    trace('held new connections')
    migration.catchUp()
    move()
    exchangePrograms(links, programFd, trace)
  } catch (error) {
    resume()
    throw error
  }
  waitForGracePeriod()
  migration.finish()
  trace('carried the rest')
}

/**
 * Goes on where a killed process left off: the links say how far it came. None runs the program beside:
 * that was never in force, or is no more. All do: nothing has touched the new maps since they were filled,
 * and they are filled again. Some do: both are in use, and what can be saved is.
 */
function finishMigration(pins: Pins, trace: Trace): void {
  const beside = pins.beside()
  if (!beside.exists()) return
  if (pins.complete() && beside.complete()) {
    const programFd = pins.openProgram()
    const oldFd = beside.openProgram()
    const links = livingLinks(pins)
    try {
      const old = programInfo(oldFd).id
      const behind = [...links.values()].filter((fd) => linkInfo(fd).programId === old).length
      if (behind > 0) resumeMove(beside, pins, links, programFd, behind === links.size, trace)
    } finally {
      for (const fd of [programFd, oldFd, ...links.values()]) libc.close(fd)
    }
  }
  beside.remove()
}

function resumeMove(
  from: Pins,
  to: Pins,
  links: ReadonlyMap<number, number>,
  programFd: number,
  isUntouched: boolean,
  trace: Trace,
): void {
  const oldMaps = openPinnedMaps(from)
  const newMaps = openPinnedMaps(to)
  const memory = new MapFiles(newMaps.fds as ReadonlyMap<MapName, number>)
  try {
    if (newMaps.layout !== OWN_LAYOUT) {
      throw refusal(to.directory, `another version has begun to move it to layout ${newMaps.layout.version}`)
    }
    const old = oldMaps.read()
    const plan = planMigration(old, mapEntries(newMaps.sizes))
    if ('refusal' in plan) throw refusal(to.directory, plan.refusal)
    if (isUntouched) {
      carryOver({ old, plan, memory, links, programFd, move: () => {}, trace })
      return
    }
    exchangePrograms(links, programFd, trace)
    waitForGracePeriod()
    new Migration(old, memory, plan).salvage()
  } finally {
    memory.close()
    newMaps.close()
    oldMaps.close()
  }
}

/** The pinned links whose interfaces exist, by ifindex. */
function livingLinks(pins: Pins): Map<number, number> {
  const links = new Map<number, number>()
  for (const ifindex of pins.links()) {
    const fd = pins.openLink(ifindex)
    if (linkInfo(fd).ifindex === ifindex) links.set(ifindex, fd)
    else libc.close(fd)
  }
  return links
}

function exchangePrograms(links: ReadonlyMap<number, number>, programFd: number, trace: Trace): void {
  for (const [ifindex, fd] of links) {
    need(libbpf().bpf_link_update(fd, programFd, null), `replace the program on interface ${ifindex}`)
    trace(`replaced the program of link-${ifindex}`)
  }
}

/**
 * Has the old program drop the first packets of new connections for the milliseconds of the exchange: their
 * clients send them again, while a connection that only the old maps know would be reset by the host.
 * Returns what takes it back.
 */
function holdNew(old: OldMaps): () => void {
  const field = recordOf(old.layout, 'settings').fields.find(({ name }) => name === 'drop_rate')
  if (field === undefined) return () => {}
  const bytes = old.bytes('settings')
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  const rate = Atomics.exchange(words, field.offset / 4, 1)
  return () => void Atomics.store(words, field.offset / 4, rate)
}

/** Maps by their descriptors as memory. */
class MapFiles {
  readonly #fds: ReadonlyMap<MapName, number>
  readonly #maps = new Map<MapName, { readonly memory: MapMemory; readonly mapping: Mapping }>()

  constructor(fds: ReadonlyMap<MapName, number>) {
    this.#fds = fds
  }

  map(name: MapName): MapMemory {
    const known = this.#maps.get(name)
    if (known !== undefined) return known.memory
    const fd = this.#fds.get(name)
    if (fd === undefined) throw new Error(`No map ${name}`)
    const { entries } = mapInfo(fd)
    const mapping = mapShared(fd, entries * MAPS[name].entrySize, `map ${name}`)
    const memory = mapMemory(name, entries, mapping.buffer)
    this.#maps.set(name, { memory, mapping })
    return memory
  }

  close(): void {
    for (const { mapping } of this.#maps.values()) mapping.unmap()
    this.#maps.clear()
  }
}
