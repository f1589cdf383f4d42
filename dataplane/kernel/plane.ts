import { BpfReaders } from '../../linux/bpf-readers.ts'
import { defaultPinDirectory, pinTrap } from '../../linux/bpffs.ts'
import { netDeviceName } from '../../linux/device.ts'
import { libbpf, need } from '../../linux/libbpf.ts'
import { libc, type Mapping, mapShared } from '../../linux/libc.ts'
import { type Links, readLinks, whyNotTaken } from '../../linux/links.ts'
import { MachineError } from '../../linux/machine-error.ts'
import { askXdpFeatures } from '../../linux/netlink/netdev.ts'
import { QuestionSocket, SocketCourier } from '../../linux/netlink/questions.ts'
import type { Link } from '../../linux/netlink/rtnetlink.ts'
import { NETLINK_GENERIC } from '../../linux/netlink/socket.ts'
import { builtFile } from '../assets.ts'
import { monotonicTicks } from '../clock.ts'
import {
  type AttachedInterface,
  type AttachResult,
  type Dataplane,
  DataplaneError,
  type MapMemory,
  presentName,
  type Sizes,
  type WantedInterface,
  wantedName,
} from '../dataplane.ts'
import { publishEgress } from '../egress-table.ts'
import { crowdTrap, listInterfaces, putInterface, removeInterface } from '../interface-table.ts'
import { MAPS, type MapName } from '../layout/layout.gen.ts'
import { mapMemory } from '../map-memory.ts'
import { checkSizes, mapEntries } from '../sizes.ts'
import { readEgress } from './egress.ts'
import { linkInfo, linkInfoLater, type ProgramInfo, programInfo } from './object-info.ts'
import { type OpenedProgram, openPinned, openUnpinned, removePinned } from './pinned-program.ts'
import { Pins, type Trace } from './pins.ts'
import { mergingTrap, vlanTrap } from './traps.ts'
import { attachXdp, queryXdp, type XdpMode, type XdpModeChoice } from './xdp.ts'

export interface KernelOptions {
  readonly sizes: Sizes
  /** A folder on a BPF file system; `undefined`: one of this network namespace; `null`: pin nothing. */
  readonly pinDirectory?: string | null | undefined
  /** `dist/pointsman.bpf.o` unless said otherwise. */
  readonly objectPath?: string | undefined
  /** auto unless said otherwise. */
  readonly mode?: XdpModeChoice | undefined
  /** Who knows the links of this network namespace; the kernel is asked anew unless said otherwise. */
  readonly links?: (() => Links) | undefined
  /** Told of every step that changes what is pinned, after it was made: for tests that end there. */
  readonly trace?: Trace | undefined
}

interface OwnLink {
  readonly fd: number
  readonly mode: XdpMode
  /** Why it is not native. */
  readonly note: string | null
  /** Frames of its interface come to our program, as the kernel said at the last change or comparison. */
  holds: boolean
  /** What has come about since and is no good. */
  trap: string | null
  /** The name that its interface was wanted by. */
  wanted: string
}

/**
 * Takes off whatever is pinned in `directory`: forwarding stops, connections are forgotten. For when no
 * daemon runs; returns whether there was anything.
 */
export function detachPinned(directory: string = defaultPinDirectory()): boolean {
  return removePinned(directory)
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
  readonly #readLinks: () => Links
  readonly #pins: Pins | null
  readonly #opened: OpenedProgram
  readonly #program: ProgramInfo
  readonly #maps = new Map<MapName, { readonly memory: MapMemory; readonly mapping: Mapping }>()
  /** By ifindex. */
  readonly #links = new Map<number, OwnLink>()
  readonly #readers = new BpfReaders()
  /** Generic netlink, once it is needed. */
  #questions: QuestionSocket | null = null
  #closed = false
  /** What is pinned is being removed, or has been. */
  #isDetached = false

  /**
   * Loads the program, on the maps an earlier process pinned if there are any; a program that differs
   * from the pinned one takes over on every interface. Throws `DataplaneError` where state or object do
   * not fit this build, or the kernel refuses.
   */
  static async open(options: KernelOptions): Promise<KernelDataplane> {
    checkSizes(options.sizes)
    const objectPath = options.objectPath ?? builtFile('pointsman.bpf.o')
    const directory = options.pinDirectory === undefined ? defaultPinDirectory() : options.pinDirectory
    const trace = options.trace ?? (() => {})
    const pins = directory === null ? null : new Pins(directory, trace)
    const opened =
      directory === null
        ? openUnpinned(objectPath, options.sizes)
        : openPinned(directory, objectPath, options.sizes, trace)
    const plane = new KernelDataplane(options, pins, opened)
    try {
      plane.#adoptLinks()
      return plane
    } catch (error) {
      await plane.close()
      throw error
    }
  }

  private constructor(options: KernelOptions, pins: Pins | null, opened: OpenedProgram) {
    this.sizes = options.sizes
    this.adopted = opened.adopted
    this.pinDirectory = pins?.directory ?? null
    const trap = pins === null ? null : pinTrap(pins.directory)
    this.warnings = trap === null ? [] : [trap]
    this.programFd = opened.programFd
    this.#mode = options.mode ?? 'auto'
    this.#readLinks = options.links ?? readLinks
    this.#pins = pins
    this.#opened = opened
    this.#program = programInfo(opened.programFd)
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
    return [...this.#links].flatMap(([ifindex, own]) => {
      const name = own.holds ? netDeviceName(ifindex) : null
      return name === null ? [] : [described({ name, ifindex }, own)]
    })
  }

  async attach(interfaces: readonly WantedInterface[]): Promise<readonly AttachResult[]> {
    // At once: until then, what comes to another MAC address goes to the stack, which resets connections.
    this.#refreshInterfaces(this.#readLinks())
    await this.#look()
    if (this.#closed) throw new DataplaneError('Cannot attach: the data plane is closed')
    if (this.#isDetached && this.#pins !== null) {
      throw new DataplaneError('Cannot attach: what was pinned has been removed')
    }
    const links = this.#readLinks()
    const byName = new Map(interfaces.map((one) => [presentName(one), wantedName(one)]))
    const results = [...byName].map(([name, wanted]) => this.#attachOne(name, wanted, links))
    const attached = results.flatMap((result) => ('attached' in result ? [result.attached.ifindex] : []))
    const receiving = new Set(attached.flatMap((at) => links.receivingFor(at).map(({ ifindex }) => ifindex)))
    for (const ifindex of this.#links.keys()) if (!attached.includes(ifindex)) this.#removeLink(ifindex)
    for (const ifindex of listInterfaces(this.map('interfaces'))) {
      if (!receiving.has(ifindex)) removeInterface(this, ifindex)
    }
    // Behind the links: some drivers can send from the moment that a program is attached.
    await this.#publishEgress(links)
    return results
  }

  /** What is known of links under which packets are taken already. */
  #refreshInterfaces(links: Links): void {
    const known = new Set(listInterfaces(this.map('interfaces')))
    for (const ifindex of this.#links.keys()) {
      for (const receiving of links.receivingFor(ifindex)) {
        if (known.has(receiving.ifindex)) {
          putInterface(this, receiving, links.addressesOf(receiving.ifindex))
        }
      }
    }
  }

  async #publishEgress(links: Links): Promise<void> {
    this.#questions ??= new QuestionSocket(new SocketCourier(NETLINK_GENERIC))
    const features = await askXdpFeatures(this.#questions)
    // Not answered yet: what the table says holds until the next time.
    if (features === undefined || this.#closed) return
    const modes = new Map<number, XdpMode>()
    for (const [ifindex, { mode }] of this.#links) {
      for (const receiving of links.receivingFor(ifindex)) modes.set(receiving.ifindex, mode)
    }
    publishEgress(this.map('egress'), readEgress(links, modes, features))
  }

  #attachOne(name: string, wanted: string, links: Links): AttachResult {
    const link = links.named(name)
    if (link === null) {
      return { name, refused: `No interface "${name}" in this network namespace: see ip link`, absent: true }
    }
    try {
      const keeps = this.#keepsLink(link.ifindex)
      const trap = vlanTrap(link, links)
      const why = whyNotTaken(link) ?? (keeps ? null : trap)
      if (why !== null) throw new DataplaneError(why)
      // First the table: what arrives before that would pass as not configured.
      let left = 0
      for (const receiving of links.receivingFor(link.ifindex)) {
        left += putInterface(this, receiving, links.addressesOf(receiving.ifindex))
      }
      if (!keeps) {
        this.#removeLink(link.ifindex)
        this.#makeLink(link, wanted, links)
      }
      const own = this.#links.get(link.ifindex)!
      own.wanted = wanted
      this.#pins?.name(link.ifindex, wanted)
      // Forwarding does not end for a VLAN that was made on top later.
      own.trap = trap ?? crowdTrap(link.name, left)
      return { name, attached: described(link, own) }
    } catch (error) {
      if (!(error instanceof MachineError)) throw error
      return { name, refused: error.message, absent: false }
    }
  }

  async quiesce(): Promise<void> {
    await this.#readers.wait()
  }

  async detach(): Promise<void> {
    for (const ifindex of this.#links.keys()) this.#removeLink(ifindex)
    for (const ifindex of listInterfaces(this.map('interfaces'))) {
      removeInterface(this, ifindex)
    }
    this.#isDetached = true
    this.#pins?.remove()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#questions?.close()
    this.#readers.close()
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
        removeInterface(this, ifindex)
        continue
      }
      if (info.programId !== this.#program.id) {
        need(libbpf().bpf_link_update(fd, this.programFd, null), `replace the program on ${name}`)
      }
      this.#links.set(ifindex, {
        fd,
        mode: queryXdp(ifindex).mode ?? 'native',
        note: null,
        holds: true,
        trap: null,
        wanted: pins.nameOf(ifindex) ?? name,
      })
    }
    pins.forgetNames()
  }

  /** Asks the kernel which links hold: it cuts them when an interface goes. */
  async #look(): Promise<void> {
    await Promise.all(
      [...this.#links].map(async ([ifindex, own]) => {
        const info = await linkInfoLater(own.fd)
        if (info !== null) own.holds = info.ifindex === ifindex && info.programId === this.#program.id
      }),
    )
  }

  #keepsLink(ifindex: number): boolean {
    const own = this.#links.get(ifindex)
    return own?.holds === true && (this.#mode === 'auto' || this.#mode === own.mode)
  }

  #makeLink(link: Link, wanted: string, links: Links): void {
    const { fd, mode, note } = attachXdp(this.programFd, link, this.#mode)
    const trap = mode === 'generic' ? mergingTrap(link, links) : null
    if (trap !== null) {
      libc.close(fd)
      throw new DataplaneError(trap)
    }
    this.#links.set(link.ifindex, { fd, mode, note, holds: true, trap: null, wanted })
    this.#pins?.pinLink(link.ifindex, fd, wanted)
  }

  #removeLink(ifindex: number): void {
    const link = this.#links.get(ifindex)
    if (link === undefined) return
    if (this.#pins?.links().includes(ifindex)) this.#pins.unpinLink(ifindex)
    libc.close(link.fd)
    this.#links.delete(ifindex)
  }
}

function described(
  { name, ifindex }: { readonly name: string; readonly ifindex: number },
  { mode, note, trap, wanted }: OwnLink,
): AttachedInterface {
  const text = trap ?? note
  return {
    ...{ name, ifindex, mode },
    ...(text === null ? {} : { note: text }),
    ...(wanted === name ? {} : { wanted }),
  }
}
