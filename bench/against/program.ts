/**
 * Two packet programs under one stopwatch: each stands in a process of its tree, with rules and connections
 * written by that tree's code, and this process runs both by their descriptors, with the same frames, behind
 * the same wrapper, on one thread of one CPU, some milliseconds each in turns.
 */
import { cpus } from 'node:os'
import { packageRoot } from '../../dataplane/assets.ts'
import { attachXdp } from '../../dataplane/kernel/xdp.ts'
import { sleep } from '../../lab/command.ts'
import { possibleCpus } from '../../linux/cpus.ts'
import { readNetDevice } from '../../linux/device.ts'
import { libbpf, need } from '../../linux/libbpf.ts'
import { libc } from '../../linux/libc.ts'
import { inNetns } from '../../linux/netns.ts'
import { stayOnCpu } from '../bpf.ts'
import { receivedPackets, runLive, SoftirqClock } from '../live.ts'
import { median } from '../statistics.ts'
import type { Traffic } from '../traffic.ts'
import { Wrapper } from '../wrapper.ts'
import { CASES, type Case, groups, type Tables } from './cases.ts'
import type { Served } from './protocol.ts'
import { net, type Quad, type Side, turns, wrapperNoise } from './rounds.ts'
import { StandClient } from './stand-client.ts'
import type { Samples } from './verdict.ts'

/** Of one run: short enough that most runs are not interrupted. */
const PACKETS = 20_000
/** Of first packets: connections that a run makes, and that are forgotten before the next one. */
const FIRST_PACKETS = 16_384
/** Over the wire: what is sent at once lies in a ring until the other end gets its turn. */
const WIRE_PACKETS = 16_384
/** Connections of the previous pass settle when the next one comes in another tick of the program's clock. */
const SETTLE_MS = 20
/** Lines of a table: twice what the most expensive method takes for each flow. */
const LINES_PER_FLOW = 4
/** No case has more IPv6 connections. */
const FLOWS_IPV6 = 65_536
/** As many samples as an interval needs at least (`medianInterval`). */
const LOADS_TELL = 8
/** Frames that may be lost on the wire: veth's rings are short. */
const LOSS_MAX = 0.05

interface Depth {
  /**
   * How often both programs are loaded anew, into other memory: where code and tables happen to lie makes a
   * difference between two loads of one program that no number of rounds takes away.
   */
  readonly loads: number
  /** Rounds of each load, of which the median counts as one. */
  readonly rounds: number
}

const DEPTH: Readonly<Record<'quick' | 'whole', Depth>> = {
  quick: { loads: 2, rounds: 20 },
  whole: { loads: 8, rounds: 12 },
}

/** What came of a case: samples, or why a build has no such row. */
export type Measured =
  | { readonly case: Case; readonly samples: Samples }
  | { readonly case: Case; readonly lacking: string }

const SIDES = ['ours', 'theirs'] as const
type Both<T> = Readonly<Record<Side, T>>

/** One side, while a program of it is loaded. */
interface Seat {
  readonly stand: StandClient
  readonly program: number
  readonly namespace: string
  /** The interface that clients are behind, and the other end of its wire. */
  readonly client: string
  readonly clientIndex: number
  readonly farIndex: number
  readonly serverIndex: number
}

/** What a case is measured with; `wrapper` is what has to be taken off of `measure`. */
interface Run {
  measure(side: Side): Promise<number>
  wrapper(): number
  close(): void
}

export class ProgramBench {
  readonly #stands: Both<StandClient>
  readonly #wrapper = new Wrapper(possibleCpus())
  readonly #cpu = cpus().length - 1
  readonly #clock = new SoftirqClock(this.#cpu)

  private constructor(stands: Both<StandClient>) {
    this.#stands = stands
    // The stands have been started: they go where this thread is not.
    stayOnCpu(this.#cpu)
  }

  /** @param tree the other build's */
  static async start(tree: string): Promise<ProgramBench> {
    const ours = await named('ours', () => StandClient.start(packageRoot()))
    try {
      return new ProgramBench({ ours, theirs: await named('theirs', () => StandClient.start(tree)) })
    } catch (error) {
      await ours.end()
      throw error
    }
  }

  /** All cases of this depth, in an order that sets each scene up once for every load. */
  async run(depth: 'quick' | 'whole', progress: (text: string) => void): Promise<Measured[]> {
    const { loads, rounds } = DEPTH[depth]
    const cases = CASES.filter(({ quick }) => depth === 'whole' || quick)
    const found = new Map<Case, Quad[][]>(cases.map((one) => [one, []]))
    const lacking = new Map<Case, string>()
    for (let load = 1; load <= loads; load++) {
      for (const { tables, scenes } of groups(cases)) {
        progress(`load ${load} of ${loads}, tables for ${tables.toLocaleString('en')} connections`)
        await this.#loaded(tables, load, async (seats) => {
          for (const wanted of scenes) {
            for (const [at, one] of wanted.entries()) {
              if (lacking.has(one)) continue
              try {
                found.get(one)!.push(await this.#measure(seats, one, at === 0, rounds))
              } catch (error) {
                lacking.set(one, error instanceof Error ? error.message : String(error))
              }
            }
          }
        })
      }
    }
    return cases.map((one) => {
      const why = lacking.get(one)
      return why === undefined
        ? { case: one, samples: samplesOf(found.get(one)!) }
        : { case: one, lacking: why }
    })
  }

  async end(): Promise<void> {
    this.#wrapper.close()
    for (const side of SIDES) await this.#stands[side].end()
  }

  /** Both programs, loaded anew for as long as `work` takes. */
  async #loaded(tables: Tables, load: number, work: (seats: Both<Seat>) => Promise<void>): Promise<void> {
    const programs: number[] = []
    const seat = async (side: Side): Promise<Seat> => {
      const stand = this.#stands[side]
      const lines = { 4: LINES_PER_FLOW * tables, 6: LINES_PER_FLOW * Math.min(tables, FLOWS_IPV6) }
      const opened = await named(side, () => stand.ask({ ask: 'open', lines }))
      const program = need(libbpf().bpf_prog_get_fd_by_id(opened.program), `open program ${opened.program}`)
      programs.push(program)
      const { namespace, client } = opened
      const index = (device: string): number => inNetns(namespace, () => readNetDevice(device).ifindex)
      return {
        ...{ stand, program, namespace, client },
        clientIndex: index(client),
        farIndex: index(`${client}x`),
        serverIndex: index(opened.server),
      }
    }
    try {
      // One after the other, since the second would only wait for the kernel's verifier; each first in turn,
      // since the second gets other memory than the first.
      const [first, second] = turns(2, load) as [Side, Side]
      const seats = { [first]: await seat(first), [second]: await seat(second) } as Record<Side, Seat>
      await work(seats)
    } finally {
      for (const program of programs) libc.close(program)
      for (const side of SIDES) await this.#stands[side].ask({ ask: 'close' })
    }
  }

  async #measure(seats: Both<Seat>, one: Case, setUp: boolean, rounds: number): Promise<Quad[]> {
    const served = await both((side) => this.#setUp(seats[side], one, setUp))
    const run = isWire(one) ? await this.#overWire(seats, served, one) : this.#alone(seats, served, one)
    try {
      const quads: Quad[] = []
      for (let round = -1; round < rounds; round++) {
        const before = run.wrapper()
        const results: Record<Side, number[]> = { ours: [], theirs: [] }
        for (const side of turns(2, round + 1)) results[side].push(await named(side, () => run.measure(side)))
        const quad = { before, ours: two(results.ours), theirs: two(results.theirs), after: run.wrapper() }
        // The first is for the caches, and for what the program does once.
        if (round >= 0) quads.push(quad)
      }
      return quads
    } finally {
      run.close()
    }
  }

  /** The service, and its connections where they are made without a wire. */
  async #setUp({ stand }: Seat, one: Case, anew: boolean): Promise<Served> {
    const { scene, flows } = one
    const served = await stand.ask({ ask: 'serve', scene, keep: !anew })
    if (anew && flows > 0 && !isWire(one)) {
      const { method, family } = scene
      await stand.ask({ ask: 'establish', method, family, flows })
    }
    return served
  }

  /** By BPF_PROG_TEST_RUN. */
  #alone(seats: Both<Seat>, served: Both<Served>, one: Case): Run {
    const first = one.traffic === 'first'
    const frames = {
      clients: 'clients',
      answers: 'answers',
      first: 'syn',
      'other-port': 'otherPort',
    } as const
    const kind = frames[one.traffic as keyof typeof frames]
    const packets = first ? FIRST_PACKETS : PACKETS
    const flows = first ? FIRST_PACKETS : one.flows
    const timed = (side: Side, program: number): number => {
      const seat = seats[side]
      this.#wrapper.choose({ traffic: served[side][kind], flows, random: !first })
      const from = one.traffic === 'answers' ? seat.serverIndex : seat.clientIndex
      return inNetns(seat.namespace, () => this.#wrapper.run(program, from, packets).ns)
    }
    return {
      measure: async (side) => {
        const { stand, program } = seats[side]
        if (first) await stand.ask({ ask: 'forget', family: one.scene.family })
        await stand.ask({ ask: 'mark' })
        const ns = timed(side, program)
        await stand.ask({ ask: 'expect', verdict: one.verdict, packets })
        return ns
      },
      wrapper: () => timed('ours', this.#wrapper.references.nop),
      close: () => {},
    }
  }

  /** By a generator in the kernel, over the wire to the clients and back; generator and end included. */
  async #overWire(seats: Both<Seat>, served: Both<Served>, one: Case): Promise<Run> {
    const { scene, verdict } = one
    const links: number[] = []
    const fresh = 0
    const send = async (side: Side, traffic: Traffic, flows: number, random: boolean): Promise<number> => {
      const { stand, namespace, client, farIndex } = seats[side]
      const packets = Math.max(WIRE_PACKETS, random ? 0 : flows)
      this.#wrapper.choose({ traffic, flows, first: fresh, random })
      this.#wrapper.aim(this.#wrapper.references.nop)
      await stand.ask({ ask: 'mark' })
      const arrived = receivedPackets(namespace, `${client}x`)
      const started = this.#clock.nowNs()
      inNetns(namespace, () => runLive(this.#wrapper.programFd, traffic.frame, farIndex, packets))
      const ns = this.#clock.nowNs() - started
      const got = receivedPackets(namespace, `${client}x`) - arrived
      if (got < packets * (1 - LOSS_MAX) || got > packets * (1 + LOSS_MAX)) {
        throw new Error(`sent ${packets} packets over the wire, ${got} came back`)
      }
      await stand.ask({ ask: 'expect', verdict, packets: Math.min(got, packets) })
      return (got * 1e9) / ns
    }
    const close = (): void => {
      for (const link of links.splice(0)) libc.close(link)
    }
    try {
      for (const side of SIDES) {
        const { namespace, client, program } = seats[side]
        inNetns(namespace, () => {
          const attach = (fd: number, device: string): void => {
            links.push(attachXdp(fd, { ...readNetDevice(device), kind: 'veth' }, 'native').fd)
          }
          attach(program, client)
          attach(this.#wrapper.references.drop, `${client}x`)
        })
        if (one.traffic === 'wire-first') continue
        await named(side, async () => {
          await send(side, served[side].syn, one.flows, false)
          for (let pass = 0; pass < 2; pass++) {
            await sleep(SETTLE_MS)
            await send(side, served[side].clients, one.flows, false)
          }
        })
      }
    } catch (error) {
      close()
      throw error
    }
    return {
      measure: async (side) => {
        if (one.traffic === 'wire') return send(side, served[side].clients, one.flows, true)
        await seats[side].stand.ask({ ask: 'forget', family: scene.family })
        return send(side, served[side].syn, WIRE_PACKETS, false)
      },
      // The generator is the same for both, and part of what is compared.
      wrapper: () => 0,
      close,
    }
  }
}

const isWire = ({ traffic }: Case): boolean => traffic === 'wire' || traffic === 'wire-first'

const two = ([first, second]: readonly number[]): [number, number] => [first!, second!]

/** A load counts as one sample where there are enough of them to tell, else a round does. */
export function samplesOf(loads: readonly (readonly Quad[])[]): Samples {
  const units = loads.length >= LOADS_TELL ? loads : loads.flatMap((quads) => quads.map((quad) => [quad]))
  const nets = units.map((quads) => {
    const found = quads.map(net)
    const theirs = median(found.map((quad) => quad.theirs))
    // Within a load it is the ratios of rounds that count, not that of two medians.
    return { ours: theirs * median(found.map((quad) => quad.ours / quad.theirs)), theirs }
  })
  return {
    ours: nets.map(({ ours }) => ours),
    theirs: nets.map(({ theirs }) => theirs),
    noise: loads.flat().length === 0 ? [] : wrapperNoise(loads.flat()),
  }
}

async function both<T>(work: (side: Side) => Promise<T>): Promise<Both<T>> {
  const ours = await named('ours', () => work('ours'))
  return { ours, theirs: await named('theirs', () => work('theirs')) }
}

const WHOSE: Both<string> = { ours: 'this build', theirs: 'the other build' }

/** Says which build it was that failed. */
async function named<T>(side: Side, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw new Error(`${WHOSE[side]}: ${error instanceof Error ? error.message : error}`, { cause: error })
  }
}
