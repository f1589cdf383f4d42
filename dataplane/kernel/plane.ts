/**
 * The kernel as host of the packet program: XDP, memory-mapped BPF arrays, everything pinned, so that
 * forwarding goes on when this process is gone and the next one carries on with the same state.
 */
import { randomBytes } from 'node:crypto'
import { defaultPinDirectory, makePinDirectory, pinTrap } from '../../linux/bpffs.ts'
import { type NetDevice, netDeviceName, readNetDevice } from '../../linux/device.ts'
import { libbpf, need } from '../../linux/libbpf.ts'
import { libc, type Mapping, mapShared } from '../../linux/libc.ts'
import { lockPinDirectory } from '../../linux/lock.ts'
import { builtFile } from '../assets.ts'
import { monotonicTicks } from '../clock.ts'
import {
  type AttachedInterface,
  type Dataplane,
  DataplaneError,
  type MapMemory,
  type Sizes,
} from '../dataplane.ts'
import { listInterfaces, putInterface, removeInterface } from '../interface-table.ts'
import { MAPS, type MapName, PM_LAYOUT_VERSION, SettingsRecord } from '../layout/layout.gen.ts'
import { mapMemory } from '../map-memory.ts'
import { checkSizes, mapEntries } from '../sizes.ts'
import { linkInfo, type ProgramInfo, programInfo } from './object-info.ts'
import { checkPinnedMaps, openMaps, Pins, refusal } from './pins.ts'
import { loadProgram } from './program.ts'
import { attachXdp, queryXdp, type XdpMode, type XdpModeChoice } from './xdp.ts'

export interface KernelOptions {
  readonly sizes: Sizes
  /** A folder on a BPF file system; `undefined`: one of this network namespace; `null`: pin nothing. */
  readonly pinDirectory?: string | null | undefined
  /** `dist/pointsman.bpf.o` unless said otherwise. */
  readonly objectPath?: string | undefined
  /** auto unless said otherwise. */
  readonly mode?: XdpModeChoice | undefined
}

/** A program in the kernel with its maps, new or found; `release` lets go of all file descriptors. */
interface Opened {
  readonly programFd: number
  readonly mapFds: ReadonlyMap<MapName, number>
  readonly adopted: boolean
  release(): void
}

interface Link {
  readonly name: string
  readonly fd: number
  readonly mode: XdpMode
  /** Why it is not native. */
  readonly note: string | null
}

/** CPUs the kernel may ever use: the least `sizes.cpus` that XDP works with. */
export function possibleCpus(): number {
  return need(libbpf().libbpf_num_possible_cpus(), 'count CPUs')
}

/**
 * Takes off whatever is pinned in `directory`: forwarding stops, connections are forgotten. For when no
 * daemon runs; returns whether there was anything.
 */
export function detachPinned(directory: string = defaultPinDirectory()): boolean {
  const lock = lockPinDirectory(directory)
  try {
    return new Pins(directory).remove()
  } finally {
    libc.close(lock)
  }
}

export class KernelDataplane implements Dataplane {
  readonly plane = 'xdp'
  readonly sizes: Sizes
  /** True when the state of an earlier process was found and is carried on. */
  readonly adopted: boolean
  readonly pinDirectory: string | null
  readonly warnings: readonly string[]
  /** The running program, for BPF_PROG_TEST_RUN. */
  readonly programFd: number
  readonly #mode: XdpModeChoice
  readonly #pins: Pins | null
  readonly #opened: Opened
  readonly #program: ProgramInfo
  readonly #maps = new Map<MapName, { readonly memory: MapMemory; readonly mapping: Mapping }>()
  /** By ifindex. */
  readonly #links = new Map<number, Link>()
  #closed = false

  /**
   * Loads the program, on the maps an earlier process pinned if there are any; a program that differs
   * from the pinned one takes over on every interface. Throws `DataplaneError` where state or object do
   * not fit this build, or the kernel refuses.
   */
  static async open(options: KernelOptions): Promise<KernelDataplane> {
    checkSizes(options.sizes)
    if (options.sizes.cpus < possibleCpus()) {
      throw new RangeError(`sizes.cpus is ${options.sizes.cpus}, expected at least ${possibleCpus()}`)
    }
    const objectPath = options.objectPath ?? builtFile('pointsman.bpf.o')
    const directory = options.pinDirectory === undefined ? defaultPinDirectory() : options.pinDirectory
    const pins = directory === null ? null : new Pins(directory)
    const opened =
      pins === null ? openUnpinned(objectPath, options.sizes) : openPinned(pins, objectPath, options.sizes)
    const plane = new KernelDataplane(options, pins, opened)
    try {
      plane.#start()
      return plane
    } catch (error) {
      await plane.close()
      throw error
    }
  }

  private constructor(options: KernelOptions, pins: Pins | null, opened: Opened) {
    this.sizes = options.sizes
    this.adopted = opened.adopted
    this.pinDirectory = pins?.directory ?? null
    const trap = pins === null ? null : pinTrap(pins.directory)
    this.warnings = trap === null ? [] : [trap]
    this.programFd = opened.programFd
    this.#mode = options.mode ?? 'auto'
    this.#pins = pins
    this.#opened = opened
    this.#program = programInfo(opened.programFd)
  }

  #start(): void {
    const settings = this.map('settings').view
    if (!this.adopted) {
      SettingsRecord.setHashSeed(settings, 0, randomBytes(4).readUInt32LE(0))
      SettingsRecord.setLayout(settings, 0, PM_LAYOUT_VERSION)
    }
    const layout = SettingsRecord.getLayout(settings, 0)
    if (layout !== PM_LAYOUT_VERSION) {
      throw refusal(
        this.pinDirectory ?? 'memory',
        `its layout has version ${layout}, expected ${PM_LAYOUT_VERSION}`,
      )
    }
    this.#adoptLinks()
  }

  map(name: MapName): MapMemory {
    if (this.#closed) throw new DataplaneError(`Cannot read map ${name}: the data plane is closed`)
    const known = this.#maps.get(name)
    if (known !== undefined) return known.memory
    const fd = this.#opened.mapFds.get(name)
    if (fd === undefined) throw new DataplaneError(`Cannot read map ${name}: there is none`)
    const entries = mapEntries(this.sizes)[name]
    const mapping = mapShared(fd, entries * MAPS[name].entrySize, `map ${name}`)
    const memory = mapMemory(name, entries, mapping.buffer)
    this.#maps.set(name, { memory, mapping })
    return memory
  }

  nowTicks(): number {
    return monotonicTicks()
  }

  interfaces(): readonly AttachedInterface[] {
    return [...this.#links].map(([ifindex, { name, mode, note }]) => ({
      name,
      ifindex,
      mode,
      ...(note === null ? {} : { note }),
    }))
  }

  /**
   * Takes packets from exactly these interfaces: links that are there already are kept as they are,
   * others made or removed. If one fails, those that this call made are taken off again.
   */
  async attach(names: readonly string[]): Promise<void> {
    const devices = [...new Set(names)].map(readNetDevice)
    const wanted = new Set(devices.map(({ ifindex }) => ifindex))
    const made: number[] = []
    try {
      for (const device of devices) {
        putInterface(this.map('interfaces'), device)
        if (this.#keepsLink(device)) continue
        this.#removeLink(device.ifindex)
        made.push(device.ifindex)
        this.#makeLink(device)
      }
    } catch (error) {
      for (const ifindex of made) this.#dropInterface(ifindex)
      throw error
    }
    for (const ifindex of [...this.#links.keys(), ...listInterfaces(this.map('interfaces'))]) {
      if (!wanted.has(ifindex)) this.#dropInterface(ifindex)
    }
  }

  async detach(): Promise<void> {
    for (const ifindex of [...this.#links.keys()]) this.#dropInterface(ifindex)
    this.#pins?.remove()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const { mapping } of this.#maps.values()) mapping.unmap()
    this.#maps.clear()
    for (const { fd } of this.#links.values()) libc.close(fd)
    this.#links.clear()
    this.#opened.release()
  }

  program(): { readonly name: string; readonly id: number; readonly tag: string } {
    return this.#program
  }

  /** Takes over the links of an earlier process, and sees to it that all of them run our program. */
  #adoptLinks(): void {
    const pins = this.#pins
    if (pins === null) return
    for (const ifindex of pins.links()) {
      const fd = pins.openLink(ifindex)
      const info = linkInfo(fd)
      const name = netDeviceName(ifindex)
      if (info.ifindex !== ifindex || name === null) {
        // The interface went away, and its link forwards nothing any more.
        libc.close(fd)
        pins.unpinLink(ifindex)
        removeInterface(this.map('interfaces'), ifindex)
        continue
      }
      if (info.programId !== this.#program.id) {
        need(libbpf().bpf_link_update(fd, this.programFd, null), `replace the program on ${name}`)
      }
      this.#links.set(ifindex, { name, fd, mode: queryXdp(ifindex).mode ?? 'native', note: null })
    }
  }

  #keepsLink(device: NetDevice): boolean {
    const link = this.#links.get(device.ifindex)
    if (link === undefined) return false
    const alive = linkInfo(link.fd).ifindex === device.ifindex
    return alive && (this.#mode === 'auto' || this.#mode === link.mode)
  }

  #makeLink(device: NetDevice): void {
    const { fd, mode, note } = attachXdp(this.programFd, device, this.#mode)
    this.#links.set(device.ifindex, { name: device.name, fd, mode, note })
    this.#pins?.pinLink(device.ifindex, fd)
  }

  #removeLink(ifindex: number): void {
    const link = this.#links.get(ifindex)
    if (link === undefined) return
    if (this.#pins?.links().includes(ifindex)) this.#pins.unpinLink(ifindex)
    libc.close(link.fd)
    this.#links.delete(ifindex)
  }

  #dropInterface(ifindex: number): void {
    this.#removeLink(ifindex)
    removeInterface(this.map('interfaces'), ifindex)
  }
}

function openUnpinned(objectPath: string, sizes: Sizes): Opened {
  const { programFd, mapFds, close } = loadProgram(objectPath, sizes, new Map())
  return { programFd, mapFds, adopted: false, release: close }
}

function openPinned(pins: Pins, objectPath: string, sizes: Sizes): Opened {
  makePinDirectory(pins.directory)
  const lock = lockPinDirectory(pins.directory)
  try {
    const adopted = pins.complete()
    if (adopted) renewProgram(pins, objectPath, sizes)
    else pinNewProgram(pins, objectPath, sizes)
    const mapFds = openMaps(pins)
    const programFd = pins.openProgram()
    const release = () => {
      for (const fd of [...mapFds.values(), programFd, lock]) libc.close(fd)
    }
    return { programFd, mapFds, adopted, release }
  } catch (error) {
    libc.close(lock)
    throw error
  }
}

function pinNewProgram(pins: Pins, objectPath: string, sizes: Sizes): void {
  // What an interrupted start or detach left behind.
  pins.remove()
  makePinDirectory(pins.directory)
  const loaded = loadProgram(objectPath, sizes, new Map())
  try {
    for (const [name, fd] of loaded.mapFds) pins.pinMap(name, fd)
    pins.pinProgram(loaded.programFd)
  } catch (error) {
    pins.remove()
    throw error
  } finally {
    loaded.close()
  }
}

/** Pins the object's program over the pinned maps if it differs from the pinned one. */
function renewProgram(pins: Pins, objectPath: string, sizes: Sizes): void {
  const mapFds = openMaps(pins)
  const runningFd = pins.openProgram()
  try {
    checkPinnedMaps(pins, mapFds, sizes)
    const loaded = loadProgram(objectPath, sizes, mapFds)
    try {
      if (programInfo(loaded.programFd).tag !== programInfo(runningFd).tag) pins.pinProgram(loaded.programFd)
    } finally {
      loaded.close()
    }
  } finally {
    for (const fd of [...mapFds.values(), runningFd]) libc.close(fd)
  }
}
