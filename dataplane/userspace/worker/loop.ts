/**
 * One worker's loop: frames out of the sources, a batch through the packet program, and out of the
 * interfaces or back to the kernel's stack. Nothing a packet or an interface does ends it.
 */
import { performance } from 'node:perf_hooks'
import { Action, PM_VERDICT_MAX, Verdict } from '../../layout/layout.gen.ts'
import type { FrameMover, ProgramInstance } from '../../wasm/instance.ts'
import type { Region } from '../../wasm/region.ts'
import type { ClaimFilter } from '../claims/filter.ts'
import { VNET_HEADER } from '../packet/rings.ts'
import { SendRing } from '../packet/send-ring.ts'
import { cutIntoFragments, finishTransport } from './cut.ts'
import { type Datagram, Datagrams, frameBytes, type Piece } from './datagrams.ts'
import type { FrameSource } from './frame-source.ts'
import { GsoType, type JobTable, VNET_NEEDS_CHECKSUM, Vnet } from './jobs.ts'
import type { SendRoom } from './messages.ts'
import { Outlet } from './outlet.ts'
import { finishTunnel, segmentTunnelled } from './segment.ts'
import type { WorkerTape } from './tape.ts'

/** Batches, one right after the other, that are run by one reading of the clock: some milliseconds. */
const BATCHES_PER_READING = 8
/** Failing to open a socket for an interface is not tried again for so long. */
const RETRY_MS = 1000
const ETHERNET = 14

/** What is sent from by words has to start at a word. */
const align = (bytes: number): number => (bytes + 15) & ~15

export interface LoopOptions {
  readonly program: ProgramInstance & FrameMover
  readonly jobs: JobTable
  /** Address of the linear memory in this process. */
  readonly memory: bigint
  /** This worker's row of `verdicts`. */
  readonly verdicts: BigUint64Array
  readonly claims: ClaimFilter
  /** Room for datagrams that came in fragments, in linear memory; before each so much for headers. */
  readonly together: Region & { readonly headroom: number }
  /** Space for segments of super-packets and for fragments, in linear memory. */
  readonly scratch: { readonly base: number; readonly bytes: number }
  /** Rings to send from; interfaces that find none left do without. */
  readonly sendRooms: readonly SendRoom[]
  readonly bypassQueue: boolean
  readonly ticks: () => number
  /** All frames of a batch were sent: buffers beside the sources' are free. */
  readonly onBatchDone: () => void
}

interface Tap {
  readonly source: FrameSource
  /** Interface that leads to the kernel's stack, 0 for none. */
  readonly stackIfindex: number
}

export class PacketLoop {
  readonly #options: LoopOptions
  /** By number. */
  readonly #taps: (Tap | undefined)[] = []
  /** The same without the gaps; another array after every change. */
  #list: readonly Tap[] = []
  #sources: readonly FrameSource[] = []
  /** By interface, and the same as a list: another array after every change. */
  readonly #outlets = new Map<number, Outlet>()
  #outletList: readonly Outlet[] = []
  readonly #sendRooms: SendRoom[]
  readonly #retryAt = new Map<number, number>()
  #lastOutlet: Outlet | null = null
  #tape: WorkerTape | null = null
  #scratchUsed = 0
  readonly #datagrams = new Datagrams()
  #togetherUsed = 0
  #bulk = false
  /** Batches since the clock was read; as good as many after a pause. */
  #sinceReading = BATCHES_PER_READING
  /** Which tap is asked first, so that none starves. */
  #turn = 0

  constructor(options: LoopOptions) {
    if (options.verdicts.length !== PM_VERDICT_MAX) throw new RangeError('verdicts: expected one row')
    this.#options = options
    this.#sendRooms = [...options.sendRooms]
  }

  /** Counts frames that get their verdict outside of the program. */
  count(verdict: number, frames: number): void {
    this.#options.verdicts[verdict]! += BigInt(frames)
  }

  addTap(number: number, source: FrameSource, stackIfindex: number): void {
    this.#taps[number] = { source, stackIfindex }
    this.#listTaps()
  }

  removeTap(number: number): void {
    const tap = this.#taps[number]
    if (tap === undefined) return
    this.#giveUp(({ pieces }) => pieces.some((piece) => piece.tap === number))
    this.#countDrops(tap)
    tap.source.close?.()
    this.#taps[number] = undefined
    this.#listTaps()
    this.#closeOutlet(tap.stackIfindex)
    this.#closeOutlet(tap.source.ifindex)
  }

  #listTaps(): void {
    this.#list = this.#taps.filter((tap) => tap !== undefined)
    this.#sources = this.#list.map((tap) => tap.source)
    this.#turn = 0
  }

  sources(): readonly FrameSource[] {
    return this.#sources
  }

  /** Handles what waits, at most one batch; returns the number of frames. */
  step(): number {
    const { jobs } = this.#options
    const sources = this.#sources
    let next = this.#turn
    let count = 0
    for (let i = 0; i < sources.length && count < jobs.capacity; i++) {
      count += sources[next]!.receive(jobs, count, jobs.capacity - count)
      next = next + 1 < sources.length ? next + 1 : 0
    }
    this.#turn = this.#turn + 1 < sources.length ? this.#turn + 1 : 0
    if (count > 0) {
      this.#run(count)
      this.#dispatch(count)
      this.#flush()
    } else {
      this.#sinceReading = BATCHES_PER_READING
    }
    for (let i = 0; i < sources.length; i++) sources[i]!.release()
    this.#options.onBatchDone()
    return count
  }

  /** Whether there have been super-packets since the last call. */
  takeBulk(): boolean {
    const bulk = this.#bulk
    this.#bulk = false
    return bulk
  }

  /** Once in a while: drops the kernel has counted, interfaces that are no more. */
  housekeep(): void {
    for (const tap of this.#list) this.#countDrops(tap)
    this.#giveUp()
    for (const outlet of this.#outletList) {
      if (outlet.isOrphan()) this.#closeOutlet(outlet.ifindex)
      else outlet.retry()
    }
  }

  #countDrops(tap: Tap): void {
    const drops = tap.source.takeDrops()
    if (drops > 0) this.count(Verdict.DropRing, drops)
  }

  #run(count: number): void {
    const { program, jobs } = this.#options
    if (this.#sinceReading >= BATCHES_PER_READING) {
      program.setNow(this.#options.ticks())
      this.#sinceReading = 0
    }
    this.#sinceReading += 1
    this.#tape?.keep(count)
    if (this.#runJobs(0, count))
      this.#tape?.record(count, (job) => this.#taps[jobs.tap(job)]?.source.ifindex ?? 0)
  }

  /** Whether all of them have their verdicts. */
  #runJobs(first: number, count: number): boolean {
    const { program, jobs } = this.#options
    try {
      program.runBatch(jobs.jobAt(first), count)
    } catch (error) {
      // A trap is a bug in the program, but no reason to stop forwarding: this batch is lost.
      if (!(error instanceof WebAssembly.RuntimeError)) throw error
      for (let i = first; i < first + count; i++) jobs.drop(i)
      this.count(Verdict.DropMap, count)
      return false
    }
    return true
  }

  /** Every packet from now on; null: none. */
  recordTo(tape: WorkerTape | null): void {
    this.#tape?.close()
    this.#tape = tape
  }

  /** These have been there for too long, or for nothing. */
  #giveUp(which?: (datagram: Datagram) => boolean): void {
    if (this.#datagrams.size === 0) return
    for (const datagram of this.#datagrams.take(performance.now(), which)) {
      this.count(Verdict.DropFragmentIncomplete, datagram.pieces.length)
      this.#datagrams.forget(datagram)
    }
  }

  /** A fragment: with the last of its datagram, that goes through the program as a whole. */
  #hold(index: number): void {
    const { jobs } = this.#options
    const kept = this.#datagrams.keep(
      jobs.u8,
      jobs.start(index),
      jobs.length(index),
      jobs.tap(index),
      jobs.toHost(index),
      performance.now(),
      ({ pieces }) => this.count(Verdict.DropFragmentIncomplete, pieces.length),
    )
    switch (kept.kind) {
      case 'kept':
      case 'again':
        return
      case 'unfit':
        this.count(Verdict.DropFragmentIncomplete, 1)
        return
      case 'spoiled':
        this.count(Verdict.DropFragmentOverlap, kept.datagram.pieces.length + 1)
        this.#datagrams.forget(kept.datagram)
        return
      case 'whole':
        this.#runWhole(kept.datagram)
        this.#datagrams.forget(kept.datagram)
        return
      default:
        kept satisfies never
    }
  }

  /** By the spare job behind those of a batch. */
  #runWhole(datagram: Datagram): void {
    const { jobs, program } = this.#options
    const spare = jobs.capacity
    const last = datagram.pieces.at(-1)!
    const source = this.#taps[last.tap]?.source
    const data = this.#togetherRoom(frameBytes(datagram))
    const bytes = this.#datagrams.putTogether(datagram, jobs.u8, data)
    if (source === undefined || bytes === 0) {
      this.count(Verdict.DropFragmentIncomplete, datagram.pieces.length)
      return
    }
    this.#arrive(data, bytes, last, source.ifindex)
    // RFC 8200 §5: only its sender fragments IPv6, so what counts is how large its fragments were.
    if (last.fragment.next !== null) jobs.setSegment(spare, datagram.largest)
    program.setNow(this.#options.ticks())
    this.#tape?.keep(1, spare)
    if (this.#runJobs(spare, 1)) this.#tape?.record(1, () => source.ifindex, spare)
    if (jobs.action(spare) === Action.Send) this.#send(spare, jobs.ifindex(spare), datagram.largest)
    else if (jobs.verdict(spare) === Verdict.PassEgress) this.#passInPieces(spare, datagram)
    else if (jobs.action(spare) === Action.Pass) this.#passPieces(datagram)
  }

  #arrive(data: number, bytes: number, { tap, toHost }: Piece, ifindex: number): void {
    const { jobs, program } = this.#options
    const spare = jobs.capacity
    jobs.u8.fill(0, data - VNET_HEADER, data)
    program.arrive(jobs.jobAt(spare), jobs.arrivalAt(spare), data, bytes, ifindex, tap, toHost ? 1 : 0)
  }

  /** The stack gets what came. */
  #passPieces({ pieces }: Datagram): void {
    const { jobs } = this.#options
    for (const piece of pieces) {
      const data = this.#togetherRoom(piece.length)
      this.#datagrams.copyPiece(piece, jobs.u8, data)
      this.#arrive(data, piece.length, piece, this.#taps[piece.tap]?.source.ifindex ?? 0)
      this.#dispatchOne(jobs.capacity)
    }
  }

  /** The stack gets what it has become. */
  #passInPieces(index: number, { largest }: Datagram): void {
    const stack = this.#taps[this.#options.jobs.tap(index)]?.stackIfindex ?? 0
    if (stack !== 0) this.#send(index, stack, largest)
  }

  /** For a frame of so many bytes, its headers in front: until the next flush, which comes first if there is too little. */
  #togetherRoom(bytes: number): number {
    const { together } = this.#options
    const room = align(together.headroom + bytes)
    if (this.#togetherUsed + room > together.bytes) this.#flush()
    const frame = together.base + this.#togetherUsed + together.headroom
    this.#togetherUsed += room
    return frame
  }

  /** Whole stretches of a batch go the way of their first frame; what cannot is looked at one by one. */
  #dispatch(count: number): void {
    const { jobs } = this.#options
    for (let i = 0; i < count; i++) {
      const source = this.#taps[jobs.tap(i)]?.source
      if (source?.forward !== undefined) i = source.forward(i, count)
      else if (this.#lastOutlet !== null) i = this.#lastOutlet.put(i, count)
      if (i < count) this.#dispatchOne(i)
    }
  }

  #dispatchOne(index: number): void {
    const { jobs, claims } = this.#options
    switch (jobs.action(index)) {
      case Action.Send:
        this.#send(index, jobs.ifindex(index))
        return
      case Action.Pass: {
        const tap = this.#taps[jobs.tap(index)]
        // The kernel has its own copy unless our claims made it drop the frame.
        if (tap?.source.takesAll !== true) {
          if (!jobs.toHost(index)) return
          if (!claims.matches(jobs.u8, jobs.data(index), jobs.received(index))) return
        }
        const stack = tap?.stackIfindex ?? 0
        if (stack !== 0) this.#send(index, stack)
        return
      }
      case Action.Again:
        // Never for more of a frame, which lies in memory as a whole.
        this.#hold(index)
        return
      default:
      // Dropped.
    }
  }

  /** `largest`: of the fragments it came in, IP bytes; 0: it came whole. */
  #send(index: number, ifindex: number, largest = 0): void {
    const { jobs } = this.#options
    const outlet = this.#lastOutlet?.ifindex === ifindex ? this.#lastOutlet : this.#outlet(ifindex)
    if (outlet === null) {
      this.count(Verdict.DropTx, 1)
      return
    }
    const isAnswer = jobs.verdict(index) >= Verdict.AnswerPortUnreachable
    const most = isAnswer ? 0 : this.#most(index, largest)
    if (most > 0) {
      // What came with DF in fragments is not to be made smaller ones of by others either.
      this.#sendFragments(outlet, index, most, largest > 0)
      return
    }
    const isSuper = jobs.gsoType(index) !== GsoType.NONE
    if (isSuper) this.#bulk = true
    else if (outlet.put(index, index + 1) > index) return
    const start = jobs.start(index)
    const length = jobs.length(index)
    const grown = jobs.data(index) - start
    if (grown > 0 && isSuper && !isAnswer) {
      this.#sendSegments(outlet, index)
      return
    }
    this.#writeVnet(index, start, grown, isAnswer)
    if (grown > 0 && !isAnswer) this.#finishTunnel(index, start, length)
    outlet.queue(start - VNET_HEADER, length + VNET_HEADER)
  }

  /** IP bytes of the largest packet that a frame may leave in, 0: it leaves as it is. */
  #most(index: number, largest: number): number {
    const { jobs } = this.#options
    const cut = jobs.cut(index)
    if (largest === 0) return cut
    const grown = jobs.data(index) - jobs.start(index)
    // A path is never taken for wider than the sender did. In a tunnel the program has said how wide it is, but for IPv6.
    const most = grown > 0 ? cut || largest + grown : Math.min(cut || largest, largest)
    return jobs.length(index) - ETHERNET > most ? most : 0
  }

  /** The virtio header for a frame whose start moved to the front by `grown` bytes. */
  #writeVnet(index: number, start: number, grown: number, isAnswer: boolean): void {
    const { jobs } = this.#options
    const { u16 } = jobs
    const to = (start - VNET_HEADER) >>> 1
    const flagsAndType = jobs.vnet(index, Vnet.flagsAndType)
    if ((flagsAndType & VNET_NEEDS_CHECKSUM) === 0 || isAnswer) {
      for (let i = 0; i < Vnet.words; i++) u16[to + i] = 0
      return
    }
    u16[to + Vnet.flagsAndType] = (flagsAndType & 0xff00) | VNET_NEEDS_CHECKSUM
    // What the kernel puts into the linear part of its buffer: the headers, not 64 KiB.
    u16[to + Vnet.headerLength] = flagsAndType >> 8 === GsoType.NONE ? 0 : jobs.headerBytes(index) + grown
    u16[to + Vnet.segmentSize] = jobs.vnet(index, Vnet.segmentSize)
    u16[to + Vnet.checksumStart] = jobs.vnet(index, Vnet.checksumStart) + grown
    u16[to + Vnet.checksumOffset] = jobs.vnet(index, Vnet.checksumOffset)
  }

  /** A tunnel's checksum over a packet whose own is unfinished has to be that of the finished one. */
  #finishTunnel(index: number, start: number, length: number): void {
    const { jobs } = this.#options
    if ((jobs.vnet(index, Vnet.flagsAndType) & VNET_NEEDS_CHECKSUM) === 0) return
    const l4 = jobs.data(index) + jobs.vnet(index, Vnet.checksumStart)
    const field = l4 + jobs.vnet(index, Vnet.checksumOffset)
    const partial = (jobs.u8[field]! << 8) | jobs.u8[field + 1]!
    finishTunnel(jobs.u8, start + ETHERNET, l4, start + length, partial)
  }

  #sendSegments(outlet: Outlet, index: number): void {
    segmentTunnelled(
      this.#options.jobs,
      index,
      (bytes) => this.#scratchRoom(outlet, bytes),
      (address, bytes) => outlet.queue(address, bytes),
    )
  }

  #sendFragments(outlet: Outlet, index: number, most: number, keepsDontFragment: boolean): void {
    const { jobs } = this.#options
    const { u8 } = jobs
    const start = jobs.start(index)
    const end = start + jobs.length(index)
    if ((jobs.vnet(index, Vnet.flagsAndType) & VNET_NEEDS_CHECKSUM) !== 0) {
      this.#finishTunnel(index, start, jobs.length(index))
      const l4 = jobs.data(index) + jobs.vnet(index, Vnet.checksumStart)
      finishTransport(u8, l4, end, jobs.vnet(index, Vnet.checksumOffset))
    }
    cutIntoFragments(
      u8,
      start,
      most,
      () => (Math.random() * 0x1_0000_0000) >>> 0,
      (bytes) => {
        const address = this.#scratchRoom(outlet, VNET_HEADER + bytes)
        u8.fill(0, address, address + VNET_HEADER)
        return address + VNET_HEADER
      },
      (address, bytes) => outlet.queue(address - VNET_HEADER, VNET_HEADER + bytes),
      keepsDontFragment,
    )
  }

  /** Space that stays until the next flush, which comes first if there is too little. */
  #scratchRoom(outlet: Outlet, bytes: number): number {
    const { scratch } = this.#options
    const rounded = (bytes + 15) & ~15
    if (outlet.full || this.#scratchUsed + rounded > scratch.bytes) this.#flush()
    const address = scratch.base + this.#scratchUsed
    this.#scratchUsed += rounded
    return address
  }

  #flush(): void {
    const sources = this.#sources
    for (let i = 0; i < sources.length; i++) sources[i]!.flush?.()
    const outlets = this.#outletList
    for (let i = 0; i < outlets.length; i++) {
      const refused = outlets[i]!.flush()
      if (refused > 0) this.count(Verdict.DropTx, refused)
      if (outlets[i]!.broken) this.#closeOutlet(outlets[i]!.ifindex)
    }
    this.#scratchUsed = 0
    this.#togetherUsed = 0
  }

  #outlet(ifindex: number): Outlet | null {
    let outlet = this.#outlets.get(ifindex) ?? null
    if (outlet === null) {
      const now = performance.now()
      if ((this.#retryAt.get(ifindex) ?? 0) > now) return null
      try {
        const { memory, jobs, bypassQueue } = this.#options
        outlet = new Outlet(ifindex, memory, jobs, bypassQueue, () => this.#sendRing(ifindex))
      } catch {
        // No such interface (any more), or it is down.
        this.#retryAt.set(ifindex, now + RETRY_MS)
        return null
      }
      this.#retryAt.delete(ifindex)
      this.#outlets.set(ifindex, outlet)
      this.#outletList = [...this.#outlets.values()]
    }
    this.#lastOutlet = outlet
    return outlet
  }

  /** Null without room or memory for one: then every frame is sent from where it lies. */
  #sendRing(ifindex: number): SendRing | null {
    const room = this.#sendRooms.pop()
    if (room === undefined) return null
    const { bypassQueue, memory, program, jobs } = this.#options
    try {
      return new SendRing(ifindex, bypassQueue, memory, room, program, jobs, () => this.#sendRooms.push(room))
    } catch {
      this.#sendRooms.push(room)
      return null
    }
  }

  #closeOutlet(ifindex: number): void {
    const outlet = this.#outlets.get(ifindex)
    if (outlet === undefined) return
    this.count(Verdict.DropTx, outlet.flush())
    outlet.close()
    this.#outlets.delete(ifindex)
    this.#outletList = [...this.#outlets.values()]
    if (this.#lastOutlet === outlet) this.#lastOutlet = null
  }

  close(): void {
    for (const number of this.#taps.keys()) this.removeTap(number)
    for (const ifindex of [...this.#outlets.keys()]) this.#closeOutlet(ifindex)
  }
}
