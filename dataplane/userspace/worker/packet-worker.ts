/**
 * A thread that forwards packets. It never returns to its event loop: it waits in poll(2) for frames
 * and for orders, and reads orders synchronously.
 */
import { performance } from 'node:perf_hooks'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { addressOf, libc } from '../../../linux/libc.ts'
import { type NextHop, NextHopResolver } from '../../../linux/netlink/next-hop.ts'
import { RequestSocket } from '../../../linux/netlink/socket.ts'
import { PM_HEADROOM, PM_TICK_SHIFT, PM_VERDICT_MAX, SettingsRecord } from '../../layout/layout.gen.ts'
import { type SeatedInstance, seatInstance } from '../../wasm/instance.ts'
import { fibHost } from '../../wasm/program.ts'
import { ClaimFilter } from '../claims/filter.ts'
import { VNET_HEADER } from '../packet/rings.ts'
import { LargeBuffers, PacketSource } from '../packet/source.ts'
import { FramePool, XskSource } from '../xsk/source.ts'
import type { FrameSource } from './frame-source.ts'
import { JobTable } from './jobs.ts'
import { PacketLoop } from './loop.ts'
import {
  type NumberedOrder,
  TAP_RECORD_BYTES,
  type TapSource,
  type WorkerAnswer,
  type WorkerOrder,
  type WorkerSetup,
} from './messages.ts'
import { WorkerTape } from './tape.ts'

/** Room before a frame in a large buffer: headers to add, virtio header, and an IP header at 16 bytes. */
const LARGE_HEADROOM = PM_HEADROOM + VNET_HEADER + 8
const LARGE_BYTES = 66 * 1024
const HOUSEKEEPING_MS = 1000
/** Under full load the clock is looked at once in so many batches, some ten milliseconds. */
const ROUNDS_PER_LOOK = 256
/**
 * After super-packets the worker looks for more so long before it sleeps: their sender waits for an
 * answer, and falling asleep and waking up would take both CPUs about this long.
 */
const BULK_STAY_MS = 0.05
const POLLIN = 1
const POLLERR = 8
const POLLFD = 8

class PacketWorker {
  readonly #setup: WorkerSetup
  readonly #port: NonNullable<typeof parentPort>
  readonly #bell: Int32Array
  readonly #memory: bigint
  readonly #large: LargeBuffers
  readonly #jobs: JobTable
  readonly #claims = new ClaimFilter()
  readonly #program: SeatedInstance
  readonly #frames: FramePool
  readonly #loop: PacketLoop
  readonly #netlink = new RequestSocket()
  #pollfds = new Uint8Array(POLLFD)
  #pollCount = 1
  #heard = 0
  #held = false
  #housekeepAt = 0
  #running = true
  #stayUntil = 0
  #rounds = 0

  constructor(setup: WorkerSetup, port: NonNullable<typeof parentPort>) {
    const { buffer } = setup.seat.memory
    this.#setup = setup
    this.#port = port
    this.#bell = new Int32Array(buffer, setup.bell, 1)
    this.#memory = addressOf(new Uint8Array(buffer))
    this.#large = new LargeBuffers(
      setup.large.base,
      Math.floor(setup.large.bytes / LARGE_BYTES),
      LARGE_BYTES,
      LARGE_HEADROOM,
    )
    this.#jobs = new JobTable(buffer, setup.jobs.base, setup.arrivals.base, setup.batch)
    this.#program = seatInstance(setup.seat, fibHost(setup.seat.memory, nextHops(setup, this.#netlink)))
    this.#frames = new FramePool(setup.pool, this.#jobs)
    this.#loop = new PacketLoop({
      program: this.#program,
      jobs: this.#jobs,
      memory: this.#memory,
      verdicts: new BigUint64Array(buffer, setup.verdicts, PM_VERDICT_MAX),
      claims: this.#claims,
      together: { ...setup.together, headroom: LARGE_HEADROOM },
      scratch: setup.scratch,
      sendRooms: setup.sendRooms,
      bypassQueue: setup.bypassQueue,
      ticks: tickClock(),
      onBatchDone: () => this.#large.releaseAll(),
    })
    this.#renewPoll()
  }

  run(): void {
    this.#housekeepAt = performance.now() + HOUSEKEEPING_MS
    while (this.#running) this.#round()
    this.#loop.close()
    this.#netlink.close()
  }

  /** A function of its own: the compiler gives its best to what is called often, not to what never returns. */
  #round(): void {
    if (Atomics.load(this.#bell, 0) !== this.#heard) this.#hear()
    const worked = !this.#held && this.#loop.step() > 0
    this.#rounds += 1
    if (worked && this.#rounds % ROUNDS_PER_LOOK !== 0) return
    const now = performance.now()
    if (now >= this.#housekeepAt) {
      if (!this.#program.stackIsWhole()) throw new Error('the packet program has overrun its stack')
      this.#loop.housekeep()
      this.#housekeepAt = now + HOUSEKEEPING_MS
    }
    if (worked) return
    if (this.#loop.takeBulk()) this.#stayUntil = now + BULK_STAY_MS
    if (now < this.#stayUntil && !this.#held) return
    if (this.#setup.busyPoll && !this.#held && this.#pollCount > 1) return
    this.#wait(Math.ceil(this.#housekeepAt - now))
  }

  #wait(timeoutMs: number): void {
    const count = this.#held ? 1 : this.#pollCount
    if (libc.poll(this.#pollfds, count, Math.max(1, timeoutMs)) <= 0) return
    if ((this.#pollfds[6]! & POLLIN) !== 0) libc.read(this.#setup.wakeFd, new Uint8Array(8), 8)
    const sources = this.#loop.sources()
    for (let i = 1; i < count; i++) {
      if ((this.#pollfds[i * POLLFD + 6]! & POLLERR) !== 0) sources[i - 1]?.recover()
    }
  }

  #hear(): void {
    this.#heard = Atomics.load(this.#bell, 0)
    for (;;) {
      const received: { message: NumberedOrder } | undefined = receiveMessageOnPort(this.#port)
      if (received === undefined) return
      const { number, order } = received.message
      let error: string | null = null
      try {
        this.#obey(order)
      } catch (cause) {
        error = cause instanceof Error ? cause.message : String(cause)
      }
      const answer: WorkerAnswer = { number, error }
      this.#port.postMessage(answer)
    }
  }

  #obey(order: WorkerOrder): void {
    switch (order.kind) {
      case 'add-tap': {
        // The ring may lie in memory that has been added since. Growing by nothing makes it known here.
        this.#setup.seat.memory.grow(0)
        this.#jobs.renew(this.#setup.seat.memory.buffer)
        const source = this.#source(order.source, order.tap)
        this.#loop.addTap(order.tap, source, order.stackIfindex)
        this.#renewPoll()
        return
      }
      case 'remove-tap':
        this.#loop.removeTap(order.tap)
        this.#renewPoll()
        return
      case 'claims':
        this.#claims.apply(order.change)
        return
      case 'record':
        this.#loop.recordTo(order.tape === null ? null : new WorkerTape(order.tape, this.#jobs))
        return
      case 'pause':
        return
      case 'hold':
        this.#held = true
        return
      case 'release':
        this.#held = false
        return
      case 'stop':
        this.#running = false
        return
      default:
        order satisfies never
    }
  }

  #source(source: TapSource, tap: number): FrameSource {
    const record = this.#setup.taps.base + tap * TAP_RECORD_BYTES
    if (source.kind === 'xsk') {
      return new XskSource(source.queue, record, this.#program, this.#jobs, this.#frames, tap)
    }
    const count = (verdict: number, frames: number) => this.#loop.count(verdict, frames)
    const memory = { address: this.#memory, view: new DataView(this.#setup.seat.memory.buffer) }
    return new PacketSource(source.ring, record, this.#program, memory, this.#large, tap, count)
  }

  #renewPoll(): void {
    const fds = [this.#setup.wakeFd, ...this.#loop.sources().map((source) => source.fd)]
    this.#pollfds = new Uint8Array(fds.length * POLLFD)
    this.#pollCount = fds.length
    const view = new DataView(this.#pollfds.buffer)
    for (const [i, fd] of fds.entries()) {
      view.setInt32(i * POLLFD, fd, true)
      view.setInt16(i * POLLFD + 4, POLLIN, true)
    }
  }
}

/** Next hops by this thread's own netlink socket; `next_hop_epoch` says when to ask again. */
function nextHops(
  setup: WorkerSetup,
  socket: RequestSocket,
): (query: Parameters<NextHopResolver['resolve']>[0]) => NextHop {
  const settings = new Uint32Array(setup.seat.memory.buffer, setup.settings, SettingsRecord.size / 4)
  const epoch = SettingsRecord.offsets.nextHopEpoch / 4
  const resolver = new NextHopResolver(socket, () => Atomics.load(settings, epoch))
  return (query) => {
    try {
      return resolver.resolve(query)
    } catch {
      // The kernel did not answer in time: as good as unresolved, the next packet asks again.
      return { result: 'no-neighbour' }
    }
  }
}

/** CLOCK_MONOTONIC in ticks, without a BigInt per batch. */
function tickClock(): () => number {
  const tickMs = 2 ** PM_TICK_SHIFT / 1e6
  const startMs = Number(process.hrtime.bigint()) / 1e6 - performance.now()
  return () => Math.floor((startMs + performance.now()) / tickMs) >>> 0
}

if (parentPort !== null) {
  const setup: WorkerSetup = workerData
  new PacketWorker(setup, parentPort).run()
}
