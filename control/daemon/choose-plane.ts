/** Which data plane to run: the one asked for, or the best that works here, and why. */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { changePlane } from '../../dataplane/change.ts'
import { copyMaps, FACTS_OF_A_PLANE, forgetNextHops } from '../../dataplane/copy.ts'
import {
  type AttachedInterface,
  asWanted,
  type Dataplane,
  DataplaneError,
  type Sizes,
  throwRefusals,
  type WantedInterface,
} from '../../dataplane/dataplane.ts'
import { removeDeadPins } from '../../dataplane/kernel/dead-pins.ts'
import { pinnedSizes } from '../../dataplane/kernel/pinned-program.ts'
import { Pins } from '../../dataplane/kernel/pins.ts'
import { type AttachChoice, detachPinned, KernelDataplane } from '../../dataplane/kernel/plane.ts'
import type { XdpModeChoice } from '../../dataplane/kernel/xdp.ts'
import { ForwarderLink } from '../../dataplane/userspace/forwarder/forwarder-link.ts'
import { CONTROL_SOCKET, MAPS_NAME } from '../../dataplane/userspace/forwarder/protocol.ts'
import { catchUp, MapsFile, olderMaps, sizesInFile } from '../../dataplane/userspace/maps-file.ts'
import { letGo, UserspaceDataplane } from '../../dataplane/userspace/plane.ts'
import { defaultPinDirectory } from '../../linux/bpffs.ts'
import { cpuRows } from '../../linux/cpus.ts'
import type { Links } from '../../linux/links.ts'

export const PLANE_CHOICES = ['auto', 'xdp', 'tc', 'userspace', 'none'] as const
export type PlaneChoice = (typeof PLANE_CHOICES)[number]

/** What the operator may size; the rest follows. */
export interface Capacity {
  readonly services: number
  readonly realServers: number
  /** Lines of each connection table; a NAT connection takes two. */
  readonly connections4: number
  readonly connections6: number
  /** Prefixes that can be denied or allowed. */
  readonly filters: number
}

export const DEFAULT_CAPACITY: Capacity = {
  services: 16_384,
  realServers: 131_072,
  connections4: 1 << 20,
  connections6: 1 << 17,
  filters: 98_304,
}

function powerOfTwo(least: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(least, 1)))
}

/** The sizes of all maps for a capacity. */
export function sizesFor(capacity: Capacity, cpus: number): Sizes {
  return {
    services: capacity.services,
    // Half full when all services exist: two choices of eight then practically never overflow.
    serviceBuckets: powerOfTwo(Math.max(4, capacity.services / 4)),
    reals: capacity.realServers,
    // Ranges are powers of two, and a service that is being changed holds two.
    members: powerOfTwo(Math.max(4 * capacity.realServers, 16_384)),
    connections4: powerOfTwo(Math.max(capacity.connections4, 64)),
    connections6: powerOfTwo(Math.max(capacity.connections6, 64)),
    // Three quarters full: two choices of four then practically never overflow.
    filterBuckets: powerOfTwo(Math.max(2, capacity.filters / 3)),
    cpus,
  }
}

export interface OpenOptions {
  readonly choice: PlaneChoice
  readonly xdpMode: XdpModeChoice
  readonly interfaces: readonly string[]
  readonly capacity: Capacity
  readonly runDirectory: string
  readonly workers: number
  readonly busyPoll: boolean
  readonly engine: 'packet' | 'xdp'
  /** Whoever knows the links of this network namespace. */
  links(): Links
  log(message: string): void
}

/** A data plane that takes packets from the wanted interfaces is the caller's to attach. */
export interface Opened {
  /** null: rules are kept, no packets are handled. */
  readonly dataplane: Dataplane | null
  /** Why this one. */
  readonly reason: string
  /** Whether the state of an earlier process was found and is carried on. */
  readonly adopted: boolean
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** Both planes count on as many CPUs, so that state fits from one into the other. */
function cpus(workers: number): number {
  let rows = availableParallelism()
  try {
    rows = cpuRows()
  } catch {
    // Without libbpf there is no XDP either: what Node sees will do.
  }
  return Math.max(rows, workers)
}

function mapFile(options: OpenOptions): string {
  return join(options.runDirectory, MAPS_NAME)
}

/**
 * Whether the maps of a userspace plane lie here, with services. Only during a change of planes are there
 * pins beside them, and then the links tell who is in force: towards XDP they come when everything has
 * been copied, and away from it they go when everything has.
 */
function holdsRules(path: string): boolean {
  const file = MapsFile.open(path)
  if (!(file instanceof MapsFile)) return false
  try {
    return file.map('service_index').bytes.some((byte) => byte !== 0)
  } finally {
    file.close()
  }
}

/**
 * The sizes of what is pinned here, which it keeps; null where nothing is. Throws where this version cannot
 * carry on with it: beside a program of ours that forwards by other rules, no plane must start.
 */
function sizesInUse(options: OpenOptions): Sizes | null {
  const directory = defaultPinDirectory()
  if (new Pins(directory).links().length === 0 && holdsRules(mapFile(options)) && detachPinned(directory)) {
    options.log(`Removed ${directory}: a change of planes ended half-way, and userspace has the rules`)
  }
  let pinned: Sizes | null
  try {
    pinned = pinnedSizes(directory)
  } catch (cause) {
    if (cause instanceof DataplaneError) throw cause
    throw new DataplaneError(
      `Cannot look at what is pinned in ${directory}, and no other data plane may start beside it: ${describe(cause)}; as root: pointsman detach (connections are lost)`,
      { cause },
    )
  }
  if (pinned === null) return null
  const wanted = sizesFor(options.capacity, pinned.cpus)
  const differs = (Object.keys(wanted) as (keyof Sizes)[]).filter((name) => pinned[name] !== wanted[name])
  if (differs.length > 0) {
    options.log(
      `The maps in use keep their sizes (${differs.map((name) => `${name} ${pinned[name]}`).join(', ')}): run pointsman detach first to change them`,
    )
  }
  return pinned
}

/** What was asked for, under the names that it has now; told of nothing, what an earlier process took. */
function toTake(
  { interfaces, links }: OpenOptions,
  present: readonly AttachedInterface[],
): readonly WantedInterface[] {
  if (interfaces.length === 0) return present.map(asWanted)
  const known = links()
  return interfaces.map((name) => {
    const renamed = present.find(({ wanted }) => wanted === name)
    return renamed === undefined || known.named(name) !== null ? name : asWanted(renamed)
  })
}

/** How the kernel's program is attached for a plane that was asked for. */
function modeOf({ xdpMode }: OpenOptions, kind: 'xdp' | 'tc'): AttachChoice {
  return kind === 'tc' ? 'tc' : xdpMode
}

/** The kernel's with what is pinned, else with what a userspace plane has or has left, else with nothing. */
async function openKernel(options: OpenOptions, pinned: Sizes | null, kind: 'xdp' | 'tc'): Promise<Opened> {
  for (const directory of removeDeadPins()) {
    options.log(`Removed ${directory}: its network namespace is gone`)
  }
  const sizes = pinned ?? sizesInFile(mapFile(options)) ?? sizesFor(options.capacity, cpus(options.workers))
  const dataplane = await KernelDataplane.open({
    ...{ sizes, links: options.links, loadsLater: true },
    mode: modeOf(options, kind),
  })
  if (dataplane.adopted) return { dataplane, reason: 'asked for', adopted: true }
  try {
    const adopted = (await takeFromForwarder(options, dataplane)) || (await carryOver(options, dataplane))
    return { dataplane, reason: 'asked for', adopted }
  } catch (error) {
    await dataplane.detach().catch(() => {})
    await dataplane.close()
    throw error
  }
}

/**
 * A forwarder that lives goes on making connections until it lets go: it hands over as in a change of
 * planes, or those that it makes between a copy and its end would be lost. Whether there was one.
 */
async function takeFromForwarder(options: OpenOptions, to: KernelDataplane): Promise<boolean> {
  const link = await ForwarderLink.connect(join(options.runDirectory, CONTROL_SOCKET)).catch(() => null)
  if (link === null) return false
  const { hello } = link
  link.close()
  const present = hello.interfaces
  if (present.length === 0) return false
  const file = MapsFile.open(mapFile(options))
  if (!(file instanceof MapsFile)) return false
  file.close()
  // As it is, so that it is not replaced first.
  const { workers, busyPoll, intake, ringBytes } = hello.setup
  const { runDirectory, log } = options
  const from = await UserspaceDataplane.open({
    ...{ sizes: to.sizes, runDirectory, log },
    ...{ workers, busyPoll, intake, ringBytes },
  })
  try {
    for (const complaint of await changePlane(from, to, toTake(options, present))) options.log(complaint)
    return true
  } finally {
    await from.close()
  }
}

/** What a userspace plane has here goes along; its file stays until this plane has taken its packets. */
async function carryOver(options: OpenOptions, to: KernelDataplane): Promise<boolean> {
  const path = mapFile(options)
  const from = MapsFile.open(path)
  if (!(from instanceof MapsFile)) return from.foreign === true && (await carryOverOlder(options, to))
  try {
    catchUp(from)
    copyMaps(from, to)
    return true
  } finally {
    from.close()
  }
}

/**
 * A forwarder of an earlier version cannot be told to wait for us by the maps that it has. It lets go, and the
 * kernel drops what it had claimed until this plane has taken its interfaces.
 */
async function carryOverOlder(options: OpenOptions, to: KernelDataplane): Promise<boolean> {
  const older = olderMaps(mapFile(options))
  const link = await ForwarderLink.connect(join(options.runDirectory, CONTROL_SOCKET)).catch(() => null)
  const present = link?.hello.interfaces ?? []
  if (link !== null) await letGo(link)
  older.carryInto(to, FACTS_OF_A_PLANE)
  forgetNextHops(to)
  if (present.length > 0) throwRefusals(await to.attach(toTake(options, present)))
  options.log('Rules and connections were carried over from an earlier version of the userspace plane')
  return true
}

/** `fresh`: another plane has the rules, whatever lies about. */
async function openUserspacePlane(
  options: OpenOptions,
  sizes: Sizes,
  fresh: boolean,
): Promise<UserspaceDataplane> {
  return await UserspaceDataplane.open({
    sizes,
    fresh,
    workers: options.workers,
    busyPoll: options.busyPoll,
    intake: options.engine,
    runDirectory: options.runDirectory,
    log: options.log,
  })
}

/** Before anything is changed: maps in use keep their rows of CPUs. */
function checkRoomForWorkers({ workers }: Pick<OpenOptions, 'workers'>, { cpus }: Sizes): void {
  if (workers <= cpus) return
  throw new DataplaneError(
    `Cannot take over what XDP has pinned with ${workers} workers: its maps have room for ${cpus}; start with --workers ${cpus}, or run pointsman detach first (connections are lost)`,
  )
}

/** Userspace; if XDP forwards here, it hands over what it has. */
async function openUserspace(options: OpenOptions, pinned: Sizes | null): Promise<Opened> {
  if (pinned === null) {
    const sizes = sizesFor(options.capacity, cpus(options.workers))
    const dataplane = await openUserspacePlane(options, sizes, false)
    return { dataplane, reason: 'asked for', adopted: dataplane.adopted }
  }
  checkRoomForWorkers(options, pinned)
  const from = await KernelDataplane.open({ sizes: pinned, mode: options.xdpMode, links: options.links })
  let dataplane: UserspaceDataplane | null = null
  try {
    dataplane = await openUserspacePlane(options, pinned, true)
    const complaints = await changePlane(from, dataplane, toTake(options, from.interfaces()))
    for (const complaint of complaints) options.log(complaint)
    return { dataplane, reason: 'asked for', adopted: true }
  } catch (error) {
    // Its forwarder would go on without us, beside what XDP goes on doing.
    await dataplane?.detach().catch(() => {})
    await dataplane?.close()
    throw error
  } finally {
    await from.close()
  }
}

/** Whether XDP works on these interfaces is only known once it is attached. */
async function tryXdp(options: OpenOptions, pinned: Sizes | null): Promise<Opened> {
  const opened = await openKernel(options, pinned, 'xdp')
  const { dataplane } = opened
  if (dataplane === null || options.interfaces.length === 0) return opened
  try {
    throwRefusals(await dataplane.attach(toTake(options, dataplane.interfaces())))
    return opened
  } catch (error) {
    if (!(dataplane as KernelDataplane).adopted) await dataplane.detach().catch(() => {})
    await dataplane.close()
    throw error
  }
}

export async function openDataplane(options: OpenOptions): Promise<Opened> {
  const pinned = options.choice === 'none' ? null : sizesInUse(options)
  // What no plane can carry on with is refused here, before one has changed anything.
  if (options.choice !== 'none' && pinned === null) sizesInFile(mapFile(options))
  switch (options.choice) {
    case 'none':
      return { dataplane: null, reason: 'asked for: rules are kept, packets are left alone', adopted: false }
    case 'xdp':
    case 'tc':
      return await openKernel(options, pinned, options.choice)
    case 'userspace':
      return await openUserspace(options, pinned)
    case 'auto':
      try {
        const opened = await tryXdp(options, pinned)
        return { ...opened, reason: reasonFor(opened.dataplane?.interfaces() ?? []) }
      } catch (error) {
        options.log(`XDP does not work here, trying userspace: ${describe(error)}`)
        // The verifier's words fill pages; the log has them.
        return await openInstead(options, pinned, describe(error).split('\n')[0] ?? '')
      }
    default:
      return options.choice satisfies never
  }
}

/** Of `auto`, when the kernel has taken the interfaces. */
function reasonFor(interfaces: readonly AttachedInterface[]): string {
  const taken = new Set(interfaces.map(({ mode }) => mode))
  if (!taken.has('tc')) return 'XDP works here'
  return taken.size === 1
    ? 'XDP works on no interface, traffic control does'
    : 'XDP works here, on some interfaces traffic control'
}

async function openInstead(options: OpenOptions, pinned: Sizes | null, why: string): Promise<Opened> {
  try {
    return { ...(await openUserspace(options, pinned)), reason: `XDP does not work here: ${why}` }
  } catch (error) {
    throw new DataplaneError(`No data plane works here. xdp: ${why}. userspace: ${describe(error)}`)
  }
}

/** Moves a running director to another plane; the old one is closed when the new one forwards. */
export async function exchangeDataplane(
  options: OpenOptions,
  from: Dataplane,
  kind: 'xdp' | 'tc' | 'userspace',
): Promise<Dataplane> {
  if (from instanceof KernelDataplane && kind !== 'userspace') return await changeHook(options, from, kind)
  if (kind === 'userspace') checkRoomForWorkers(options, from.sizes)
  const present = from.interfaces()
  const to =
    kind !== 'userspace'
      ? await KernelDataplane.open({
          ...{ sizes: from.sizes, links: options.links, loadsLater: true },
          mode: modeOf(options, kind),
        })
      : await openUserspacePlane(options, from.sizes, true)
  try {
    const wanted = present.length > 0 ? present.map(asWanted) : options.interfaces
    for (const complaint of await changePlane(from, to, wanted)) options.log(complaint)
  } catch (error) {
    await to.detach().catch(() => {})
    await to.close().catch(() => {})
    throw error
  }
  await from.close()
  return to
}

/** The same maps, packets come to the program by another way. */
async function changeHook(
  options: OpenOptions,
  plane: KernelDataplane,
  kind: 'xdp' | 'tc',
): Promise<Dataplane> {
  const was = plane.choice
  const wanted = plane.interfaces().map(asWanted)
  plane.choose(modeOf(options, kind))
  try {
    throwRefusals(await plane.attach(wanted))
    return plane
  } catch (error) {
    plane.choose(was)
    await plane.attach(wanted)
    throw error
  }
}
