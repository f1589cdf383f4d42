/**
 * Who carries packets in userspace: the packet program in wasm, sockets around it, worker threads that
 * carry packets between the two, and nftables rules that keep the kernel's hands off. Runs in a process of
 * its own, and needs nobody else: it follows interfaces, renews what is leased and mends what others take
 * away. Rules come to it in the maps, which lie in a file that the daemon has mapped too.
 */
import { randomBytes } from 'node:crypto'
import { addressOf, check, libc } from '../../../linux/libc.ts'
import { Links, whyNotTaken } from '../../../linux/links.ts'
import { Network, type NetworkChange } from '../../../linux/netlink/network.ts'
import { CHECK_DEVICE, PROBE_PORT_FIRST, PROBE_PORTS } from '../../../linux/netlink/probe-pair.ts'
import type { Link } from '../../../linux/netlink/rtnetlink.ts'
import { RequestSocket } from '../../../linux/netlink/socket.ts'
import { watchFilters } from '../../../linux/netlink/traffic-control.ts'
import { familyOf } from '../../../net/address.ts'
import { bitsOf } from '../../../net/prefix.ts'
import { builtFile } from '../../assets.ts'
import { monotonicTicks } from '../../clock.ts'
import { forgetNextHops } from '../../copy.ts'
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
} from '../../dataplane.ts'
import {
  clearInterfaces,
  crowdTrap,
  listInterfaces,
  putInterface,
  removeInterface,
} from '../../interface-table.ts'
import {
  ArrivalRecord,
  JobRecord,
  type MapName,
  PM_VERDICT_MAX,
  RingRecord,
  SettingsRecord,
} from '../../layout/layout.gen.ts'
import { startSmall } from '../../levels.ts'
import { type RecordingFilter, RING_FILE_BYTES } from '../../recording.ts'
import type { WasmDataplane } from '../../wasm/program.ts'
import type { Region } from '../../wasm/region.ts'
import { removeStaleEarlyDrops } from '../claims/early-drop.ts'
import { needsTable, type TakenInterface } from '../claims/nftables.ts'
import { ClaimTable } from '../claims/table.ts'
import { type Claim, type ClaimChange, ClaimTracker } from '../claims/tracker.ts'
import type { Intake, Plane, Tap } from '../intake.ts'
import type { MapsFile } from '../maps-file.ts'
import { PacketIntake } from '../packet/intake.ts'
import { TapNumbers } from '../tap-numbers.ts'
import { openWasm } from '../wasm-file.ts'
import { removeStaleWaysBack, WayBack } from '../way-back.ts'
import { TAP_RECORD_BYTES, TAPS_MAX, type WorkerSetup } from '../worker/messages.ts'
import { WorkerThread } from '../worker/thread.ts'
import { XskIntake } from '../xsk/intake.ts'
import { POOL_BYTES } from '../xsk/source.ts'

export interface ForwarderOptions {
  readonly sizes: Sizes
  /** Compiled program; the one the build made if left out. */
  readonly wasmPath?: string | undefined
  /** Threads that forward, at most `sizes.cpus`; 1 if left out. */
  readonly workers?: number | undefined
  /** Packet sockets and nftables (`packet`, if left out), or AF_XDP (`xdp`). */
  readonly intake?: 'packet' | 'xdp' | undefined
  /** Packet sockets: receive ring of every interface and worker, bytes. */
  readonly ringBytes?: number | undefined
  /** Workers never sleep: half the latency for a whole CPU each. */
  readonly busyPoll?: boolean | undefined
  /** Frames pass the queueing disciplines of the interfaces, and wait there; faster without. */
  readonly queueing?: boolean | undefined
  /** The maps, which outlive this; maps of its own, which do not, if left out. */
  readonly maps?: MapsFile | undefined
  /** Told when `interfaces()` may have changed. */
  readonly changed?: (() => void) | undefined
  /** Told what the operator should know. */
  readonly log?: ((message: string) => void) | undefined
}

const RING_BYTES = 8 << 20
const BATCH = 128
const LARGE_BYTES = 32 * 66 * 1024
const SCRATCH_BYTES = 256 * 1024
/** Three datagrams of the largest, or some hundred usual ones, before they have to be sent. */
const TOGETHER_BYTES = 256 * 1024
/** Rings of a worker to send from, and bytes of each: some hundred frames that a device has not sent yet. */
const SEND_RINGS = 8
const SEND_RING_BYTES = 1 << 20
const PAGE = 65_536
/** The lease on everything the kernel drops for us is renewed so often; it holds three times as long. */
const RENEW_MS = 10_000
/** A worker that does not answer for so long gives no sign of life. */
const ANSWER_MS = 5000
/** Somebody else's changes come several at a time. */
const STRANGE_MS = 50
/** What the kernel refused is tried again after so long. */
const AGAIN_MS = 1000
/** Claims of removed services are looked after so often while connections of theirs live. */
const LINGER_MS = 1000
/** Longest time between a route to elsewhere that changed and all connections asking again. */
const FORGET_MS = 1000
/** A worker that ended is started again after so long, then twice as long each time it ends young. */
const REVIVE_MS = 100
const REVIVE_MAX_MS = 30_000
/** One that has lived so long had a reason of its own to end. */
const OF_AGE_MS = 10_000
const EFD_CLOEXEC_NONBLOCK = 0o2000000 | 0o4000
const WORKERS_MAX = 64
/** A refused interface is tried again after so long, then after twice as long each time. */
const TAKE_MS = 100
const TAKE_MAX_MS = 10_000

interface OpenTap extends Tap {
  /** The name it was taken by; it may have another now. */
  readonly asked: string
  /** The name by which the operator wants it. */
  wanted: string
  readonly back: WayBack
}

function refusalOf(link: Link): string | null {
  const why = whyNotTaken(link)
  if (why !== null || !link.noArp) return why
  return `Cannot take packets from ${link.name}: neighbours are not resolved there; switch that on: ip link set dev ${link.name} arp on`
}

function furtherAddresses(link: Link, links: Links): readonly Uint8Array[] {
  return links.addressesOf(link.ifindex).filter((mac) => Buffer.compare(mac, link.mac) !== 0)
}

export class Forwarder implements Dataplane {
  readonly plane = 'userspace'
  readonly resolvesNextHops = true
  readonly sizes: Sizes
  readonly #program: WasmDataplane
  readonly #options: ForwarderOptions
  readonly #memory: bigint
  readonly #network = new Network()
  /** Waits until routes to elsewhere have flapped for long enough. */
  #forgetting: NodeJS.Timeout | null = null
  readonly #netlink = new RequestSocket()
  readonly #tracker: ClaimTracker
  readonly #workers: WorkerThread[] = []
  /** Wanted interfaces that could not be taken, by the name they are wanted by. */
  readonly #refused = new Map<
    string,
    { readonly why: string; readonly delayMs: number; readonly notBefore: number }
  >()
  readonly #setups: WorkerSetup[] = []
  /** How often a worker has ended young, one after the other, and why the last time. */
  readonly #failures: ({ readonly count: number; readonly reason: string } | undefined)[] = []
  /** Workers that take frames from all interfaces, by their row. */
  readonly #ready = new Set<number>()
  readonly #wakeFds: number[] = []
  /** By ifindex, which stays when an interface is renamed. */
  readonly #taps = new Map<number, OpenTap>()
  readonly #intake: Intake
  /** Ring memory that is free again, by size. */
  readonly #spare: Region[] = []
  readonly #table = new ClaimTable(() => this.#mendIn(STRANGE_MS))
  readonly #filters = watchFilters((ifindex) => {
    if (ifindex === 0 || this.#taps.has(ifindex)) this.#mendIn(STRANGE_MS)
  })
  readonly #leaseTimer: NodeJS.Timeout
  #mendTimer: NodeJS.Timeout | null = null
  /** The kernel refused a change of the table, or we did not see it through: it is not what it should be. */
  #owed = false
  /** By the names that they have, those they are wanted by. */
  #wanted: ReadonlyMap<string, string> = new Map()
  /** Interfaces that are being taken, one after the other. */
  #coming: readonly TakenInterface[] = []
  #closed = false
  #lingerTimer: NodeJS.Timeout | null = null
  /** Everything that changes sockets, rules or taps, one after the other. */
  #queue: Promise<void> = Promise.resolve()

  static async open(options: ForwarderOptions): Promise<Forwarder> {
    const workers = options.workers ?? 1
    if (!Number.isInteger(workers) || workers < 1 || workers > Math.min(WORKERS_MAX, options.sizes.cpus)) {
      throw new DataplaneError(
        `Cannot forward with ${workers} workers: expected 1 to ${Math.min(WORKERS_MAX, options.sizes.cpus)}`,
      )
    }
    return new Forwarder(options, workers)
  }

  private constructor(options: ForwarderOptions, workers: number) {
    this.sizes = options.sizes
    this.#options = options
    this.#program = openWasm({
      sizes: options.sizes,
      wasmPath: options.wasmPath ?? builtFile('pointsman.wasm'),
      fib: () => ({ result: 'no-route' }),
      ...(options.maps === undefined ? {} : { backing: options.maps }),
    })
    this.#memory = addressOf(new Uint8Array(this.#program.owner.memory.buffer))
    if (options.maps === undefined) {
      const { view } = this.map('settings')
      SettingsRecord.setHashSeed(view, 0, randomBytes(4).readUInt32LE(0))
      startSmall(view, options.sizes)
    }
    this.#tracker = new ClaimTracker(this)
    for (let cpu = 0; cpu < workers; cpu++) this.#startWorker(cpu)
    const { intake, ringBytes } = options
    this.#intake =
      intake === 'xdp'
        ? new XskIntake(this.#facts())
        : new PacketIntake(this.#facts(), ringBytes ?? RING_BYTES)
    this.#leaseTimer = setInterval(() => void this.#inOrder(() => this.#renewLease()), RENEW_MS)
    this.#leaseTimer.unref()
    this.#network.onChange((change) => {
      this.#forget(change.nextHops)
      // Forwarding of our own interfaces comes as a change of routes that concerns us.
      const follows = change.links || (change.routes && change.nextHops === 'kept')
      if (follows) this.#inOrder(() => this.#followLinks()).catch(() => {})
      if (change.addresses && !this.#closed)
        this.published().catch((error: Error) => this.#log(error.message))
    })
  }

  /**
   * Routes to elsewhere may lead to clients, but all connections ask again for them: once in a while. Those to
   * real servers the daemon knows, and acts on at once.
   */
  #forget(whose: NetworkChange['nextHops']): void {
    if (whose === 'kept') forgetNextHops(this)
    if (whose !== 'others' || this.#forgetting !== null) return
    this.#forgetting = setTimeout(() => {
      this.#forgetting = null
      if (!this.#closed) forgetNextHops(this)
    }, FORGET_MS).unref()
  }

  /** What the intake may use. */
  #facts(): Plane {
    return {
      memory: this.#memory,
      allocate: (bytes) => this.#allocate(bytes),
      free: (region) => this.#spare.push(region),
      workers: () => this.#workers,
      tapNumbers: new TapNumbers(),
      netlink: this.#netlink,
      log: (message) => this.#log(message),
    }
  }

  #log(message: string): void {
    this.#options.log?.(message)
  }

  #startWorker(cpu: number): void {
    const { owner } = this.#program
    const region = (bytes: number): Region => ({ base: owner.allocate(bytes), bytes })
    const wakeFd = check(libc.eventfd(0, EFD_CLOEXEC_NONBLOCK), 'make an eventfd')
    this.#wakeFds.push(wakeFd)
    const setup: WorkerSetup = {
      seat: owner.seat(cpu),
      batch: BATCH,
      jobs: region((BATCH + 1) * JobRecord.size),
      arrivals: region((BATCH + 1) * ArrivalRecord.size),
      taps: region((TAPS_MAX + 1) * TAP_RECORD_BYTES),
      sendRooms: Array.from({ length: SEND_RINGS }, () => ({
        base: owner.allocate(SEND_RING_BYTES, PAGE),
        bytes: SEND_RING_BYTES,
        record: region(RingRecord.size).base,
      })),
      pool: region(POOL_BYTES),
      large: region(LARGE_BYTES),
      together: region(TOGETHER_BYTES),
      scratch: region(SCRATCH_BYTES),
      settings: this.map('settings').bytes.byteOffset,
      verdicts: this.map('verdicts').bytes.byteOffset + cpu * PM_VERDICT_MAX * 8,
      bell: region(64).base,
      wakeFd,
      busyPoll: this.#options.busyPoll ?? false,
      bypassQueue: !(this.#options.queueing ?? false),
    }
    this.#setups.push(setup)
    this.#workers.push(this.#newWorker(cpu))
    this.#ready.add(cpu)
  }

  #newWorker(cpu: number): WorkerThread {
    const born = performance.now()
    return new WorkerThread(this.#setups[cpu]!, (error) => {
      const isYoung = performance.now() - born < OF_AGE_MS
      const before = isYoung ? this.#failures[cpu] : undefined
      const failures = (before?.count ?? 0) + 1
      // A worker that cannot start ends for the same reason again and again.
      if (before?.reason !== error.message) this.#log(`Packet worker ${cpu}: ${error.message}`)
      this.#failures[cpu] = { count: failures, reason: error.message }
      const delayMs = Math.min(REVIVE_MS * 2 ** (failures - 1), REVIVE_MAX_MS)
      this.#ready.delete(cpu)
      this.#options.changed?.()
      setTimeout(() => void this.#inOrder(() => this.#tryToRevive(cpu)), delayMs).unref()
    })
  }

  async #tryToRevive(cpu: number): Promise<void> {
    if (this.#closed) return
    try {
      await this.#reviveWorker(cpu)
    } catch (failure) {
      // Half equipped is no use: once more from the start. A thread that has ended says so itself.
      const worker = this.#workers[cpu]!
      if (!worker.alive) return
      this.#log(`Packet worker ${cpu}: ${failure instanceof Error ? failure.message : failure}`)
      await worker.crash()
    }
  }

  /** Another thread in the place of one that ended; what waited in its rings is lost. */
  async #reviveWorker(cpu: number): Promise<void> {
    this.#workers[cpu] = this.#newWorker(cpu)
    await this.#workers[cpu].order({ kind: 'claims', change: { added: this.#tracker.all(), removed: [] } })
    for (const tap of this.#taps.values()) await this.#intake.restartWorker(tap, cpu)
    this.#ready.add(cpu)
    this.#log(`Packet worker ${cpu} was started again`)
  }

  /** Has every worker record its packets; one that is started again later does not. null: no more. */
  async recordTo(
    recording: { readonly path: string; readonly filter: RecordingFilter } | null,
  ): Promise<void> {
    const alive = this.#workers.filter((worker) => worker.alive)
    await Promise.all(
      alive.map(async (worker) => {
        const offset = this.#workers.indexOf(worker) * RING_FILE_BYTES
        await worker.order({ kind: 'record', tape: recording === null ? null : { ...recording, offset } })
      }),
    )
  }

  /** For tests: ends a worker thread as a crash would. */
  async crashWorker(cpu: number): Promise<void> {
    await this.#workers[cpu]?.crash()
  }

  /** A worker that has ended reads nothing any more. */
  async quiesce(): Promise<void> {
    const alive = this.#workers.filter((worker) => worker.alive)
    await Promise.all(
      alive.map(async (worker) => {
        try {
          await worker.order({ kind: 'pause' })
        } catch (error) {
          if (worker.alive) throw error
        }
      }),
    )
  }

  map(name: MapName): MapMemory {
    return this.#program.map(name)
  }

  nowTicks(): number {
    return monotonicTicks()
  }

  /** None while a worker is missing: its share of the flows is not forwarded. */
  interfaces(): readonly AttachedInterface[] {
    if (this.#ready.size < this.#workers.length) return []
    return [...this.#taps.values()].map(({ link, wanted }) => ({
      name: link.name,
      ifindex: link.ifindex,
      mode: 'userspace',
      ...(wanted === link.name ? {} : { wanted }),
    }))
  }

  program(): { readonly name: string; readonly id: null; readonly tag: null } {
    return { name: 'pointsman.wasm', id: null, tag: null }
  }

  attach(interfaces: readonly WantedInterface[]): Promise<readonly AttachResult[]> {
    return this.#inOrder(async () => {
      const links = new Links(this.#readLinks())
      const took = this.#taps.size > 0
      this.#wanted = new Map(interfaces.map((one) => [presentName(one), wantedName(one)]))
      const found = [...this.#wanted.keys()].map((name) => ({
        name,
        link: links.named(name) ?? this.#renamed(name, links),
      }))
      const takes = found.some(({ link }) => link !== null && refusalOf(link) === null)
      const kept = new Set(found.flatMap(({ link }) => (link === null ? [] : [link.ifindex])))
      for (const tap of [...this.#taps.values()]) {
        if (!kept.has(tap.link.ifindex)) await this.#removeTap(tap)
      }
      // What is left of an earlier process is in the way only when there is something to take.
      if (this.#taps.size === 0 && takes) {
        if (this.#options.maps !== undefined) {
          clearInterfaces(this)
          forgetNextHops(this)
        }
        removeStaleWaysBack(this.#netlink, links.all())
        removeStaleEarlyDrops(this.#netlink)
      }
      // The table goes from an earlier process's to ours in one piece: between two interfaces the kernel
      // would answer for the second.
      this.#coming = found.flatMap(({ link }) => (link !== null && refusalOf(link) === null ? [link] : []))
      const results: AttachResult[] = []
      for (const { name, link } of found) results.push(await this.#attachOne(name, link, links))
      this.#coming = []
      if (this.#taps.size > 0 && results.some((result) => 'refused' in result)) await this.#claimAll()
      if (this.#taps.size === 0 && (took || takes)) await this.#unclaim()
      // Whoever was let go may have been why something was claimed. What nft refuses is tried again by itself.
      else await this.#publish().catch((error: Error) => this.#log(error.message))
      return results
    })
  }

  async #attachOne(name: string, link: Link | null, links: Links): Promise<AttachResult> {
    if (link === null) return { name, refused: `No interface "${name}": see ip link`, absent: true }
    const known = this.#taps.get(link.ifindex)
    try {
      const why = refusalOf(link)
      if (why !== null) throw new DataplaneError(why)
      const wanted = this.#wanted.get(name) ?? name
      if (known !== undefined) {
        known.wanted = wanted
        await this.#followTap(known, link, links)
      } else await this.#take(name, wanted, link, links)
      return { name, attached: { name: link.name, ifindex: link.ifindex, mode: 'userspace' } }
    } catch (error) {
      if (!(error instanceof Error)) throw error
      return { name, refused: error.message, absent: false }
    }
  }

  /** What was asked for by this name and is called otherwise now. */
  #renamed(asked: string, links: Links): Link | null {
    const tap = [...this.#taps.values()].find((each) => each.asked === asked || each.wanted === asked)
    return tap === undefined ? null : links.at(tap.link.ifindex)
  }

  async #take(asked: string, wanted: string, link: Link, links: Links): Promise<void> {
    const back = new WayBack(this.#netlink, link)
    const more = furtherAddresses(link, links)
    const tap: OpenTap = { asked, wanted, link, more, back, stackIfindex: back.raw }
    this.#taps.set(link.ifindex, tap)
    try {
      this.#putInterface(link, links)
      await this.#claimAll()
      await this.#intake.start(tap)
    } catch (error) {
      await this.#removeTap(tap)
      throw error
    }
  }

  #putInterface(link: Link, links: Links): void {
    const trap = crowdTrap(link.name, putInterface(this, link, links.addressesOf(link.ifindex)))
    if (trap !== null) this.#log(trap)
  }

  /** The link has another name, MAC or MTU, perhaps. */
  async #followTap(tap: OpenTap, link: Link, links: Links): Promise<void> {
    this.#putInterface(link, links)
    tap.back.follow(link.mac)
    const before = tap.link
    tap.link = link
    const addresses = String(tap.more)
    tap.more = furtherAddresses(link, links)
    if (link.name !== before.name) this.#log(`Interface ${before.name} is called ${link.name} now`)
    // Newer kernels look for the name that the chains were given.
    if (link.name !== before.name || String(tap.more) !== addresses) await this.#claimAll()
    await this.#intake.follow(tap, before)
  }

  /** Frames stay in the rings (thousands fit) until `resume`: for changing what the maps hold. */
  hold(): Promise<void> {
    return this.#inOrder(async () => {
      for (const worker of this.#workers) await worker.order({ kind: 'hold' })
    })
  }

  resume(): Promise<void> {
    return this.#inOrder(async () => {
      forgetNextHops(this)
      await this.#publish()
      for (const worker of this.#workers) await worker.order({ kind: 'release' })
    })
  }

  published(): Promise<void> {
    return this.#inOrder(() => this.#publish())
  }

  detach(): Promise<void> {
    return this.#inOrder(async () => {
      this.#wanted = new Map()
      for (const tap of [...this.#taps.values()]) await this.#removeTap(tap)
      await this.#unclaim()
    })
  }

  /**
   * Ends this. With maps that outlive it the kernel's hands stay off for as long as the lease holds, so that
   * another one carries on; without, everything is removed.
   */
  async close(): Promise<void> {
    if (this.#closed) return
    await this.#inOrder(async () => {
      this.#closed = true
      const leaves = this.#options.maps !== undefined && this.#taps.size > 0
      for (const worker of this.#workers) await worker.order({ kind: 'hold' }).catch(() => {})
      if (leaves) await this.#table.renewLease().catch((error: Error) => this.#log(error.message))
      this.#wanted = new Map()
      for (const tap of [...this.#taps.values()]) await this.#removeTap(tap, leaves)
      if (!leaves) await this.#unclaim()
    })
    if (this.#lingerTimer !== null) clearTimeout(this.#lingerTimer)
    if (this.#mendTimer !== null) clearTimeout(this.#mendTimer)
    clearInterval(this.#leaseTimer)
    this.#filters.close()
    this.#table.close()
    for (const worker of this.#workers) await worker.stop()
    for (const fd of this.#wakeFds) libc.close(fd)
    this.#intake.close()
    this.#network.close()
    this.#netlink.close()
  }

  #inOrder<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(action)
    this.#queue = result.then(
      () => this.#options.changed?.(),
      () => this.#options.changed?.(),
    )
    return result
  }

  #readLinks(): readonly Link[] {
    return this.#network.freshLinks()
  }

  #allocate(bytes: number): Region {
    const at = this.#spare.findIndex((region) => region.bytes === bytes)
    if (at >= 0) return this.#spare.splice(at, 1)[0]!
    return { base: this.#program.owner.allocate(bytes, PAGE), bytes }
  }

  /** `leaves`: the kernel goes on dropping what is claimed there, as long as the lease holds. */
  async #removeTap(tap: OpenTap, leaves = false): Promise<void> {
    const { ifindex, name } = tap.link
    this.#taps.delete(ifindex)
    removeInterface(this, ifindex)
    if (!leaves && this.#table.stands) await this.#table.release(ifindex, name)
    await this.#intake.stop(tap)
    tap.back.close()
  }

  /** Everything anew: an interface has come, or what stands is not to be trusted. */
  async #claimAll(): Promise<void> {
    const { removed } = this.#updateClaims()
    await this.#tellWorkers({ added: [], removed })
    const claims = this.#tracker.all()
    try {
      await this.#table.write(this.#taken(), claims)
      this.#intake.setClaims(claims)
      this.#owed = false
    } catch (error) {
      this.#owed = true
      this.#mendIn(AGAIN_MS)
      throw error
    }
    await this.#tellWorkers({ added: claims, removed: [] })
  }

  /** Answers to health checks come to addresses of this host, for as long as questions go by here. */
  #updateClaims(): ClaimChange {
    const asks = [...this.#taps.values()].some(({ link }) => link.name === CHECK_DEVICE)
    const ports = { from: PROBE_PORT_FIRST, to: PROBE_PORT_FIRST + PROBE_PORTS - 1 }
    const addresses = asks ? this.#network.localAddresses() : []
    this.#tracker.expectAnswers(
      addresses.flatMap((address) =>
        (['tcp', 'udp'] as const).map((protocol) => ({
          ...{ protocol, ports },
          prefix: { family: familyOf(address), address, length: bitsOf(familyOf(address)) },
        })),
      ),
    )
    return this.#tracker.update()
  }

  #taken(): readonly TakenInterface[] {
    const taken = [...this.#taps.values()].map(({ link, more }) => ({
      name: link.name,
      ifindex: link.ifindex,
      more,
    }))
    return [...taken, ...this.#coming.filter(({ ifindex }) => !this.#taps.has(ifindex))]
  }

  async #unclaim(): Promise<void> {
    this.#owed = false
    this.#intake.setClaims([])
    await this.#table.remove()
  }

  async #publish(): Promise<void> {
    if (this.#taps.size > 0 && this.#owed) {
      await this.#claimAll()
      return
    }
    const change = this.#updateClaims()
    if (this.#tracker.lingers && !this.#closed) this.#linger()
    if (change.added.length === 0 && change.removed.length === 0) return
    // What is claimed anew the kernel drops first, what is released the workers forget first: for an
    // instant a packet may be lost, but none is handled twice.
    await this.#tellWorkers({ added: [], removed: change.removed })
    if (this.#taps.size > 0 && needsTable(change)) {
      await this.#claimAll()
      return
    }
    if (this.#taps.size > 0) {
      try {
        await this.#table.change(change)
        this.#intake.setClaims(this.#tracker.all())
      } catch {
        // Part of what was to be changed is not there: somebody has been at the table.
        await this.#claimAll()
        return
      }
    }
    await this.#tellWorkers({ added: change.added, removed: [] })
  }

  #mendIn(delayMs: number): void {
    if (this.#mendTimer !== null || this.#closed) return
    this.#mendTimer = setTimeout(() => {
      this.#mendTimer = null
      void this.#inOrder(() => this.#mend())
    }, delayMs)
    this.#mendTimer.unref()
  }

  /** What others have taken off is put back. */
  async #mend(): Promise<void> {
    if (this.#closed || this.#taps.size === 0) return
    try {
      if (this.#owed || !this.#table.isWhole(this.#taken(), this.#tracker.all())) {
        if (!this.#owed)
          this.#log('Somebody else has changed the nftables table "pointsman": it is made again')
        await this.#claimAll()
      }
      this.#intake.mend(this.#tracker.all())
    } catch (error) {
      this.#log(error instanceof Error ? error.message : String(error))
    }
  }

  /** As long as a worker takes packets, the kernel is not to answer for them. */
  async #renewLease(): Promise<void> {
    if (this.#closed || this.#taps.size === 0 || !(await this.#workersAnswer())) return
    await this.#mend()
    // Otherwise it is tried again soon, and the lease is part of it.
    if (!this.#owed) await this.#table.renewLease().catch(() => this.#mendIn(0))
  }

  async #workersAnswer(): Promise<boolean> {
    const nothing = { kind: 'claims', change: { added: [], removed: [] } } as const
    const alive = this.#workers.filter((worker) => worker.alive)
    const answers = alive.map(async (worker) => {
      await worker.order(nothing)
      return true
    })
    const late = new Promise<boolean>((resolve) => setTimeout(resolve, ANSWER_MS, false).unref())
    return await Promise.any([...answers, late]).catch(() => false)
  }

  async #tellWorkers(change: {
    readonly added: readonly Claim[]
    readonly removed: readonly Claim[]
  }): Promise<void> {
    if (change.added.length === 0 && change.removed.length === 0) return
    // One that has ended is told everything when it is started again.
    const alive = this.#workers.filter((worker) => worker.alive)
    await Promise.all(alive.map((worker) => worker.order({ kind: 'claims', change })))
  }

  #linger(): void {
    if (this.#lingerTimer !== null) return
    this.#lingerTimer = setTimeout(() => {
      this.#lingerTimer = null
      this.published().catch((error: Error) => this.#log(error.message))
    }, LINGER_MS)
    this.#lingerTimer.unref()
  }

  /** Interfaces that vanished, came back, or have another MAC or MTU. */
  async #followLinks(): Promise<void> {
    if (this.#closed) return
    const links = this.#network.links()
    for (const tap of [...this.#taps.values()]) {
      const link = links.at(tap.link.ifindex)
      if (link === null) {
        this.#log(`Interface ${tap.link.name} is gone`)
        await this.#removeTap(tap)
        continue
      }
      try {
        await this.#followTap(tap, link, links)
      } catch (error) {
        this.#log(`Interface ${tap.link.name}: ${error instanceof Error ? error.message : error}`)
      }
    }
    for (const [name, wanted] of this.#wanted) {
      const link = links.named(name)
      if (link === null) this.#refused.delete(name)
      if (link === null || this.#taps.has(link.ifindex)) continue
      // Trying makes links and removes them again: each try would bring about the next.
      if (performance.now() < (this.#refused.get(name)?.notBefore ?? 0)) continue
      try {
        const why = refusalOf(link)
        if (why !== null) throw new DataplaneError(why)
        await this.#take(name, wanted, link, links)
        this.#refused.delete(name)
        this.#log(`Interface ${name} is back`)
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        if (this.#refuse(name, why)) this.#log(`Interface ${name}: ${why}`)
      }
    }
  }

  /** It is tried again, less and less often; whether this reason is another than before. */
  #refuse(name: string, why: string): boolean {
    const before = this.#refused.get(name)
    const delayMs = Math.min(2 * (before?.delayMs ?? TAKE_MS / 2), TAKE_MAX_MS)
    this.#refused.set(name, { why, delayMs, notBefore: performance.now() + delayMs })
    setTimeout(() => void this.#inOrder(() => this.#followLinks()), delayMs + 1).unref()
    return before?.why !== why
  }

  /** ifindex of all interfaces the program knows, for tests. */
  knownInterfaces(): readonly number[] {
    return listInterfaces(this.map('interfaces'))
  }
}
