/**
 * The soak: mixed traffic through a director in a lab of its own for a given time, while rules, links,
 * neighbours and the daemon itself change. It ends by itself; what it cannot account for is a problem.
 */
import { readFileSync } from 'node:fs'
import { until } from '../../lab/command.ts'
import { createLab, type Lab } from '../../lab/lab.ts'
import { FAMILIES, hostNamed, realServers } from '../../lab/topology.ts'
import { type Account, everyFrameHasVerdict, type Plane, takeAccount } from '../e2e/scene.ts'
import {
  overcounted,
  type PhaseResult,
  readSocketDrops,
  readVerdicts,
  since,
  unexplained,
  type Verdicts,
} from './drops.ts'
import { EVENTS, type Event, PASSING } from './events.ts'
import { growthOf, growthProblems, readSize, type Size } from './process-size.ts'
import { addServer, addService, SERVICES } from './services.ts'
import { progressLine, summary, type Totals } from './story.ts'
import { Traffic } from './traffic.ts'
import type { TransferReport } from './transfers.ts'

export interface SoakOptions {
  readonly plane: Plane
  readonly minutes: number
  /** One line of progress, without its end. */
  readonly tell: (line: string) => void
  /** Ends the soak early; it then rejects. Everything is taken away all the same. */
  readonly signal: AbortSignal
}

export interface SoakResult {
  /** Empty when all is well. */
  readonly problems: readonly string[]
  readonly summary: readonly string[]
}

/** Seconds: established, after FIN, UDP. The table has to drain while someone waits. */
const TIMEOUTS = '--set 300 10 8'
/** TCP_TIME_WAIT of IPVS, and two sweeps. */
const TIME_WAIT_MS = 130_000
const SHORT_TIMERS_MS = 80_000
const LONG_PER_SERVICE = 2
const PROGRESS_MS = 10_000
const SAMPLE_MS = 1000
const SAMPLES_MAX = 1000
/** A soak longer than this waits for the last connection to expire. */
const FULL_DRAIN_MINUTES = 10
const ALLOWED_LOG_LEVEL_MAX = 40

export async function runSoak(options: SoakOptions): Promise<SoakResult> {
  const { plane, minutes, signal } = options
  if (!(minutes >= 1 && minutes <= 24 * 60)) throw new Error(`Minutes are 1 to 1440, not ${minutes}`)
  const lab = await createLab({ prefix: `pms${process.pid}-` })
  let traffic: Traffic | null = null
  try {
    signal.throwIfAborted()
    await lab.director.start({ dataplane: plane })
    traffic = await Traffic.open(lab)
    return await new Soak(lab, traffic, options).run()
  } catch (error) {
    signal.throwIfAborted() // what breaks while all is being taken away is no finding
    if (error instanceof Error) error.stack += `\n--- pointsmand:\n${lab.director.logTail()}`
    throw error
  } finally {
    await traffic?.stop()
    await lab.destroy()
  }
}

class Soak {
  readonly #lab: Lab
  readonly #traffic: Traffic
  readonly #options: SoakOptions
  readonly #problems: string[] = []
  readonly #totals: Totals = {
    sent: 0,
    answered: 0,
    sinkSent: 0,
    sinkArrived: 0,
    socketDrops: 0,
    unseen: 0,
    events: 0,
  }
  /** By life of the daemon. */
  readonly #sizes: Size[][] = [[]]
  readonly #opened: { readonly atMs: number; readonly connections: number }[] = []
  readonly #startedAt = performance.now()
  #sampleMs = SAMPLE_MS
  #doing = 'starting'
  #base: Account = { frames: 0n, verdicts: {} }
  #first: Verdicts = {}
  #restarts = 0
  /** Between two lives it has no size. */
  #alive = true

  constructor(lab: Lab, traffic: Traffic, options: SoakOptions) {
    this.#lab = lab
    this.#traffic = traffic
    this.#options = options
    this.#sampleMs = Math.max(SAMPLE_MS, (options.minutes * 60_000) / SAMPLES_MAX)
  }

  async run(): Promise<SoakResult> {
    await this.#configure()
    this.#base = await takeAccount(this.#lab)
    this.#first = await readVerdicts(this.#lab)
    await this.#traffic.openLong(LONG_PER_SERVICE)
    await this.#addPassing()
    const stopLooking = this.#look()
    try {
      await this.#traffic.start()
      await this.#traffic.endPhase()
      await this.#go()
    } finally {
      stopLooking()
    }
    return await this.#finish()
  }

  async #configure(): Promise<void> {
    const { director } = this.#lab
    await director.rule(TIMEOUTS)
    await director.restore(
      SERVICES.flatMap((service) => [
        addService(service),
        ...realServers()
          .filter(({ name }) => name !== PASSING.name)
          .map((server) => addServer(service, server)),
      ]),
    )
    // So that the first packets do not have to wait for MAC addresses.
    for (const host of ['client', ...realServers().map(({ name }) => name)]) await this.#greet(host)
  }

  async #greet(host: string): Promise<void> {
    const { clients, servers } = hostNamed(host)
    for (const family of FAMILIES) {
      const address = (servers ?? clients)[family]
      const ping = await this.#lab.exec('director', ['ping', '-c', '1', '-w', '20', address])
      if (ping.status !== 0) throw new Error(`${host} does not answer: ${ping.stdout}`)
    }
  }

  async #addPassing(): Promise<void> {
    await this.#lab.director.restore(SERVICES.map((service) => addServer(service, PASSING)))
  }

  async #go(): Promise<void> {
    const { minutes } = this.#options
    const wholeMs = minutes * 60_000
    const steadyMs = minutes > FULL_DRAIN_MINUTES ? 8000 : 1500
    // However short it is, and however slow the machine: every event once.
    for (let turn = 0; turn < EVENTS.length || this.#elapsedMs() < wholeMs; turn++) {
      await this.#phase('steady', () => this.#pause(steadyMs))
      if (this.#restarts === 0 && this.#elapsedMs() >= wholeMs / 2) await this.#restart()
      const event = EVENTS[turn % EVENTS.length]
      if (event !== undefined) await this.#meet(event, Math.floor(turn / EVENTS.length))
      if (!this.#lab.director.running()) throw new Error(`The daemon has ended, during "${this.#doing}"`)
    }
  }

  async #meet(event: Event, turn: number): Promise<void> {
    const result = await this.#phase(event.name, async () => {
      try {
        await event.run(this.#lab, turn)
      } catch (error) {
        this.#options.signal.throwIfAborted()
        this.#problems.push(`${event.name}: ${error instanceof Error ? error.message : error}`)
      }
      await this.#pause(1000)
    })
    this.#totals.events += 1
    if (event.dropsAs !== undefined) this.#problems.push(...overcounted(result, event.dropsAs))
  }

  /** Datagrams under way only between begin and end, so that what was lost is lost in this phase. */
  async #phase(
    name: string,
    work: () => Promise<void>,
    unseen?: () => Promise<number>,
  ): Promise<PhaseResult> {
    this.#options.signal.throwIfAborted()
    this.#doing = name
    const before = { verdicts: await readVerdicts(this.#lab), sockets: await readSocketDrops(this.#lab) }
    await this.#traffic.beginPhase()
    await work()
    const datagrams = await this.#traffic.endPhase()
    const result: PhaseResult = {
      name: `${this.#clock()} ${name}`,
      datagrams,
      verdicts: since(before.verdicts, await readVerdicts(this.#lab)),
      socketDrops: (await readSocketDrops(this.#lab)) - before.sockets,
      unseen: (await unseen?.()) ?? 0,
    }
    const { sent, answered, sinkSent, sinkArrived } = datagrams
    this.#totals.sent += sent
    this.#totals.answered += answered
    this.#totals.sinkSent += sinkSent
    this.#totals.sinkArrived += sinkArrived
    this.#totals.socketDrops += result.socketDrops
    this.#totals.unseen += result.unseen
    this.#problems.push(...unexplained(result))
    return result
  }

  /** A clean stop and a start under traffic. */
  async #restart(): Promise<void> {
    const { director } = this.#lab
    await this.#checkFrames()
    const rules = await director.rule('-Sn')
    await this.#traffic.resumeTransfers()
    await this.#phase(
      'restart',
      async () => {
        this.#alive = false
        const status = await director.end('SIGTERM')
        if (status !== 0) this.#problems.push(`the daemon ended with ${status} on SIGTERM`)
        await director.start({ dataplane: this.#options.plane })
        this.#sizes.push([])
        this.#alive = true
        await this.#pause(3000)
      },
      () => this.#framesUnseen(),
    )
    if ((await director.rule('-Sn')) !== rules) this.#problems.push('the rules changed over the restart')
    this.#base = await takeAccount(this.#lab)
    await this.#traffic.resumeTransfers()
    this.#restarts += 1
  }

  /** Frames no packet program has seen since the last account: while the daemon was away. */
  async #framesUnseen(): Promise<number> {
    await this.#traffic.pauseTransfers()
    await this.#pause(500)
    const now = await takeAccount(this.#lab)
    const sum = ({ verdicts }: Account): bigint =>
      Object.values(verdicts).reduce((all, packets) => all + packets, 0n)
    const unseen = Number(now.frames - this.#base.frames - (sum(now) - sum(this.#base)))
    if (unseen < 0) this.#problems.push(`restart: ${-unseen} more packets in verdicts than frames that came`)
    if (unseen > 0 && this.#options.plane === 'xdp')
      this.#problems.push(`restart: ${unseen} frames in no verdict, although the program stays attached`)
    return Math.max(0, unseen)
  }

  /** Every frame since the last account is in one verdict. Leaves the transfers paused. */
  async #checkFrames(): Promise<void> {
    this.#doing = 'counting frames'
    await this.#traffic.pauseTransfers()
    try {
      await everyFrameHasVerdict(this.#lab, this.#base)
    } catch (error) {
      this.#problems.push(`frames: ${error instanceof Error ? error.message : error}`)
    }
    this.#base = await takeAccount(this.#lab)
  }

  async #finish(): Promise<SoakResult> {
    const { director } = this.#lab
    await this.#checkFrames()
    const verdicts = since(this.#first, await readVerdicts(this.#lab))
    const transfers = await this.#traffic.end()
    for (const failure of transfers.failures) this.#problems.push(`transfer: ${failure}`)
    if (this.#restarts === 0) this.#problems.push('the daemon was not restarted')
    this.#options.tell(`${this.#clock()} traffic has ended, waiting for connections to expire`)
    const left = await this.#drain(transfers)

    const status = await director.pointsman(['status'])
    if (status.status !== 0) this.#problems.push(`\`pointsman status\` exits with ${status.status}`)
    const warnings = this.#readLog()
    const lives = this.#sizes.flatMap((samples, i) => {
      const growth = growthOf(samples)
      if (growth === null) {
        this.#problems.push(`life ${i + 1} of the daemon: too short to say anything about its memory`)
        return []
      }
      this.#problems.push(...growthProblems(`life ${i + 1} of the daemon`, growth))
      return [growth]
    })
    return {
      problems: this.#problems,
      summary: summary({
        minutes: this.#elapsedMs() / 60_000,
        totals: this.#totals,
        transfers,
        verdicts,
        lives,
        left,
        warnings,
      }),
    }
  }

  /** Waits for timers; returns how many connections are left. */
  async #drain(transfers: TransferReport): Promise<number> {
    const fully = this.#options.minutes > FULL_DRAIN_MINUTES
    const horizon = performance.now() - TIME_WAIT_MS
    const earlier = this.#opened.filter(({ atMs }) => atMs < horizon).at(-1)?.connections ?? 0
    const most = fully ? 0 : transfers.connections - earlier
    let lines: string[] = []
    await until('the connection table to drain', fully ? TIME_WAIT_MS : SHORT_TIMERS_MS, async () => {
      await this.#pause(2000)
      const listed = await this.#lab.director.rule('-Lnc')
      lines = listed.split('\n').filter((line) => /^(TCP|UDP|IP) /.test(line))
      return lines.length <= most && !lines.some((line) => /^UDP| ESTABLISHED /.test(line)) ? true : undefined
    }).catch(() => {
      this.#options.signal.throwIfAborted()
      this.#problems.push(
        `${lines.length} connections are left, at most ${most} may be, none of UDP or established:\n` +
          lines
            .sort((a, b) => Number(/ (TIME_WAIT|CLOSE) /.test(a)) - Number(/ (TIME_WAIT|CLOSE) /.test(b)))
            .slice(0, 10)
            .join('\n'),
      )
    })
    return lines.length
  }

  /** Errors become problems; returns warnings. */
  #readLog(): string[] {
    const warnings: string[] = []
    for (const line of readFileSync(this.#lab.director.logFile, 'utf8').split('\n')) {
      if (line === '') continue
      const level = /^\{"level":(\d+)/.exec(line)?.[1]
      if (level === undefined || Number(level) > ALLOWED_LOG_LEVEL_MAX)
        this.#problems.push(`the daemon's log: ${line}`)
      else if (Number(level) === ALLOWED_LOG_LEVEL_MAX) warnings.push(line)
    }
    return warnings
  }

  /** Takes samples and tells progress, until the returned function is called. */
  #look(): () => void {
    const sample = setInterval(() => void this.#sample(), this.#sampleMs)
    const progress = setInterval(() => void this.#progress(), PROGRESS_MS)
    return () => {
      clearInterval(sample)
      clearInterval(progress)
    }
  }

  async #sample(): Promise<void> {
    try {
      const { connections } = await this.#traffic.transfers()
      this.#opened.push({ atMs: performance.now(), connections })
      if (this.#alive) this.#sizes.at(-1)?.push(readSize(this.#lab.director.pid()))
    } catch {
      // The daemon is between two lives, or everything is being taken away.
    }
  }

  async #progress(): Promise<void> {
    const ask = async <T>(question: Promise<T>): Promise<T | null> => question.catch(() => null)
    const [transfers, verdicts] = await Promise.all([
      ask(this.#traffic.transfers()),
      ask(readVerdicts(this.#lab)),
    ])
    this.#options.tell(
      progressLine({
        clock: this.#clock(),
        doing: this.#doing,
        totals: this.#totals,
        transfers,
        verdicts: verdicts === null ? null : since(this.#first, verdicts),
        size: this.#sizes.at(-1)?.at(-1) ?? null,
        problems: this.#problems.length,
      }),
    )
  }

  #elapsedMs(): number {
    return performance.now() - this.#startedAt
  }

  #clock(): string {
    const seconds = Math.floor(this.#elapsedMs() / 1000)
    return `${String(Math.floor(seconds / 60)).padStart(2, '0')}:${String(seconds % 60).padStart(2, '0')}`
  }

  /** Rejects at once when the soak is to end early. */
  #pause(ms: number): Promise<void> {
    const { signal } = this.#options
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const stop = (): void => {
        clearTimeout(timer)
        reject(signal.reason)
      }
      const timer = setTimeout(() => {
        signal.removeEventListener('abort', stop)
        resolve()
      }, ms)
      signal.addEventListener('abort', stop, { once: true })
    })
  }
}
