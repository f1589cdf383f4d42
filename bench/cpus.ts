/**
 * Two CPUs, each with a receive queue, a generator and flows of its own, as a network card hands them out:
 * what each does in a second of its own time while the other is at work too, and while it is not. Whatever
 * they share (lines of memory, counters, a scheduler's cursor) shows as time.
 */
import { cpus as processors } from 'node:os'
import { Worker } from 'node:worker_threads'
import { stayOnCpu } from './bpf.ts'
import type { SenderReply, SenderRequest } from './cpus-sender.ts'
import { receivedPackets } from './live.ts'
import { type Goal, part, type Reporter, type Section, Skip } from './section.ts'
import { compare } from './statistics.ts'
import { type Contender, type Ours, pointsman, Scene, WIRE } from './wire.ts'

const CPUS = 2
const ROUNDS = 9
const ROUNDS_QUICK = 5
/** Of each CPU. */
const PACKETS = 65_536
const FLOWS = 65_536 / CPUS
const NEW_FLOWS = 16_384
const LINES = 1_048_576
const SERVERS = 100
/** Twice one CPU would be perfect. */
const GOAL: Goal = { of: 'ratio', bound: 'least', limit: 1.9 }
const LOSS_MAX = 0.05
/** Flows of the passes before: numbers that a new flow must not have. */
const FRESH = 2 ** 21

/** A thread on a CPU of its own, which sends when it is told to. */
class Sender {
  readonly #worker: Worker
  #failed: Error | null = null
  #waiting: { resolve(ns: number): void; reject(why: Error): void } | null = null

  constructor(cpu: number) {
    const source = new URL('./cpus-sender.ts', import.meta.url)
    // A worker does not inherit loaders that were registered after the start.
    const loader = import.meta.resolve('tsx/esm/api')
    const script = `import(${JSON.stringify(loader)}).then(({ register }) => {
      register()
      return import(${JSON.stringify(source.href)})
    })`
    this.#worker = new Worker(script, { eval: true, workerData: cpu })
    this.#worker.on('message', (reply: SenderReply) => {
      const waiting = this.#waiting
      this.#waiting = null
      if (reply.ok) waiting?.resolve(reply.ns)
      else waiting?.reject(new Error(reply.why))
    })
    const fail = (why: Error): void => {
      this.#failed ??= why
      this.#waiting?.reject(this.#failed)
      this.#waiting = null
    }
    this.#worker.on('error', fail)
    this.#worker.on('exit', (status) => fail(new Error(`the sender on CPU ${cpu} ended with ${status}`)))
  }

  send(request: SenderRequest): Promise<number> {
    if (this.#failed !== null) return Promise.reject(this.#failed)
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#worker.postMessage(request)
    })
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}

class TwoCpus {
  readonly #scene: Scene
  readonly #senders: readonly Sender[]

  constructor(scene: Scene, senders: readonly Sender[]) {
    this.#scene = scene
    this.#senders = senders
  }

  /** Packets per second of CPU time, all senders together; each has its own range of flows. */
  async send(
    contender: Contender,
    senders: number,
    flows: { readonly flows: number; readonly first: number; readonly random: boolean },
    packets: number,
  ): Promise<number> {
    const { generator, ifindex, traffic } = contender
    const { wrapper } = this.#scene
    wrapper.choose({ traffic, ...flows, apart: true })
    wrapper.aim(wrapper.references.nop)
    const arrived = receivedPackets(generator, WIRE.generator)
    const verdicts = contender.verdicts?.() ?? []
    contender.prepare?.(flows.flows)
    const request: SenderRequest = {
      ...{ generator, ifindex, packets, program: wrapper.programFd, frame: traffic.frame },
      // All of them start together; each waits for the others.
      start: new SharedArrayBuffer(4),
      senders,
    }
    const times = await Promise.all(this.#senders.slice(0, senders).map((sender) => sender.send(request)))
    const sent = senders * packets
    const got = receivedPackets(generator, WIRE.generator) - arrived
    contender.check?.(verdicts, sent)
    if (got < sent * (1 - LOSS_MAX) || got > sent * (1 + LOSS_MAX)) {
      throw new Error(`${contender.name}: sent ${sent} packets, ${got} arrived`)
    }
    return times.reduce((sum, ns) => sum + ((got / senders) * 1e9) / ns, 0)
  }
}

async function row(
  report: Reporter,
  name: string,
  rounds: number,
  send: (senders: number, round: number) => Promise<number>,
): Promise<void> {
  const one: number[] = []
  const two: number[] = []
  for (let round = 0; round < rounds; round++) {
    one.push(await send(1, 2 * round))
    two.push(await send(CPUS, 2 * round + 1))
  }
  const { value, reference, ratio, interval, most } = compare(two, one)
  report.row({
    ...{ name, unit: 'packets/s', value, best: most, ratio, goal: GOAL },
    reference: { name: 'one CPU', value: reference },
    ...(interval === null ? {} : { ratioInterval: interval }),
  })
}

async function established(report: Reporter, name: string, two: TwoCpus, ours: Contender, rounds: number) {
  const flows = { flows: FLOWS, first: 0, random: false }
  for (let pass = 0; pass < 2; pass++) await two.send(ours, CPUS, flows, FLOWS)
  await row(report, name, rounds, (senders) => two.send(ours, senders, { ...flows, random: true }, PACKETS))
}

async function fresh(report: Reporter, name: string, two: TwoCpus, ours: Ours, rounds: number) {
  const [contender] = ours.contenders
  await row(report, name, rounds, (senders, round) => {
    ours.rules.forgetConnections()
    const first = FRESH + round * CPUS * NEW_FLOWS
    return two.send(contender!, senders, { flows: NEW_FLOWS, first, random: false }, NEW_FLOWS)
  })
}

export const cpus: Section = {
  name: 'cpus',
  about:
    'the packet program on two CPUs at once, UDP of 64 bytes over veth with two queues, by their CPU time',
  secondsMax: 180,
  async run(report, { quick }) {
    if (processors().length < CPUS) throw new Skip(`this machine has ${processors().length} CPU`)
    const rounds = quick ? ROUNDS_QUICK : ROUNDS
    const last = processors().length - 1
    const senders = Array.from({ length: CPUS }, (_, at) => new Sender(last - at))
    const scene = new Scene(last)
    // Away from the first sender, which is the one that is measured alone.
    stayOnCpu(last - 1)
    try {
      const two = new TwoCpus(scene, senders)
      for (const scheduler of ['rr', 'wlc'] as const) {
        report.title(`DR by ${scheduler} of ${SERVERS} real servers`)
        await part(report, scheduler, async () => {
          const ours = await pointsman(scene, {
            ...{ label: scheduler, methods: ['DR'] as const, lines: LINES, queues: CPUS },
            ...{ scheduler, servers: SERVERS },
          })
          const flows = (FLOWS * CPUS).toLocaleString('en')
          await established(report, `${flows} flows, established`, two, ours.contenders[0]!, rounds)
          await fresh(report, 'new flows', two, ours, rounds)
        })
      }
    } finally {
      for (const sender of senders) await sender.end()
      await scene.close()
    }
  },
}
