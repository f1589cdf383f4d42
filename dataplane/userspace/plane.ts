/**
 * The data plane without XDP, as the daemon has it: the maps, which lie in a file that everybody maps, and a
 * forwarder in a process of its own, which carries the packets. The daemon starts it, talks to it, starts
 * it again when it ends, and leaves it running when it ends itself.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { netnsHolder } from '../../linux/netns-lock.ts'
import { monotonicTicks } from '../clock.ts'
import {
  type AttachedInterface,
  type AttachResult,
  asWanted,
  type Dataplane,
  DataplaneError,
  type MapMemory,
  type Sizes,
  type WantedInterface,
} from '../dataplane.ts'
import type { MapName } from '../layout/layout.gen.ts'
import { filterOf, type RecordingWanted, type Tape } from '../recording.ts'
import { ForwarderLink } from './forwarder/forwarder-link.ts'
import { CONTROL_SOCKET, type ForwarderSetup, MAPS_NAME, type Order } from './forwarder/protocol.ts'
import { forwarderBuild, startForwarder } from './forwarder/start.ts'
import { endForwarder, removeLeftovers } from './leftovers.ts'
import { catchUp, isOwed, MapsFile, migrate, removeMaps, widen } from './maps-file.ts'
import { FileTape, RECORDING_NAME } from './recording.ts'

export interface UserspaceOptions {
  /** Of maps that are made; those that are there keep theirs. */
  readonly sizes: Sizes
  /** Where maps and socket lie, and both find each other again. */
  readonly runDirectory: string
  /** Maps that are there are of no use: another plane has the rules. */
  readonly fresh?: boolean | undefined
  /** Threads that forward; 1 if left out. */
  readonly workers?: number | undefined
  /** Packet sockets and nftables (`packet`, if left out), or AF_XDP (`xdp`). */
  readonly intake?: 'packet' | 'xdp' | undefined
  /** Workers never sleep: half the latency for a whole CPU each. */
  readonly busyPoll?: boolean | undefined
  /** Packet sockets: receive ring of every interface and worker, bytes. */
  readonly ringBytes?: number | undefined
  /** Told what the operator should know. */
  readonly log?: ((message: string) => void) | undefined
}

/** A forwarder that ends at once again is started less and less often. */
const AGAIN_MS = 20
const AGAIN_MAX_MS = 30_000
/** One that has run for so long had a reason of its own to end. */
const OF_AGE_MS = 10_000
const WORKERS_MAX = 64
/** Not to be waited for longer than this: letting go of sockets. */
const LEAVE_MS = 5000
/** Forwarders that an order is given to, if they end one after the other. */
const ATTEMPTS = 3

export class UserspaceDataplane implements Dataplane {
  readonly plane = 'userspace'
  readonly resolvesNextHops = true
  readonly sizes: Sizes
  /** True when the maps of an earlier process are carried on with. */
  readonly adopted: boolean
  readonly #options: UserspaceOptions
  readonly #maps: MapsFile
  readonly #setup: ForwarderSetup
  #link: ForwarderLink | null = null
  #startedAt = 0
  #failures = 0
  #wanted: readonly WantedInterface[] = []
  #held = false
  /** Nobody is to be started again. */
  #closed = false
  /** The forwarder that is being started. */
  #starting: Promise<void> | null = null
  /** Why the last start failed; null since one has succeeded. */
  #trouble: string | null = null
  /** The first try of it, whatever came of that. */
  #tried: Promise<void> | null = null
  /** Ends the pause between two starts. */
  #hurry: () => void = () => {}

  static async open(options: UserspaceOptions): Promise<UserspaceDataplane> {
    const workers = options.workers ?? 1
    if (!Number.isInteger(workers) || workers < 1 || workers > WORKERS_MAX) {
      throw new DataplaneError(`Cannot forward with ${workers} workers: expected 1 to ${WORKERS_MAX}`)
    }
    await endForeign(options)
    // Of a daemon that was killed before its forwarder had found it.
    rmSync(join(options.runDirectory, RECORDING_NAME), { force: true })
    const { maps, adopted, link } = await takeMaps(options, workers)
    const plane = new UserspaceDataplane(options, maps, adopted)
    try {
      await plane.#takeOver(link)
    } catch (error) {
      await plane.close()
      throw error
    }
    return plane
  }

  private constructor(options: UserspaceOptions, maps: MapsFile, adopted: boolean) {
    this.#options = options
    this.#maps = maps
    this.sizes = maps.sizes
    this.adopted = adopted
    this.#setup = {
      workers: options.workers ?? 1,
      intake: options.intake ?? 'packet',
      busyPoll: options.busyPoll ?? false,
      ringBytes: options.ringBytes ?? 0,
      build: forwarderBuild(),
      maps: maps.inode,
    }
  }

  /** A forwarder that does what we want is kept, another one is replaced. */
  async #takeOver(link: ForwarderLink | null): Promise<void> {
    if (link !== null && JSON.stringify(link.hello.setup) === JSON.stringify(this.#setup)) {
      this.#take(link)
      return
    }
    if (link !== null && !link.over) {
      this.#wanted = link.hello.interfaces.map(asWanted)
      this.#log(`The forwarder (process ${link.hello.pid}) is replaced`)
      link.close()
    }
    // It has the one that runs let go when it stands ready itself.
    await this.#start()
  }

  #log(text: string): void {
    this.#options.log?.(text)
  }

  #take(link: ForwarderLink): void {
    this.#link = link
    this.#trouble = null
    this.#startedAt = performance.now()
    link.listen({ log: (text) => this.#log(text), closed: () => this.#lost() })
  }

  async #start(): Promise<void> {
    const { runDirectory } = this.#options
    const link = await startForwarder({ runDirectory, setup: this.#setup, interfaces: this.#wanted })
    this.#take(link)
    if (this.#held) await link.order({ order: 'hold' })
  }

  /** The forwarder has ended without having been told to. */
  #lost(): void {
    this.#link = null
    if (this.#closed || this.#starting !== null) return
    const young = performance.now() - this.#startedAt < OF_AGE_MS
    this.#failures = young ? this.#failures + 1 : 0
    const delayMs = this.#failures === 0 ? 0 : Math.min(AGAIN_MS * 2 ** this.#failures, AGAIN_MAX_MS)
    this.#log('The forwarder has ended: another one is started on the same maps')
    this.#tried = new Promise((resolve) => {
      this.#starting = this.#startAgain(delayMs, resolve)
    })
  }

  async #startAgain(delayMs: number, tried: () => void): Promise<void> {
    for (let waitMs = delayMs; !this.#closed; waitMs = Math.min(Math.max(waitMs * 2, 500), AGAIN_MAX_MS)) {
      if (waitMs > 0) await this.#pause(waitMs)
      if (this.#closed) break
      try {
        await this.#start()
        break
      } catch (error) {
        tried()
        this.#trouble = error instanceof Error ? error.message : String(error)
        this.#log(this.#trouble)
      }
    }
    this.#starting = null
    tried()
    // It may have ended again by now.
    if (this.#link?.over === true) this.#lost()
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#hurry = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /** Nobody is started any more; returns when one that was being started is there, or is not. */
  async #stopStarting(): Promise<void> {
    this.#closed = true
    this.#hurry()
    await this.#starting
  }

  /** Orders may be given twice: to one that ends over it, and to the next. */
  async #order(order: Order): Promise<readonly AttachResult[]> {
    for (let attempt = 1; ; attempt++) {
      // What is being started will have read the maps, but has not been told the rest. One that cannot be
      // started may never come.
      if (this.#link === null && this.#trouble === null) await this.#tried
      const link = this.#link
      if (link === null) {
        throw new DataplaneError(this.#trouble ?? 'Cannot reach the forwarder: it does not run')
      }
      try {
        return (await link.order(order)).results ?? []
      } catch (error) {
        if (!link.over || attempt === ATTEMPTS) throw error
      }
    }
  }

  trouble(): string | null {
    return this.#trouble
  }

  map(name: MapName): MapMemory {
    return this.#maps.map(name)
  }

  nowTicks(): number {
    return monotonicTicks()
  }

  interfaces(): readonly AttachedInterface[] {
    return this.#link?.interfaces ?? []
  }

  program(): { readonly name: string; readonly id: number | null; readonly tag: null } {
    return { name: 'pointsman.wasm', id: null, tag: null }
  }

  /** For tests: the process that forwards. */
  get forwarder(): number | null {
    return this.#link?.hello.pid ?? null
  }

  async attach(interfaces: readonly WantedInterface[]): Promise<readonly AttachResult[]> {
    this.#wanted = [...interfaces]
    return await this.#order({ order: 'attach', interfaces })
  }

  async published(): Promise<void> {
    await this.#order({ order: 'published' })
  }

  async quiesce(): Promise<void> {
    // Who reads them next has not begun.
    if (this.#link === null || this.#link.over) return
    await this.#order({ order: 'quiesce' })
  }

  async record(wanted: RecordingWanted): Promise<Tape> {
    const path = join(this.#options.runDirectory, RECORDING_NAME)
    const filter = filterOf(wanted)
    const link = this.#link
    if (link === null) throw new DataplaneError(this.#trouble ?? 'Cannot record: the forwarder does not run')
    return await FileTape.open(path, this.#setup.workers, {
      begin: async () => void (await link.order({ order: 'record', path, filter })),
      // One that has ended records nothing, either.
      end: async () => {
        if (!link.over) await link.order({ order: 'record-no-more' })
      },
      ended: () => link.over,
    })
  }

  async hold(): Promise<void> {
    this.#held = true
    await this.#order({ order: 'hold' })
  }

  async resume(): Promise<void> {
    this.#held = false
    await this.#order({ order: 'resume' })
  }

  /** Ends the forwarder and removes everything, the maps' file too. */
  async detach(): Promise<void> {
    if (this.#closed) return
    await this.#stopStarting()
    try {
      await this.#link?.order({ order: 'detach' })
    } catch (error) {
      this.#log(error instanceof Error ? error.message : String(error))
    }
    // Also what one has left that was killed, or does not answer: when that is gone, so is all.
    await removeLeftovers(this.#options.runDirectory)
  }

  /** Lets go of maps and forwarder; it goes on. */
  async close(): Promise<void> {
    await this.#stopStarting()
    this.#link?.close()
    this.#link = null
    this.#maps.close()
  }
}

/** Somebody else's forwarder in this network namespace, whose daemon is no more: we have the namespace's lock. */
async function endForeign({ runDirectory, log }: UserspaceOptions): Promise<void> {
  const own = join(runDirectory, CONTROL_SOCKET)
  const holder = netnsHolder('plane')
  if (holder === null || holder === 'unknown' || holder.socket === undefined || holder.socket === own) return
  log?.(`Another forwarder (process ${holder.pid}, ${holder.socket}) takes packets here: it is told to end`)
  await endForwarder(holder.socket)
}

/** Has a forwarder end and leave what it holds in the kernel, for another to carry on with. */
export async function letGo(link: ForwarderLink): Promise<void> {
  await link.order({ order: 'leave' }, LEAVE_MS).catch(() => {})
  await link.ended(LEAVE_MS)
  link.close()
}

interface Taken {
  readonly maps: MapsFile
  readonly adopted: boolean
  /** A forwarder that runs on them. */
  readonly link: ForwarderLink | null
}

async function takeMaps(options: UserspaceOptions, workers: number): Promise<Taken> {
  const { runDirectory, sizes, fresh, log } = options
  const path = join(runDirectory, MAPS_NAME)
  const socket = join(runDirectory, CONTROL_SOCKET)
  if (fresh === true) {
    await endForwarder(socket)
    removeMaps(path)
  }
  const link = await ForwarderLink.connect(socket)
  const found = MapsFile.open(path)
  if (!(found instanceof MapsFile) && found.foreign === true) {
    const migrated = migrate(path)
    log?.('The maps of the userspace plane were carried over from an earlier version')
    return { maps: migrated, adopted: true, link }
  }
  if (!(found instanceof MapsFile)) {
    if (!found.absent) log?.(`Rules and connections of the userspace plane are lost: ${found.reason}`)
    // It has maps that nobody can reach any more.
    if (link !== null) await endForwarder(socket)
    link?.close()
    removeMaps(path)
    return { maps: MapsFile.create(path, sizes), adopted: false, link: null }
  }
  const differs = (Object.keys(sizes) as (keyof Sizes)[]).filter((name) => found.sizes[name] !== sizes[name])
  if (found.sizes.cpus >= workers) {
    const kept = differs.filter((name) => name !== 'cpus').map((name) => `${name} ${found.sizes[name]}`)
    if (kept.length > 0) {
      log?.(
        `The maps in use keep their sizes (${kept.join(', ')}): run pointsman detach first to change them`,
      )
    }
    return { maps: found, adopted: true, link }
  }
  // More workers than the counters have rows for.
  if (isOwed(found)) {
    if (link !== null) await letGo(link)
    catchUp(found)
  }
  const maps = widen(found, Math.max(workers, sizes.cpus))
  return { maps, adopted: true, link: link === null || link.over ? null : link }
}
