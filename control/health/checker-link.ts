/**
 * The daemon's end of the program that asks: questions go out in lists, ways through the packet program are
 * opened before and closed after, and every question has an end, whatever becomes of the program.
 */
import { type ChildProcess, fork } from 'node:child_process'
import {
  PROBE_DEVICE,
  PROBE_MAC,
  PROBE_MTU,
  PROBE_PORT_FIRST,
  PROBE_PORTS,
} from '../../linux/netlink/probe-pair.ts'
import type { Family, IpAddress } from '../../net/address.ts'
import type { ProbeWay, ProbeWays } from '../apply/probe-way.ts'
import type { CheckQuestion } from '../model/check.ts'
import type { RealServer } from '../model/server.ts'
import type { FromChecker, Job, Reply, ToChecker, Verdict } from './checker/protocol.ts'

/** Over the service's own way, to this one real server. */
export interface ServiceWay {
  readonly real: RealServer
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
}

export interface Asking {
  readonly question: CheckQuestion
  readonly to: { readonly address: IpAddress; readonly family: Family; readonly port: number }
  readonly source: IpAddress | null
  /** null: as any program reaches it. */
  readonly way: ServiceWay | null
  readonly timeoutMs: number
  readonly environment: Readonly<Record<string, string>>
}

export type Answered = Verdict & { readonly ms: number }

export interface Prober {
  ask(asking: Asking): Promise<Answered>
}

export interface CheckerOptions {
  /** Path of the program. */
  readonly program: string
  /** The ways of the data plane there is at this moment; null without one. */
  readonly ways: () => ProbeWays | null
  /** Whether packets are taken from the link of this index. */
  readonly isAttached: (ifindex: number) => boolean
  /** Our address towards a real server. */
  readonly resolveSource: (address: IpAddress) => IpAddress | null
  readonly log: (message: string) => void
}

/** The daemon's own limit, beside that of the program. */
const GRACE_MS = 2000
/** Questions of one moment go together. */
const GATHER_MS = 2
const RESTART_MS_MIN = 100
const RESTART_MS_MAX = 10_000
/** Questions in a row that the program did not answer at all: it hangs. */
const SILENT_MAX = 50
const SOURCE_MS = 5000
/** How long the program takes at most to end when it is told to. */
const LEAVING_MS = 5000
/** How long a way stays after its answer: what ends the connection at the other end is still to pass. */
const LINGER_MS = 200

interface Waiting {
  readonly done: (answer: Answered) => void
  readonly way: ProbeWay | null
  readonly port: number | null
  readonly timer: NodeJS.Timeout
}

export class CheckerLink implements Prober {
  readonly #options: CheckerOptions
  #child: ChildProcess | null = null
  /** What the program said when it was ready. */
  #ready: (FromChecker & { readonly kind: 'ready' }) | null = null
  #jobs: Job[] = []
  #gathering: NodeJS.Timeout | null = null
  readonly #waiting = new Map<number, Waiting>()
  #nextId = 1
  #nextPort = 0
  readonly #ports = new Set<number>()
  readonly #sources = new Map<IpAddress, { readonly source: IpAddress | null; readonly untilMs: number }>()
  /** Ways that are done with, and until when they stay. */
  #lingering: { readonly way: ProbeWay; readonly port: number; readonly untilMs: number }[] = []
  #closing: NodeJS.Timeout | null = null
  #silent = 0
  #restartMs = RESTART_MS_MIN
  #restart: NodeJS.Timeout | null = null
  #stopped = false
  #resting = false
  /** Told to end, and not gone yet. */
  #leaving: ChildProcess | null = null

  constructor(options: CheckerOptions) {
    this.#options = options
  }

  /** Runs the program from now on; it is started again when it ends. */
  start(): void {
    this.#resting = false
    // Its links are made by one at a time.
    if (this.#child !== null || this.#leaving !== null || this.#stopped) return
    const child = fork(this.#options.program, [], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      cwd: '/',
      execArgv: [],
      // A terminal's signals are for the daemon.
      detached: true,
    })
    this.#child = child
    child.on('message', (message: FromChecker) => this.#heard(child, message))
    child.on('error', (error) => {
      this.#options.log(`The checker: ${error.message}`)
      // What could not be started does not end, either.
      if (child.pid === undefined) this.#ended(child, error.message)
    })
    child.once('exit', (status, signal) => this.#ended(child, status ?? signal))
    child.unref()
    child.channel?.unref()
  }

  /** There is nothing to ask until it is started again: the program ends, and its links with it. */
  rest(): void {
    if (this.#restart !== null) clearTimeout(this.#restart)
    this.#restart = null
    this.#resting = true
    const child = this.#child
    if (child === null) return
    this.#giveUp('nobody wants to know any more')
    this.#child = null
    this.#ready = null
    this.#leaving = child
    const late = setTimeout(() => child.kill('SIGKILL'), LEAVING_MS).unref()
    child.once('exit', () => {
      clearTimeout(late)
      this.#leaving = null
      if (!this.#resting) this.start()
    })
    if (child.connected) child.disconnect()
  }

  stop(): void {
    this.#stopped = true
    if (this.#restart !== null) clearTimeout(this.#restart)
    if (this.#gathering !== null) clearTimeout(this.#gathering)
    this.#giveUp('the daemon ends')
    if (this.#closing !== null) clearTimeout(this.#closing)
    // It takes its links away when it hears nobody any more.
    if (this.#child?.connected === true) this.#child.disconnect()
    this.#child = null
  }

  /** Another data plane: what is under way goes through maps that are about to go. */
  interrupt(): void {
    this.#giveUp('the data plane is being exchanged')
  }

  ask(asking: Asking): Promise<Answered> {
    const { question, to, timeoutMs, environment } = asking
    if (this.#child === null || this.#ready === null)
      return Promise.resolve(nothing('the checker is starting'))
    const id = this.#nextId++
    let way: ProbeWay | null = null
    let port: number | null = null
    let from: Job['from'] = asking.source === null ? null : { address: asking.source, port: 0 }
    if (asking.way !== null) {
      const opened = this.#open(asking, asking.way)
      if (typeof opened === 'string') return Promise.resolve(nothing(opened))
      ;({ way, port, from } = opened)
    }
    this.#post({
      ...{ id, question, to, from, timeoutMs, environment },
      device: asking.way === null ? null : PROBE_DEVICE,
    })
    return new Promise((done) => {
      const timer = setTimeout(() => this.#neverAnswered(id), timeoutMs + GRACE_MS)
      timer.unref()
      this.#waiting.set(id, { done, way, port, timer })
    })
  }

  #open(
    { to, timeoutMs }: Asking,
    { real, protocol, port: targetPort }: ServiceWay,
  ): { way: ProbeWay; port: number; from: NonNullable<Job['from']> } | string {
    const ways = this.#options.ways()
    if (ways === null) return 'there is no data plane'
    const check = this.#ready?.check ?? null
    if (check === null) return `there is no pair of links for it: ${this.#ready?.why ?? 'unknown'}`
    if (!this.#options.isAttached(check)) return 'its link is not attached to the packet program yet'
    if (to.family === 6 && this.#ready?.why != null) return `there is no IPv6 for it: ${this.#ready.why}`
    const source = this.#source(real.id.address, to)
    if (source === null) return `there is no route to ${real.id.address}`
    const port = this.#takePort()
    if (port === null) return `${PROBE_PORTS} questions are open already`
    const way = ways.open({
      real: { ...real, id: { ...real.id, port: targetPort } },
      protocol,
      virtual: to,
      source: { address: source, port },
      hop: { ifindex: check, smac: PROBE_MAC, dmac: PROBE_MAC, mtu: PROBE_MTU },
      lifeMs: timeoutMs + 2 * GRACE_MS,
    })
    if (typeof way !== 'string') return { way, port, from: { address: source, port } }
    this.#ports.delete(port)
    return way
  }

  /** Ours towards the real server; for a tunnel of the other family, ours towards the virtual address. */
  #source(address: IpAddress, to: Asking['to']): IpAddress | null {
    const other = address.includes(':') !== to.address.includes(':')
    const towards = other ? to.address : address
    const nowMs = performance.now()
    const known = this.#sources.get(towards)
    if (known !== undefined && known.untilMs > nowMs) return known.source
    if (this.#sources.size > PROBE_PORTS) this.#sources.clear()
    const source = this.#options.resolveSource(towards)
    this.#sources.set(towards, { source, untilMs: nowMs + SOURCE_MS })
    return source
  }

  /** In turn, so that none is used again soon. */
  #takePort(): number | null {
    for (let n = 0; n < PROBE_PORTS; n++) {
      const port = PROBE_PORT_FIRST + this.#nextPort
      this.#nextPort = (this.#nextPort + 1) % PROBE_PORTS
      if (this.#ports.has(port)) continue
      this.#ports.add(port)
      return port
    }
    return null
  }

  #post(job: Job): void {
    this.#jobs.push(job)
    this.#gathering ??= setTimeout(() => {
      this.#gathering = null
      const message: ToChecker = { kind: 'jobs', jobs: this.#jobs }
      this.#jobs = []
      // Whoever is not told finds out by the exit of the program, or by the time.
      if (this.#child?.connected === true) this.#child.send(message, () => {})
    }, GATHER_MS)
  }

  #heard(child: ChildProcess, message: FromChecker): void {
    if (child !== this.#child) return
    switch (message.kind) {
      case 'ready':
        this.#ready = message
        this.#restartMs = RESTART_MS_MIN
        if (message.why !== null) {
          this.#options.log(`Checks over the services' own way are limited: ${message.why}`)
        }
        return
      case 'replies':
        this.#silent = 0
        for (const reply of message.replies) this.#answered(reply)
        return
      default:
        message satisfies never
    }
  }

  #answered({ id, ...answer }: Reply): void {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return
    const lost = answer.state !== 'void' && waiting.way?.isOpen() === false
    this.#close(id, waiting)
    waiting.done(lost ? nothing('its connection had to give way in the table') : answer)
  }

  #close(id: number, { way, port, timer }: Waiting): void {
    this.#waiting.delete(id)
    clearTimeout(timer)
    if (way === null || port === null) return
    this.#lingering.push({ way, port, untilMs: performance.now() + LINGER_MS })
    this.#closing ??= setTimeout(() => this.#closeDue(), LINGER_MS).unref()
  }

  #closeDue(): void {
    const nowMs = performance.now()
    this.#closing = null
    const left = this.#lingering.findIndex(({ untilMs }) => untilMs > nowMs)
    const due = this.#lingering.splice(0, left < 0 ? this.#lingering.length : left)
    for (const { way, port } of due) {
      way.close()
      this.#ports.delete(port)
    }
    const [next] = this.#lingering
    if (next !== undefined)
      this.#closing = setTimeout(() => this.#closeDue(), next.untilMs - nowMs + 1).unref()
  }

  #neverAnswered(id: number): void {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return
    this.#close(id, waiting)
    waiting.done(nothing('the checker did not answer'))
    if (++this.#silent < SILENT_MAX || this.#child === null) return
    this.#silent = 0
    this.#options.log('The checker does not answer: it is started again')
    this.#child.kill('SIGKILL')
  }

  #giveUp(why: string): void {
    for (const [id, waiting] of [...this.#waiting]) {
      this.#close(id, waiting)
      waiting.done(nothing(why))
    }
    for (const { way, port } of this.#lingering.splice(0)) {
      way.close()
      this.#ports.delete(port)
    }
  }

  #ended(child: ChildProcess, how: number | string | null): void {
    if (child !== this.#child) return
    this.#child = null
    this.#ready = null
    this.#giveUp('the checker has ended')
    if (this.#stopped) return
    this.#options.log(`The checker ended with ${how}: it is started again in ${this.#restartMs} ms`)
    this.#restart = setTimeout(() => this.start(), this.#restartMs).unref()
    this.#restartMs = Math.min(2 * this.#restartMs, RESTART_MS_MAX)
  }
}

function nothing(words: string): Answered {
  return { state: 'void', words, ms: 0 }
}
