/** The daemon: from an empty process to a served API, and back. */
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { type Dataplane, DataplaneError, throwRefusals } from '../../dataplane/dataplane.ts'
import type { XdpModeChoice } from '../../dataplane/kernel/xdp.ts'
import { removeLeftovers } from '../../dataplane/userspace/leftovers.ts'
import { bootId } from '../../linux/boot.ts'
import { MachineError } from '../../linux/machine-error.ts'
import { notify } from '../../linux/sd-notify.ts'
import type { MapEngine } from '../apply/map-engine.ts'
import { openDirector } from '../apply/open.ts'
import { type StateFile, stateFile } from '../apply/state-file.ts'
import { SwitchableDirector } from '../apply/switchable-director.ts'
import { readVerdicts } from '../counting/verdicts.ts'
import { Gate } from '../front/api/gate.ts'
import { createApi } from '../front/api/server.ts'
import { readStatus } from '../insight/status.ts'
import type { Director } from '../model/director.ts'
import { VERSION } from '../model/version.ts'
import { createDirector } from '../rules/director.ts'
import type { Host } from '../rules/host.ts'
import {
  type Capacity,
  exchangeDataplane,
  type Opened,
  type OpenOptions,
  openDataplane,
  type PlaneChoice,
} from './choose-plane.ts'
import { type Housekeeping, startHousekeeping } from './clockwork.ts'
import { type LiveHost, openHost } from './host.ts'
import { collectGarbage, Tidy } from './memory.ts'
import { protectSocket, type RunDirectory, StartError, takeRunDirectory } from './run-directory.ts'
import { startWatchdog } from './watchdog.ts'

export interface DaemonOptions {
  readonly interfaces: readonly string[]
  readonly dataplane: PlaneChoice
  readonly xdpMode: XdpModeChoice
  readonly runDirectory: string
  readonly capacity: Capacity
  readonly workers: number
  readonly busyPoll: boolean
  readonly engine: 'packet' | 'xdp'
}

/** Runs until a signal or a detach ends it; the exit status. */
export async function runDaemon(options: DaemonOptions, log: Logger): Promise<number> {
  let daemon: Daemon
  try {
    daemon = await Daemon.start(options, log)
  } catch (error) {
    // What the operator can mend needs no stack.
    if (error instanceof StartError || error instanceof MachineError) log.fatal(error.message)
    else log.fatal({ err: error }, 'cannot start')
    return 1
  }
  return await daemon.finished
}

class Daemon {
  readonly finished: Promise<number>
  readonly #options: DaemonOptions
  readonly #log: Logger
  readonly #run: RunDirectory
  readonly #host: LiveHost
  readonly #gate = new Gate()
  #opened: Opened
  readonly #state: StateFile
  readonly #startedAt = new Date()
  #director!: SwitchableDirector
  #engine: MapEngine | null = null
  #housekeeping: Housekeeping | null = null
  #api: FastifyInstance | null = null
  #finish: (status: number) => void = () => {}
  #stopping = false

  static async start(options: DaemonOptions, log: Logger): Promise<Daemon> {
    const run = await takeRunDirectory(options.runDirectory)
    let host: LiveHost | null = null
    let opened: Opened | null = null
    try {
      host = openHost()
      opened = await openDataplane(openOptions(options, run, log))
      const daemon = new Daemon(options, log, run, host, opened)
      await daemon.#serve()
      return daemon
    } catch (error) {
      await opened?.dataplane?.close().catch(() => {})
      host?.close()
      run.release()
      throw error
    }
  }

  private constructor(
    options: DaemonOptions,
    log: Logger,
    run: RunDirectory,
    host: LiveHost,
    opened: Opened,
  ) {
    this.#options = options
    this.#log = log
    this.#run = run
    this.#host = host
    this.#opened = opened
    this.#state = stateFile(run.path, bootId(), (message) => log.warn(message))
    this.finished = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  #openOptions(): OpenOptions {
    return openOptions(this.#options, this.#run, this.#log)
  }

  async #serve(): Promise<void> {
    const { dataplane, reason, adopted } = this.#opened
    this.#makeDirector(dataplane, adopted)
    await this.#director.settle()
    if (dataplane !== null) await this.#attach(dataplane)
    this.#listenForSignals()
    await this.#listen()
    notify(`READY=1\nSTATUS=${dataplane?.plane ?? 'no'} data plane`)
    startWatchdog()
    this.#log.info(
      {
        dataplane: dataplane?.plane ?? 'none',
        reason,
        adopted,
        interfaces: dataplane?.interfaces() ?? [],
        services: this.#director.rules().length,
        socket: this.#run.socket,
      },
      'ready',
    )
  }

  #makeDirector(dataplane: Dataplane | null, adopted: boolean): void {
    const director = dataplane === null ? createDirector({ host: this.#host }) : this.#direct(dataplane)
    this.#director = new SwitchableDirector(director, () => this.#housekeeping?.rulesChanged())
    if (adopted && this.#engine !== null) {
      this.#log.info(this.#engine.adoption, 'carrying on with what the maps hold')
      // Reading a large table back leaves much behind, and nobody is waiting yet.
      collectGarbage()
    }
    for (const warning of dataplane?.warnings ?? []) this.#log.warn(warning)
  }

  /** A director of what the maps hold. */
  #direct(dataplane: Dataplane): Director {
    const { director, engine } = openDirector({
      dataplane,
      host: this.#host,
      stateFile: this.#state,
      warn: (message) => this.#log.warn(message),
    })
    this.#engine = engine
    this.#housekeeping = startHousekeeping(engine, this.#host, (error) => this.#fail(error))
    return director
  }

  /** Rules, connections and counters go from one plane to the other; no request is under way meanwhile. */
  async #changePlane(kind: 'xdp' | 'userspace'): Promise<void> {
    await this.#gate.alone(async () => {
      const from = this.#opened.dataplane
      if (from === null)
        throw new DataplaneError('Cannot change the data plane: this daemon only keeps rules')
      if (from.plane === kind) return
      this.#engine?.stateChanged()
      await this.#director.settle()
      this.#housekeeping?.stop()
      let dataplane = from
      try {
        dataplane = await exchangeDataplane(this.#openOptions(), from, kind)
        this.#opened = { dataplane, reason: 'changed to while running', adopted: true }
        this.#log.info({ dataplane: kind }, 'changed the data plane')
      } finally {
        this.#director.current = this.#direct(dataplane)
        await this.#director.settle()
      }
    })
  }

  async #attach(dataplane: Dataplane): Promise<void> {
    const wanted = this.#options.interfaces
    const results = wanted.length > 0 ? await dataplane.attach(wanted) : []
    throwRefusals(results)
    for (const result of results) if ('refused' in result) this.#log.warn(result.refused)
    if (dataplane.plane === 'xdp' && (await removeLeftovers())) {
      this.#log.info('removed what an earlier userspace plane had left in the kernel')
    }
    if (dataplane.interfaces().length === 0) {
      this.#log.warn('No interface to take packets from: start with --interface NAME')
    }
    for (const { name, note } of dataplane.interfaces()) {
      if (note !== undefined) this.#log.warn({ interface: name }, note)
    }
    this.#warnOfTraps(this.#host)
  }

  /** What will not stop the daemon but will stop packets. */
  #warnOfTraps(host: Host): void {
    if (host.sysctl('net/ipv4/ip_forward') === 0) {
      this.#log.warn(
        'IPv4 forwarding is off, answers of NAT real servers will not pass: sysctl -w net.ipv4.ip_forward=1',
      )
    }
  }

  async #listen(): Promise<void> {
    this.#api = createApi(
      {
        director: this.#director,
        status: () => this.#status(),
        verdicts: () => (this.#opened.dataplane === null ? new Map() : readVerdicts(this.#opened.dataplane)),
        changePlane: (kind) => this.#changePlane(kind),
        detach: () => this.#detach(),
      },
      (error) => this.#log.error({ err: error }, 'request failed'),
      this.#gate,
    )
    const tidy = new Tidy()
    this.#api.addHook('onResponse', async () => tidy.requested())
    this.#api.addHook('onClose', async () => tidy.stop())
    await this.#api.ready()
    // The socket must never be open to others, not even between bind and chmod.
    const mask = process.umask(0o177)
    try {
      await this.#api.listen({ path: this.#run.socket })
    } finally {
      process.umask(mask)
    }
    protectSocket(this.#run.socket)
  }

  #status(): object {
    return readStatus({
      version: VERSION,
      startedAt: this.#startedAt,
      reason: this.#opened.reason,
      adopted: this.#opened.adopted,
      dataplane: this.#opened.dataplane,
      engine: this.#engine,
      director: this.#director,
      wanted: this.#options.interfaces,
    })
  }

  #listenForSignals(): void {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        this.#log.info({ signal }, 'stopping')
        void this.#stop(0)
      })
    }
    process.on('uncaughtException', (error) => this.#fail(error))
    process.on('unhandledRejection', (error) => this.#fail(error))
  }

  /** A broken invariant: better to end and be started again than to go on with it. */
  #fail(error: unknown): void {
    this.#log.fatal({ err: error }, 'failed')
    void this.#stop(1)
  }

  /** Stops the daemon; XDP goes on forwarding, the userspace plane saves its maps. */
  async #stop(status: number): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    let result = status
    try {
      notify('STOPPING=1')
      this.#housekeeping?.stop()
      await this.#api?.close()
      await this.#director.settle()
      await this.#opened.dataplane?.close()
    } catch (error) {
      this.#log.error({ err: error }, 'could not stop cleanly')
      result = 1
    }
    this.#host.close()
    this.#run.release()
    this.#finish(result)
  }

  async #detach(): Promise<void> {
    this.#log.info('detaching')
    this.#housekeeping?.stop()
    await this.#opened.dataplane?.detach()
    this.#engine?.forgetState()
    // After the answer has gone out.
    setImmediate(() => void this.#stopDetached())
  }

  async #stopDetached(): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    notify('STOPPING=1')
    await this.#api?.close()
    await this.#opened.dataplane?.close().catch(() => {})
    this.#host.close()
    this.#run.release()
    this.#finish(0)
  }
}

function openOptions(options: DaemonOptions, run: RunDirectory, log: Logger): OpenOptions {
  return {
    choice: options.dataplane,
    xdpMode: options.xdpMode,
    interfaces: options.interfaces,
    capacity: options.capacity,
    runDirectory: run.path,
    workers: options.workers,
    busyPoll: options.busyPoll,
    engine: options.engine,
    log: (message) => log.warn(message),
  }
}
