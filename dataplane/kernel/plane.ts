import { BpfReaders } from '../../linux/bpf-readers.ts'
import { defaultPinDirectory, pinTrap } from '../../linux/bpffs.ts'
import { netDeviceName } from '../../linux/device.ts'
import { libbpf, need } from '../../linux/libbpf.ts'
import { libc, type Mapping, mapShared } from '../../linux/libc.ts'
import { type Links, readLinks, whyNotTaken } from '../../linux/links.ts'
import { MachineError } from '../../linux/machine-error.ts'
import type { NetlinkMessage } from '../../linux/netlink/message.ts'
import { askXdpFeatures } from '../../linux/netlink/netdev.ts'
import { SERVE_DEVICE } from '../../linux/netlink/own-pair.ts'
import { QuestionSocket, SocketCourier } from '../../linux/netlink/questions.ts'
import type { Link } from '../../linux/netlink/rtnetlink.ts'
import { NETLINK_GENERIC } from '../../linux/netlink/socket.ts'
import { packetProgramOf, packetProgramQuery, type TcPlace } from '../../linux/netlink/traffic-control.ts'
import { builtFile } from '../assets.ts'
import { monotonicTicks } from '../clock.ts'
import {
  type Answers,
  type AttachedInterface,
  type AttachResult,
  type Dataplane,
  DataplaneError,
  type MapMemory,
  type OwnClients as OwnClientsState,
  presentName,
  type Sizes,
  type WantedInterface,
  wantedName,
} from '../dataplane.ts'
import { publishEgress } from '../egress-table.ts'
import { crowdTrap, listInterfaces, putInterface, removeInterface } from '../interface-table.ts'
import { MAPS, type MapName } from '../layout/layout.gen.ts'
import { mapMemory } from '../map-memory.ts'
import type { RecordingWanted, Tape } from '../recording.ts'
import { checkSizes, mapEntries } from '../sizes.ts'
import { Companions } from './companions.ts'
import { readEgress } from './egress.ts'
import { linkInfo, linkInfoLater, type ProgramInfo, programInfo } from './object-info.ts'
import { type OpenedPrograms, openPinned, openUnpinned, removePinned } from './pinned-program.ts'
import { type Hook, isTaking, Pins, type TakingHook, type Trace } from './pins.ts'
import { Recorder } from './recording.ts'
import { dropFilter, filterProgram, linkTc, putFilter } from './tc.ts'
import { mergingTrap, type VlanTrap, vlanTrap } from './traps.ts'
import { attachNative, attachXdp, queryXdp, type XdpMode, type XdpModeChoice } from './xdp.ts'

/** How the program is attached to an interface. */
export type AttachMode = XdpMode | 'tc'
/** auto: native XDP where it is whole, traffic control elsewhere. */
export type AttachChoice = XdpModeChoice | 'tc'

export interface KernelOptions {
  readonly sizes: Sizes
  /** A folder on a BPF file system; `undefined`: one of this network namespace; `null`: pin nothing. */
  readonly pinDirectory?: string | null | undefined
  /** `dist/pointsman.bpf.o` unless said otherwise. */
  readonly objectPath?: string | undefined
  /** The same for traffic control: `dist/pointsman-tc.bpf.o`. */
  readonly tcObjectPath?: string | undefined
  /** The same for what the host itself sends: `dist/pointsman-out.bpf.o`. */
  readonly outObjectPath?: string | undefined
  /** The same for what leads its requests: `dist/pointsman-own.bpf.o`. */
  readonly ownObjectPath?: string | undefined
  /** The same for what cuts beside XDP: `dist/pointsman-cut.bpf.o`. */
  readonly cutObjectPath?: string | undefined
  /** The same for what XDP cannot send: `dist/pointsman-relay.bpf.o`. */
  readonly relayObjectPath?: string | undefined
  /** auto unless said otherwise. */
  readonly mode?: AttachChoice | undefined
  /** Whether traffic control has links (Linux 6.6): tried unless said otherwise. */
  readonly tcLinks?: boolean | undefined
  /** Whether programs that are wanted later are loaded in a thread of their own, which takes a second or two. */
  readonly loadsLater?: boolean | undefined
  /** Who knows the links of this network namespace; the kernel is asked anew unless said otherwise. */
  readonly links?: (() => Links) | undefined
  /** Told of every step that changes what is pinned, after it was made: for tests that end there. */
  readonly trace?: Trace | undefined
}

interface OwnLink {
  readonly hook: TakingHook
  /** null: a filter, which no descriptor holds. */
  readonly fd: number | null
  readonly mode: AttachMode
  /** Why it is not native. */
  note: string | null
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

/** What the director's own sockets answer is not recorded; what they ask is, where the program takes it. */
const RECORDING_OBJECTS: Readonly<Record<TakingHook, string>> = {
  xdp: 'pointsman-recording.bpf.o',
  tc: 'pointsman-tc-recording.bpf.o',
}

export class KernelDataplane implements Dataplane {
  readonly sizes: Sizes
  /** True when the state of an earlier process was found and is carried on. */
  readonly adopted: boolean
  readonly pinDirectory: string | null
  readonly warnings: readonly string[]
  #mode: AttachChoice
  readonly #loadsLater: boolean
  /** Whose program an interface has to wait for, until it is loaded; null: none. */
  #lacking: Hook | null = null
  /** Programs that could not be loaded for this attach, and why. */
  readonly #unloadable = new Map<Hook, string>()
  readonly #tcLinks: boolean
  readonly #readLinks: () => Links
  readonly #pins: Pins | null
  readonly #opened: OpenedPrograms
  /** Those that are loaded. */
  readonly #programs = new Map<Hook, ProgramInfo>()
  readonly #maps = new Map<MapName, { readonly memory: MapMemory; readonly mapping: Mapping }>()
  /** By ifindex. */
  readonly #links = new Map<number, OwnLink>()
  readonly #companions: Companions
  readonly #readers = new BpfReaders()
  /** Generic netlink and rtnetlink, once they are needed. */
  #questions: QuestionSocket | null = null
  #filterQuestions: QuestionSocket | null = null
  /** What records at the hooks in use; null: nobody does. */
  #recording: ReadonlyMap<Hook, Recorder> | null = null
  /** Ids of programs that recorded, which a link may still have. */
  readonly #formerRecorders = new Set<number>()
  #closed = false
  /** What is pinned is being removed, or has been. */
  #isDetached = false

  /**
   * Loads the program, on the maps an earlier process pinned if there are any; a program that differs
   * from the pinned one takes over on every interface, and one that was made of the same object stays. Throws `DataplaneError` where state or object do
   * not fit this build, or the kernel refuses.
   */
  static async open(options: KernelOptions): Promise<KernelDataplane> {
    checkSizes(options.sizes)
    const objects = {
      xdp: options.objectPath ?? builtFile('pointsman.bpf.o'),
      tc: options.tcObjectPath ?? builtFile('pointsman-tc.bpf.o'),
      out: options.outObjectPath ?? builtFile('pointsman-out.bpf.o'),
      own: options.ownObjectPath ?? builtFile('pointsman-own.bpf.o'),
      cut: options.cutObjectPath ?? builtFile('pointsman-cut.bpf.o'),
      relay: options.relayObjectPath ?? builtFile('pointsman-relay.bpf.o'),
    }
    const wanted = { hooks: [hookOf(options.mode)], objects, sizes: options.sizes }
    const directory = options.pinDirectory === undefined ? defaultPinDirectory() : options.pinDirectory
    const trace = options.trace ?? (() => {})
    const pins = directory === null ? null : new Pins(directory, trace)
    const opened = directory === null ? openUnpinned(wanted) : openPinned(directory, wanted, trace)
    const plane = new KernelDataplane(options, pins, opened)
    try {
      plane.#adoptLinks()
      plane.#companions.adopt()
      return plane
    } catch (error) {
      await plane.close()
      throw error
    }
  }

  private constructor(options: KernelOptions, pins: Pins | null, opened: OpenedPrograms) {
    this.sizes = options.sizes
    this.adopted = opened.adopted
    this.pinDirectory = pins?.directory ?? null
    const trap = pins === null ? null : pinTrap(pins.directory)
    this.warnings = [...(trap === null ? [] : [trap]), ...opened.kept]
    this.#mode = options.mode ?? 'auto'
    this.#tcLinks = options.tcLinks ?? true
    this.#loadsLater = options.loadsLater ?? false
    this.#readLinks = options.links ?? readLinks
    this.#pins = pins
    this.#opened = opened
    this.#companions = new Companions({
      ...{ plane: this, pins, opened },
      tcLinks: this.#tcLinks,
      readLinks: this.#readLinks,
      receiving: (links) => this.#receivesByXdp(links, () => true),
      isOver: () => this.#isOver,
      isLater: this.#loadsLater,
    })
  }

  get plane(): 'xdp' | 'tc' {
    return hookOf(this.#mode)
  }

  /** Nothing is attached any more. */
  get #isOver(): boolean {
    return this.#closed || this.#isDetached
  }

  seeAnswers(on: boolean): void {
    if (!this.#isOver) this.#companions.outgoing.want(on, this.#readLinks)
  }

  answers(): Answers | null {
    return this.#companions.outgoing.state()
  }

  cutLarger(tunnels: boolean, fragments: boolean): void {
    if (!this.#isOver) this.#companions.cutting.want(tunnels, fragments)
  }

  cutting(): Answers | null {
    return this.#companions.cutting.state()
  }

  gathers(): boolean {
    if ([...this.#links.values()].some(({ hook }) => hook === 'xdp')) return this.#companions.cutting.isThere
    return this.#links.size > 0 || this.plane === 'tc'
  }

  /** Interfaces whose frames XDP takes, by those of its links. */
  #receivesByXdp(links: Links, which: (link: OwnLink) => boolean): ReadonlySet<number> {
    return new Set(
      [...this.#links].flatMap(([ifindex, own]) =>
        own.hook === 'xdp' && which(own) ? links.receivingFor(ifindex).map((one) => one.ifindex) : [],
      ),
    )
  }

  serveOwn(on: boolean): void {
    if (this.#isOver) return
    if (!on) {
      this.#companions.own.remove()
      this.#forgetServe()
      return
    }
    this.#companions.own.want()
    // At once: what comes there before would go to the stack. Who knows the links has not heard of it yet.
    const links = readLinks()
    this.#companions.own.bringInLine(links)
    this.#takeServe(links)
  }

  /** Takes packets from the link of own clients, if there is one. */
  #takeServe(known: Links): readonly AttachResult[] {
    const { serve } = this.#companions.own
    if (serve === null) return []
    // Who knows the links may know of the last pair still, or of none.
    const links = known.named(SERVE_DEVICE)?.ifindex === serve ? known : readLinks()
    const result = this.#attachOne(SERVE_DEVICE, SERVE_DEVICE, links)
    this.#companions.own.taken(result)
    return [result]
  }

  /** The link of own clients has gone. */
  #forgetServe(): void {
    for (const [ifindex, { wanted }] of this.#links) {
      if (wanted !== SERVE_DEVICE) continue
      this.#removeLink(ifindex)
      removeInterface(this, ifindex)
    }
  }

  ownClients(): OwnClientsState | null {
    return this.#companions.own.state()
  }

  /** The running program, for BPF_PROG_TEST_RUN. */
  get programFd(): number {
    return this.#opened.program(this.plane)
  }

  /** The program beside XDP, if it is loaded: for tests that look into its maps. */
  get besideFd(): number | null {
    return this.#opened.has('cut') ? this.#opened.program('cut') : null
  }

  /** How programs are attached from the next `attach` on: what is attached otherwise goes on until then. */
  choose(mode: AttachChoice): void {
    this.#mode = mode
  }

  /** How they are attached at present. */
  get choice(): AttachChoice {
    return this.#mode
  }

  /** The program that packets of a hook are to meet now, loaded if need be. */
  #runningFd(hook: Hook): number {
    return this.#recording?.get(hook)?.programFd ?? this.#opened.program(hook)
  }

  /** The same for an interface that is being attached: it waits while that is loaded without holding up this thread. */
  #fdToAttach(hook: Hook): number {
    const why = this.#unloadable.get(hook)
    if (why !== undefined) throw new DataplaneError(why)
    if (!this.#loadsLater || this.#opened.has(hook)) return this.#runningFd(hook)
    this.#lacking = hook
    throw new DataplaneError(`The program of ${hook} is being loaded: wait a moment`)
  }

  async #loadLacking(hook: Hook): Promise<void> {
    try {
      await this.#opened.load(hook, () => this.#isOver)
    } catch (error) {
      if (!(error instanceof MachineError)) throw error
      this.#unloadable.set(hook, error.message)
    }
  }

  #runningId(hook: Hook): number {
    return this.#recording?.get(hook)?.info.id ?? this.#programOf(hook).id
  }

  /** Whether a link runs a program of ours: the one that it should, once this returns. */
  #putRight(ifindex: number, { hook, fd }: OwnLink, programId: number): boolean {
    const wanted = this.#runningId(hook)
    if (programId === wanted) return true
    // One that recorded, or does not record, and was to be exchanged when the kernel could not.
    if (programId !== this.#programOf(hook).id && !this.#formerRecorders.has(programId)) return false
    this.#replaceProgram(hook, fd, { ifindex, name: netDeviceName(ifindex) ?? String(ifindex) })
    return true
  }

  /** The usual program of a hook, loaded if need be. */
  #programOf(hook: Hook): ProgramInfo {
    const known = this.#programs.get(hook)
    if (known !== undefined) return known
    const info = programInfo(this.#opened.program(hook))
    this.#programs.set(hook, info)
    return info
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
      if (own.wanted === SERVE_DEVICE) return []
      const name = own.holds ? netDeviceName(ifindex) : null
      if (name === null) return []
      const shown = described({ name, ifindex }, own)
      if (own.mode !== 'native' || this.#mode !== 'auto') return [shown]
      const { relay } = this.#companions
      const receiving = this.#readLinks().receivingFor(ifindex)
      if (receiving.every((one) => relay.at().has(one.ifindex))) return [{ ...shown, relayed: true }]
      const [why] = relay.refused
      return [{ ...(why === undefined ? {} : { note: `nothing sends what XDP cannot: ${why}` }), ...shown }]
    })
  }

  async attach(interfaces: readonly WantedInterface[]): Promise<readonly AttachResult[]> {
    // At once: until then, what comes to another MAC address goes to the stack, which resets connections.
    this.#refreshInterfaces(this.#readLinks())
    await this.#look()
    this.#mayAttach()
    let links = this.#readLinks()
    this.#companions.bringSendingInLine(links)
    const byName = new Map(interfaces.map((one) => [presentName(one), wantedName(one)]))
    this.#unloadable.clear()
    const attachAll = () => {
      this.#lacking = null
      return [...byName].map(([name, wanted]) => this.#attachOne(name, wanted, links))
    }
    let results = attachAll()
    while (this.#lacking !== null) {
      await this.#loadLacking(this.#lacking)
      this.#mayAttach()
      links = this.#readLinks()
      results = attachAll()
    }
    const inner = this.#takeServe(links)
    const attached = [...results, ...inner].flatMap((result) =>
      'attached' in result ? [result.attached.ifindex] : [],
    )
    const receiving = new Set(attached.flatMap((at) => links.receivingFor(at).map(({ ifindex }) => ifindex)))
    // A link that is newer than what is known of links.
    if (this.#companions.own.serve !== null) receiving.add(this.#companions.own.serve)
    for (const ifindex of this.#links.keys()) if (!attached.includes(ifindex)) this.#removeLink(ifindex)
    for (const ifindex of listInterfaces(this.map('interfaces'))) {
      if (!receiving.has(ifindex)) removeInterface(this, ifindex)
    }
    this.#dropUnused()
    this.#companions.cutting.bringInLine(links)
    await this.#bringRelay(links)
    // Behind the links: some drivers can send from the moment that a program is attached.
    if (this.#mode !== 'tc' && !this.#isOver) await this.#publishEgress(links)
    return results
  }

  #mayAttach(): void {
    if (this.#closed) throw new DataplaneError('Cannot attach: the data plane is closed')
    if (this.#isDetached && this.#pins !== null) {
      throw new DataplaneError('Cannot attach: what was pinned has been removed')
    }
  }

  /** Beside native XDP where nobody has asked for that alone. */
  async #bringRelay(links: Links): Promise<void> {
    const isAuto = this.#mode === 'auto'
    const beside = this.#receivesByXdp(links, ({ mode, holds }) => isAuto && holds && mode === 'native')
    await this.#companions.relay.bringInLine(beside, links, async () => {
      await this.#readers.wait()
      return !this.#isOver
    })
  }

  /** A program that is not asked for, once no link runs it. */
  #dropUnused(): void {
    const used = new Set<Hook>([hookOf(this.#mode), ...[...this.#links.values()].map(({ hook }) => hook)])
    for (const hook of ['xdp', 'tc'] as const) {
      if (used.has(hook) || !this.#opened.has(hook)) continue
      this.#opened.drop(hook)
      this.#programs.delete(hook)
    }
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
      if (mode === 'tc') continue
      for (const receiving of links.receivingFor(ifindex)) modes.set(receiving.ifindex, mode)
    }
    publishEgress(this.map('egress'), readEgress(links, modes, this.#companions.relay.at(), features))
  }

  #attachOne(name: string, wanted: string, links: Links): AttachResult {
    const link = links.named(name)
    if (link === null) {
      return { name, refused: `No interface "${name}" in this network namespace: see ip link`, absent: true }
    }
    try {
      const trap = this.#mode === 'tc' ? null : vlanTrap(link, links)
      const keeps = this.#keepsLink(link.ifindex, trap)
      const why = whyNotTaken(link) ?? (keeps || this.#mode === 'auto' ? null : (trap?.refusal ?? null))
      if (why !== null) throw new DataplaneError(why)
      // First the table: what arrives before that would pass as not configured.
      let left = 0
      for (const receiving of links.receivingFor(link.ifindex)) {
        left += putInterface(this, receiving, links.addressesOf(receiving.ifindex))
      }
      if (!keeps) this.#renewLink(link, wanted, links)
      const own = this.#links.get(link.ifindex)!
      own.wanted = wanted
      this.#pins?.name(link.ifindex, wanted)
      // Forwarding does not end for a VLAN that was made on top later.
      own.trap = own.hook === 'xdp' && trap !== null ? trap.refusal : crowdTrap(link.name, left)
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
    this.#stopRecording()
    for (const ifindex of this.#links.keys()) this.#removeLink(ifindex)
    this.#companions.remove()
    for (const ifindex of listInterfaces(this.map('interfaces'))) {
      removeInterface(this, ifindex)
    }
    this.#isDetached = true
    this.#pins?.remove()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#stopRecording()
    this.#closed = true
    this.#questions?.close()
    this.#filterQuestions?.close()
    this.#readers.close()
    for (const { mapping } of this.#maps.values()) mapping.unmap()
    this.#maps.clear()
    for (const [ifindex, { fd }] of this.#links) {
      if (fd !== null) libc.close(fd)
      else if (this.#pins === null) dropFilter(ifindex)
    }
    this.#links.clear()
    this.#companions.close()
    this.#opened.release()
  }

  async record(wanted: RecordingWanted): Promise<Tape> {
    if (this.#recording !== null) {
      throw new DataplaneError('Cannot record: somebody does already; end that recording first')
    }
    const recorders = new Map<Hook, Recorder>()
    this.#recording = recorders
    try {
      const hooks = new Set([hookOf(this.#mode), ...[...this.#links.values()].map(({ hook }) => hook)])
      const maps = new Map([...this.#opened.mapFds, ...this.#opened.sharedFds])
      for (const hook of hooks) {
        const object = builtFile(RECORDING_OBJECTS[hook])
        const recorder = await Recorder.load(object, this.sizes, maps, wanted)
        if (this.#closed || this.#isDetached) {
          recorder.close()
          throw new DataplaneError('Cannot record: the data plane is closed')
        }
        recorders.set(hook, recorder)
      }
      const [failure] = this.#exchange(recorders)
      if (failure !== undefined) throw failure
    } catch (error) {
      // Links that hold have their usual program back; what is wrong with others the first failure says.
      this.#stopRecording()
      throw error
    }
    return {
      read: (take) => {
        if (this.#recording === recorders) for (const recorder of recorders.values()) recorder.read(take)
      },
      lost: () => [...recorders.values()].reduce((sum, recorder) => sum + recorder.lost(), 0),
      over: () => (this.#recording === recorders ? null : 'the packet program has been let go'),
      close: async () => {
        const [failure] = this.#recording === recorders ? this.#stopRecording() : []
        if (failure !== undefined) throw failure
      },
    }
  }

  /** The programs that packets met before are back; what went wrong, by interface. */
  #stopRecording(): readonly Error[] {
    const recorders = this.#recording
    if (recorders === null) return []
    this.#recording = null
    try {
      return this.#exchange(recorders)
    } finally {
      for (const { info } of recorders.values()) this.#formerRecorders.add(info.id)
      for (const recorder of recorders.values()) recorder.close()
    }
  }

  /**
   * Sees to it that links of these hooks run the program that packets are to meet now. One that somebody has torn off
   * does not keep the others from it; a comparison with the kernel finds it later.
   */
  #exchange(hooks: ReadonlyMap<Hook, unknown>): readonly Error[] {
    if (this.#isDetached) return []
    const failures: Error[] = []
    for (const [ifindex, { hook, fd }] of this.#links) {
      const name = hooks.has(hook) ? netDeviceName(ifindex) : null
      if (name === null) continue
      try {
        this.#replaceProgram(hook, fd, { ifindex, name })
      } catch (error) {
        if (!(error instanceof Error)) throw error
        failures.push(error)
      }
    }
    return failures
  }

  program(): { readonly name: string; readonly id: number; readonly tag: string } {
    return this.#programOf(hookOf(this.#mode))
  }

  /** Takes over the links of an earlier process, and sees to it that all of them run our program. */
  #adoptLinks(): void {
    const pins = this.#pins
    if (pins === null) return
    for (const { hook, ifindex, isFilter } of pins.attachments()) {
      if (!isTaking(hook)) continue
      const fd = isFilter ? null : pins.openLink(ifindex, hook)
      const info = fd === null ? { ifindex, programId: filterProgram(ifindex) } : linkInfo(fd)
      const name = netDeviceName(ifindex)
      const isAlive = info.ifindex === ifindex && name !== null && info.programId !== 0
      // A change from one hook to the other was interrupted: that which is asked for stays.
      const isTwice = this.#links.has(ifindex)
      if (!isAlive || (isTwice && hook !== hookOf(this.#mode))) {
        // The interface went away, and its link forwards nothing any more.
        if (fd === null) {
          if (isAlive) dropFilter(ifindex)
          pins.forgetFilter(ifindex)
        } else {
          libc.close(fd)
          pins.unpinLink(ifindex, hook)
        }
        if (!isTwice) removeInterface(this, ifindex)
        continue
      }
      this.#removeLink(ifindex)
      if (info.programId !== this.#programOf(hook).id) this.#replaceProgram(hook, fd, { ifindex, name })
      this.#links.set(ifindex, {
        hook,
        fd,
        mode: hook === 'tc' ? 'tc' : (queryXdp(ifindex).mode ?? 'native'),
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
    await Promise.all([
      ...[...this.#links].map(async ([ifindex, own]) => {
        const info = own.fd === null ? await this.#askFilter(ifindex, 'ingress') : await linkInfoLater(own.fd)
        if (info !== null)
          own.holds = info.ifindex === ifindex && this.#putRight(ifindex, own, info.programId)
      }),
      this.#companions.look(
        async (ifindex, place) => (await this.#askFilter(ifindex, place))?.programId ?? null,
      ),
    ])
  }

  #keepsLink(ifindex: number, trap: VlanTrap | null): boolean {
    const own = this.#links.get(ifindex)
    if (own?.holds !== true) return false
    if (this.#mode !== 'auto') return this.#mode === own.mode
    // Traffic control stays where it is known why; what an earlier process has made of it is looked at once.
    return own.mode === 'native' ? trap === null : own.mode === 'tc' && own.note !== null
  }

  /** In place of one that does not hold, or is of another mode; of another hook it goes on until the new one is there. */
  #renewLink(link: Link, wanted: string, links: Links): void {
    const { ifindex } = link
    const old = this.#links.get(ifindex)
    const trap = this.#mode === 'auto' ? vlanTrap(link, links) : null
    const stays = old?.holds === true && (trap !== null || old.hook !== hookOf(this.#mode))
    if (!stays) this.#removeLink(ifindex)
    const fresh = this.#makeLink(link, wanted, links, trap)
    if (fresh === old) return
    this.#removeLink(ifindex)
    this.#links.set(ifindex, fresh)
    this.#pins?.name(ifindex, wanted)
  }

  /** A link for what is asked for; the one in use where only its reason is new. */
  #makeLink(link: Link, wanted: string, links: Links, vlans: VlanTrap | null): OwnLink {
    const choice = this.#mode
    if (choice === 'tc') return this.#makeTcLink(link, wanted, null)
    if (choice === 'auto') {
      const native = vlans === null ? attachNative(this.#fdToAttach('xdp'), link) : { instead: vlans.cause }
      if ('instead' in native) {
        const note = `${native.instead}: packets are taken in traffic control`
        const old = this.#links.get(link.ifindex)
        return old?.hook === 'tc' && old.holds
          ? Object.assign(old, { note })
          : this.#makeTcLink(link, wanted, note)
      }
      this.#pins?.pinLink(link.ifindex, native.fd, wanted)
      return { hook: 'xdp', ...native, holds: true, trap: null, wanted }
    }
    const { fd, mode, note } = attachXdp(this.#fdToAttach('xdp'), link, choice)
    const trap = mode === 'generic' ? mergingTrap(link, links) : null
    if (trap !== null) {
      libc.close(fd)
      throw new DataplaneError(trap)
    }
    this.#pins?.pinLink(link.ifindex, fd, wanted)
    return { hook: 'xdp', fd, mode, note, holds: true, trap: null, wanted }
  }

  #makeTcLink(link: Link, wanted: string, note: string | null): OwnLink {
    const programFd = this.#fdToAttach('tc')
    const fd = this.#tcLinks ? linkTc(programFd, link) : null
    if (fd !== null) {
      this.#pins?.pinLink(link.ifindex, fd, wanted, 'tc')
    } else {
      this.#pins?.noteFilter(link.ifindex, wanted)
      putFilter(programFd, link)
    }
    return { hook: 'tc', fd, mode: 'tc', note, holds: true, trap: null, wanted }
  }

  #replaceProgram(hook: Hook, fd: number | null, link: Pick<Link, 'ifindex' | 'name'>): void {
    const programFd = this.#runningFd(hook)
    if (fd === null) putFilter(programFd, link)
    else need(libbpf().bpf_link_update(fd, programFd, null), `replace the program on ${link.name}`)
  }

  #removeLink(ifindex: number): void {
    const link = this.#links.get(ifindex)
    if (link === undefined) return
    const { hook, fd } = link
    const pinned = this.#pins
      ?.attachments()
      .find((one) => one.ifindex === ifindex && one.hook === hook && one.isFilter === (fd === null))
    if (fd === null) {
      if (netDeviceName(ifindex) !== null) dropFilter(ifindex)
      if (pinned !== undefined) this.#pins?.forgetFilter(ifindex)
    } else {
      if (pinned !== undefined) this.#pins?.unpinLink(ifindex, hook)
      libc.close(fd)
    }
    this.#links.delete(ifindex)
  }

  /** Whose program our filter runs; null where the kernel does not say yet. */
  async #askFilter(
    ifindex: number,
    place: TcPlace,
  ): Promise<{ readonly ifindex: number; readonly programId: number } | null> {
    this.#filterQuestions ??= new QuestionSocket()
    const found: NetlinkMessage[] = []
    const isWhole = await this.#filterQuestions.dump(packetProgramQuery(ifindex, place), (piece) => {
      found.push(...piece)
    })
    if (!isWhole && netDeviceName(ifindex) !== null) return null
    return { ifindex, programId: packetProgramOf(found, place) ?? 0 }
  }
}

/** Where packets come to the program that is asked for. */
function hookOf(choice: AttachChoice | undefined): 'xdp' | 'tc' {
  return choice === 'tc' ? 'tc' : 'xdp'
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
