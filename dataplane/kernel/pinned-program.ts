/**
 * The programs with pinned maps: made, found again, exchanged for another build's, or moved to new maps when
 * the layout has changed. Killed at any moment, the next start finds the old state or the new one, and
 * finishes what was begun.
 */
import { randomBytes } from 'node:crypto'
import { netDeviceName } from '../../linux/device.ts'
import { waitForGracePeriod } from '../../linux/grace.ts'
import { libbpf, need } from '../../linux/libbpf.ts'
import { libc, type Mapping, mapShared } from '../../linux/libc.ts'
import { MachineError } from '../../linux/machine-error.ts'
import { removeOwnPair } from '../../linux/netlink/own-pair.ts'
import { RequestSocket } from '../../linux/netlink/socket.ts'
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
import { filterOf, HOOKS, type Hook, isTaking, Pins, placeOf, type Trace } from './pins.ts'
import {
  type LoadedProgram,
  type LoadedPrograms,
  loadProgram,
  loadProgramLater,
  loadPrograms,
  type MapFds,
  type Objects,
  readObjectFile,
  SHARED_MAPS,
  SHARING,
  type SharedMap,
  sharedOf,
} from './program.ts'
import { dropFilter, dropFilters, filterProgram, putFilter } from './tc.ts'

/** Programs in the kernel with their maps, new or found; `release` lets go of all file descriptors. */
export interface OpenedPrograms {
  readonly mapFds: ReadonlyMap<MapName, number>
  /** What another program in the place of one of these is to run on, beside those. */
  readonly sharedFds: ReadonlyMap<SharedMap, number>
  readonly adopted: boolean
  /** What an earlier build has left is as it was, since this one's was refused: why, for people. */
  readonly kept: readonly string[]
  /** The program of a hook, on the same maps as the others; loaded when it is first asked for. */
  program(hook: Hook): number
  /** Whether there is one already. */
  has(hook: Hook): boolean
  /** Loads it without holding up this thread, unless `isOver` says afterwards that nobody wants it any more. */
  load(hook: Hook, isOver: () => boolean): Promise<void>
  /** No link runs it any more. */
  drop(hook: Hook): void
  release(): void
}

/** What is loaded at once, and of which objects. */
export interface Wanted {
  readonly hooks: readonly Hook[]
  readonly objects: Objects
  readonly sizes: Sizes
}

export function openUnpinned({ hooks, objects, sizes }: Wanted): OpenedPrograms {
  const loaded = loadPrograms(hooks, objects, sizes, new Map())
  initialise(loaded.mapFds, sizes)
  const programs = new Map(loaded.programFds)
  const { mapFds } = loaded
  const sharedFds = new Map(loaded.sharedFds)
  const maps = (): MapFds => new Map([...mapFds, ...sharedFds])
  const later: { close(): void }[] = []
  const keep = (hook: Hook, more: LoadedProgram): void => {
    later.push(more)
    for (const [name, fd] of more.sharedFds) sharedFds.set(name, fd)
    programs.set(hook, more.programFd)
  }
  return {
    mapFds: loaded.mapFds,
    sharedFds,
    adopted: false,
    kept: [],
    program(hook) {
      if (!programs.has(hook)) keep(hook, loadProgram(objects[hook], sizes, maps()))
      return programs.get(hook)!
    },
    has: (hook) => programs.has(hook),
    async load(hook, isOver) {
      const loaded = await loadProgramLater(objects[hook], sizes, maps())
      if (programs.has(hook) || isOver()) loaded.close()
      else keep(hook, loaded)
    },
    drop: () => {},
    release() {
      for (const one of [...later, loaded]) one.close()
    },
  }
}

export function openPinned(directory: string, wanted: Wanted, trace: Trace): OpenedPrograms {
  const lock = lockPinDirectory(directory)
  try {
    const pins = new Pins(directory, trace)
    finishMigration(pins, trace)
    const adopted = pins.complete()
    if (adopted) forgetUnattached(pins)
    const kept = adopted ? renew(pins, wanted, trace) : []
    if (!adopted) pinNewPrograms(pins, wanted)
    const { fds } = openPinnedMaps(pins)
    const mapFds = fds as ReadonlyMap<MapName, number>
    const sharedFds = openShared(pins)
    const maps = (): MapFds => new Map([...mapFds, ...sharedFds])
    const programs = openPrograms(pins)
    const keep = (hook: Hook, loaded: LoadedProgram): void => {
      try {
        for (const [name, fd] of loaded.sharedFds) {
          if (sharedFds.has(name)) continue
          pins.pinMap(name, fd)
          sharedFds.set(name, pins.openMap(name))
        }
        pins.pinProgram(loaded.programFd, hook)
        pins.note(hook, { digest: loaded.digest, tag: programInfo(loaded.programFd).tag })
      } finally {
        loaded.close()
      }
      programs.set(hook, pins.openProgram(hook))
    }
    return {
      mapFds,
      sharedFds,
      adopted,
      kept,
      program(hook) {
        if (!programs.has(hook)) keep(hook, loadProgram(wanted.objects[hook], wanted.sizes, maps()))
        return programs.get(hook)!
      },
      has: (hook) => programs.has(hook),
      async load(hook, isOver) {
        const loaded = await loadProgramLater(wanted.objects[hook], wanted.sizes, maps())
        if (programs.has(hook) || isOver()) loaded.close()
        else keep(hook, loaded)
      },
      drop(hook) {
        const fd = programs.get(hook)
        if (fd === undefined) return
        pins.unpinProgram(hook)
        libc.close(fd)
        programs.delete(hook)
        if (SHARING.some((one) => programs.has(one))) return
        pins.forgetMaps(SHARED_MAPS)
        for (const shared of sharedFds.values()) libc.close(shared)
        sharedFds.clear()
      },
      release() {
        for (const fd of [...mapFds.values(), ...sharedFds.values(), ...programs.values()]) libc.close(fd)
        lock.release()
      },
    }
  } catch (error) {
    lock.release()
    throw error
  }
}

/** What nothing leads to any more, and nobody would take off. */
function forgetUnattached(pins: Pins): void {
  pins.forgetUnattached()
  if (!SHARING.some((hook) => pins.hooks().includes(hook))) pins.forgetMaps(SHARED_MAPS)
}

function openPrograms(pins: Pins): Map<Hook, number> {
  return new Map(pins.hooks().map((hook) => [hook, pins.openProgram(hook)]))
}

function openShared(pins: Pins): Map<SharedMap, number> {
  return new Map(SHARED_MAPS.filter((name) => pins.has(name)).map((name) => [name, pins.openMap(name)]))
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
    const linked = removeOwnLinks()
    const filtered = removeFilters()
    takeOff(pins)
    const rest = pins.beside().remove()
    return pins.remove() || rest || filtered || linked
  } finally {
    lock.release()
  }
}

/**
 * A link whose file is removed goes later, by a thread of the kernel's, and not before others have let go of it: when
 * this returns, packets are the stack's again.
 */
function takeOff(pins: Pins): void {
  for (const { hook, ifindex, isFilter } of pins.attachments()) {
    if (isFilter) continue
    try {
      const fd = pins.openLink(ifindex, hook)
      // What the kernel refuses is off already, with its interface, or goes with its file.
      libbpf().bpf_link_detach(fd)
      libc.close(fd)
    } catch (error) {
      if (!(error instanceof MachineError)) throw error
    }
  }
}

/** Also those whose notes are lost: no file holds them. */
function removeFilters(): boolean {
  try {
    return dropFilters()
  } catch (error) {
    // A kernel without traffic control has none.
    if (error instanceof MachineError) return false
    throw error
  }
}

/** Those of the host's own clients. */
function removeOwnLinks(): boolean {
  const socket = new RequestSocket()
  try {
    return removeOwnPair(socket)
  } finally {
    socket.close()
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

function pinNewPrograms(pins: Pins, { hooks, objects, sizes }: Wanted): void {
  // What a version that pinned in place was interrupted at.
  pins.remove()
  const fresh = pins.beside()
  fresh.make()
  let loaded: LoadedPrograms | null = null
  try {
    loaded = loadPrograms(hooks, objects, sizes, new Map())
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

function pinAll(pins: Pins, loaded: LoadedPrograms): void {
  for (const [name, fd] of [...loaded.mapFds, ...loaded.sharedFds]) pins.pinMap(name, fd)
  for (const [hook, fd] of loaded.programFds) pins.pinProgram(fd, hook)
  noteAll(pins, loaded)
}

function noteAll(pins: Pins, { programFds, digests }: LoadedPrograms): void {
  for (const [hook, fd] of programFds)
    pins.note(hook, { digest: digests.get(hook)!, tag: programInfo(fd).tag })
}

/** Sees to it that the objects' programs are the pinned ones, on maps of their layout; what is not, and why. */
function renew(pins: Pins, wanted: Wanted, trace: Trace): readonly string[] {
  const maps = openPinnedMaps(pins)
  // Also those that are only pinned: their links go on until others are made.
  const hooks = HOOKS.filter((hook) => wanted.hooks.includes(hook) || pins.hooks().includes(hook))
  try {
    if (maps.layout === OWN_LAYOUT) return renewPrograms(pins, maps, { ...wanted, hooks }, wanted.hooks)
    migrate(pins, maps, { ...wanted, hooks }, wanted.hooks, trace)
    return []
  } finally {
    maps.close()
  }
}

/** @param needed of the hooks: of the others an earlier build's program goes on if the kernel refuses this one's */
function renewPrograms(
  pins: Pins,
  maps: PinnedMaps,
  { hooks, objects, sizes }: Wanted,
  needed: readonly Hook[],
): readonly string[] {
  checkSizesOf(pins.directory, maps, sizes)
  const running = openPrograms(pins)
  const loaded: LoadedProgram[] = []
  const kept: string[] = []
  try {
    const tags = new Map(Array.from(running, ([hook, fd]) => [hook, programInfo(fd).tag]))
    const fresh = new Map<Hook, LoadedProgram>()
    for (const hook of hooks) {
      try {
        // The verifier takes seconds for the program, in which nobody owns the rules.
        if (isNoted(pins, hook, objects[hook], sizes, tags.get(hook))) continue
        const mapFds = maps.fds as ReadonlyMap<MapName, number>
        // Another build's datagrams may be written down in another way.
        const one = loadProgram(objects[hook], sizes, new Map([...mapFds, ...sharedOf(loaded)]))
        loaded.push(one)
        fresh.set(hook, one)
      } catch (error) {
        if (needed.includes(hook) || !(error instanceof MachineError)) throw error
        kept.push(`The program of ${hook} is still that of an earlier build: ${error.message}`)
      }
    }
    if (loaded.length > 0) pins.forgetMaps(SHARED_MAPS)
    for (const [name, fd] of sharedOf(loaded)) pins.pinMap(name, fd)
    for (const [hook, { programFd, digest }] of fresh) {
      const { tag } = programInfo(programFd)
      if (tag !== tags.get(hook)) pins.pinProgram(programFd, hook)
      pins.note(hook, { digest, tag })
    }
  } finally {
    for (const fd of running.values()) libc.close(fd)
    for (const one of loaded) one.close()
  }
  return kept
}

/** Whether this object was loaded before, and gave the program with the tag of the one that runs. */
function isNoted(pins: Pins, hook: Hook, objectPath: string, sizes: Sizes, tag: string | undefined): boolean {
  const note = pins.noteOf(hook)
  return note !== null && note.tag === tag && note.digest === readObjectFile(objectPath, sizes).digest
}

/** Moves everything to maps of this layout; until the directories are exchanged nothing has changed. */
/** @param needed as above; of the others there are none, and no attachments, until they are wanted and can be had */
function migrate(
  pins: Pins,
  maps: PinnedMaps,
  { hooks, objects, sizes }: Wanted,
  needed: readonly Hook[],
  trace: Trace,
): void {
  const old = maps.read()
  const plan = planMigration(old, mapEntries(sizes))
  if ('refusal' in plan) throw refusal(pins.directory, plan.refusal)
  const shared = new Map(plan.shared.map((name) => [name, maps.fds.get(name)!]))
  const inUse = livingLinks(pins)
  const isNeeded = (hook: Hook): boolean =>
    needed.includes(hook) || (isTaking(hook) && inUse.some((link) => link.hook === hook))
  let loaded: LoadedPrograms
  try {
    loaded = loadPrograms(hooks, objects, sizes, shared, isNeeded)
  } catch (error) {
    closeLinks(inUse)
    throw error
  }
  const memory = new MapFiles(loaded.mapFds)
  const links = inUse.filter(({ hook }) => loaded.programFds.has(hook))
  const fresh = pins.beside()
  let isMoved = false
  const move = () => {
    pins.replace()
    isMoved = true
  }
  try {
    fresh.make()
    pinAll(fresh, loaded)
    for (const { hook, ifindex, fd } of links) {
      const name = pins.nameOf(ifindex) ?? netDeviceName(ifindex) ?? ''
      if (fd === null) fresh.noteFilter(ifindex, name, filterOf(hook))
      else fresh.pinLink(ifindex, fd, name, hook)
    }
    carryOver({ old, plan, memory, links, programFds: loaded.programFds, move, trace })
    dropFiltersLeft(pins)
    fresh.remove()
  } catch (error) {
    if (!isMoved) fresh.remove()
    throw error
  } finally {
    closeLinks(inUse)
    memory.close()
    loaded.close()
  }
}

/** Those of programs that are not here any more: no file holds a filter, as it does a link. */
function dropFiltersLeft(pins: Pins): void {
  const hooks = new Set(pins.attachments().map(({ hook, ifindex }) => `${hook} ${ifindex}`))
  for (const { hook, ifindex, isFilter } of pins.beside().attachments()) {
    if (isFilter && !hooks.has(`${hook} ${ifindex}`) && netDeviceName(ifindex) !== null)
      dropFilter(ifindex, placeOf(hook))
  }
}

/** A pinned link whose interface exists; a filter has no descriptor. */
interface LivingLink {
  readonly hook: Hook
  readonly ifindex: number
  readonly fd: number | null
}

interface Move {
  readonly old: OldMaps
  readonly plan: MigrationPlan
  readonly memory: MapFiles
  readonly links: readonly LivingLink[]
  /** The programs on the new maps. */
  readonly programFds: ReadonlyMap<Hook, number>
  /** Puts the new directory in its place. */
  readonly move: () => void
  readonly trace: Trace
}

/** Passes over the old maps before the exchange, as long as each finds half as much as the one before. */
const PASSES = 3

function carryOver({ old, plan, memory, links, programFds, move, trace }: Move): void {
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
    exchangePrograms(links, programFds, trace)
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
    const programFds = openPrograms(pins)
    const oldFds = openPrograms(beside)
    const links = livingLinks(pins)
    try {
      const old = [...oldFds.values()].map((fd) => programInfo(fd).id)
      const behind = links.filter((link) => old.includes(programOf(link))).length
      if (behind > 0) resumeMove(beside, pins, links, programFds, behind === links.length, trace)
    } finally {
      for (const fd of [...programFds.values(), ...oldFds.values()]) libc.close(fd)
      closeLinks(links)
    }
    dropFiltersLeft(pins)
  }
  beside.remove()
}

function resumeMove(
  from: Pins,
  to: Pins,
  links: readonly LivingLink[],
  programFds: ReadonlyMap<Hook, number>,
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
      carryOver({ old, plan, memory, links, programFds, move: () => {}, trace })
      return
    }
    exchangePrograms(links, programFds, trace)
    waitForGracePeriod()
    new Migration(old, memory, plan).salvage()
  } finally {
    memory.close()
    newMaps.close()
    oldMaps.close()
  }
}

function livingLinks(pins: Pins): LivingLink[] {
  const links: LivingLink[] = []
  for (const { hook, ifindex, isFilter } of pins.attachments()) {
    if (isFilter) {
      if (filterProgram(ifindex, placeOf(hook)) !== 0) links.push({ hook, ifindex, fd: null })
      continue
    }
    const fd = pins.openLink(ifindex, hook)
    if (linkInfo(fd).ifindex === ifindex) links.push({ hook, ifindex, fd })
    else libc.close(fd)
  }
  return links
}

function closeLinks(links: readonly LivingLink[]): void {
  for (const { fd } of links) if (fd !== null) libc.close(fd)
}

function programOf({ hook, ifindex, fd }: LivingLink): number {
  return fd === null ? filterProgram(ifindex, placeOf(hook)) : linkInfo(fd).programId
}

function exchangePrograms(
  links: readonly LivingLink[],
  programFds: ReadonlyMap<Hook, number>,
  trace: Trace,
): void {
  for (const { hook, ifindex, fd } of links) {
    const programFd = programFds.get(hook)
    if (programFd === undefined) throw new Error(`No program for ${hook}, which interface ${ifindex} runs`)
    if (fd === null) {
      putFilter(programFd, { ifindex, name: netDeviceName(ifindex) ?? `${ifindex}` }, placeOf(hook))
    } else need(libbpf().bpf_link_update(fd, programFd, null), `replace the program on interface ${ifindex}`)
    trace(`replaced the program of ${hook === 'xdp' ? 'link' : hook}-${ifindex}`)
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
