/** The daemon: from an empty process to a served API, and back. */

import { join } from 'node:path'
import type { Logger } from 'pino'
import { builtFile } from '../../dataplane/assets.ts'
import { type Dataplane, DataplaneError, isKernel } from '../../dataplane/dataplane.ts'
import { countSendFailures, type SendFailures } from '../../dataplane/kernel/failures.ts'
import type { XdpModeChoice } from '../../dataplane/kernel/xdp.ts'
import { removeLeftovers } from '../../dataplane/userspace/leftovers.ts'
import { bootId } from '../../linux/boot.ts'
import { isMachineTrouble, MachineError } from '../../linux/machine-error.ts'
import { CHECK_DEVICE } from '../../linux/netlink/probe-pair.ts'
import { notify, watchdogPeriodMs } from '../../linux/sd-notify.ts'
import { endpointText } from '../../net/endpoint.ts'
import { Attachments } from '../apply/attachments.ts'
import type { MapApplier } from '../apply/map-applier.ts'
import { exchangePlane, type ManagedDirector, type OpenDirectorOptions, openDirector } from '../apply/open.ts'
import { type StateFile, stateFile } from '../apply/state-file.ts'
import { readVerdicts } from '../counting/verdicts.ts'
import type { MetricsDetail } from '../front/api/route.ts'
import type { Status } from '../front/api/schema/status.ts'
import { type Api, createApi } from '../front/api/server.ts'
import { askedHops, knownHops } from '../insight/explain/hops.ts'
import { takeSnapshot } from '../insight/explain/snapshot.ts'
import { Asker } from '../insight/explain/thread/asker.ts'
import { Collector } from '../insight/metrics/collector.ts'
import type { MetricFacts } from '../insight/metrics/facts.ts'
import { HourHistory, SAMPLE_MS } from '../insight/metrics/history.ts'
import { OtlpPush, PUSH_MS } from '../insight/metrics/otlp.ts'
import { readStatus, type StatusFacts } from '../insight/status.ts'
import type { Counters } from '../model/counters.ts'
import { serviceText } from '../model/identity.ts'
import type { Journal } from '../model/journal.ts'
import type { SiteService } from '../model/site.ts'
import { VERSION } from '../model/version.ts'
import { createDirector, type RuleDirector } from '../rules/director.ts'
import type { Host } from '../rules/host.ts'
import type { FirstReading } from '../source/site-source.ts'
import { Sources } from '../source/sources.ts'
import { SiteReader } from '../source/thread/site-reader.ts'
import { directorBeats, HOPS, NEIGHBOURS, whole } from './beats.ts'
import { type Checks, openChecks } from './checks.ts'
import {
  type Capacity,
  exchangeDataplane,
  type Opened,
  type OpenOptions,
  openDataplane,
  type PlaneChoice,
} from './choose-plane.ts'
import { Clockwork } from './clockwork.ts'
import { DOOR_MS, Door, type Place } from './door.ts'
import { CLIENTS_MS, END_MS, Ending, type Step } from './ending.ts'
import { FollowedSources, interfacesOf, readConfiguration } from './followed-sources.ts'
import { type LiveHost, openHost } from './host.ts'
import { openJournal } from './journal-file.ts'
import { collectGarbage, Tidy } from './memory.ts'
import { Recordings } from './recordings.ts'
import { lastingDirectory, type RunDirectory, StartError, takeRunDirectory } from './run-directory.ts'
import { readOtlpHeaders, readWebToken } from './secrets.ts'
import { openSockets, type SocketOptions } from './sockets.ts'

export interface MetricsOptions {
  /** Besides the socket; null: nowhere else. */
  readonly listen: Place | null
  readonly detail: MetricsDetail
  /** Who they are pushed to; null: nobody. */
  readonly otlp: { readonly url: URL; readonly headersFile: string | null } | null
}

export interface DaemonOptions {
  readonly interfaces: readonly string[]
  readonly dataplane: PlaneChoice
  readonly xdpMode: XdpModeChoice
  /** Whether the director's own sockets are clients, too. */
  readonly ownClients: boolean
  readonly runDirectory: string
  /** null: the usual file, if it is there. */
  readonly config: string | null
  /** What names a Kubernetes cluster to be served; null: none. */
  readonly kubernetes: string | null
  /** A keepalived.conf to be served; null: none. */
  readonly keepalived: string | null
  readonly sockets: SocketOptions
  readonly capacity: Capacity
  readonly workers: number
  readonly busyPoll: boolean
  readonly engine: 'packet' | 'xdp'
  readonly metrics: MetricsOptions
  /** The page; null: none. */
  readonly web: { readonly listen: Place; readonly tokenFile: string | null } | null
}

/** Beside the verdicts: frames that were counted as sent, and the kernel did not send. */
const REDIRECT_FAILED = 'redirect_failed'

const FORWARDING = [
  { family: 'IPv4', path: 'net/ipv4/ip_forward' },
  { family: 'IPv6', path: 'net/ipv6/conf/all/forwarding' },
] as const

/** Runs until a signal or a detach ends it; the exit status. */
export async function runDaemon(options: DaemonOptions, log: Logger): Promise<number> {
  // A terminal that closes while it starts: nothing has to be reloaded yet, and nothing has to end.
  process.on('SIGHUP', () => {})
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
  /** Who counts frames that the kernel did not send, or why nobody does; null where it does not apply. */
  #sendFailures: SendFailures | string | null = null
  #opened: Opened
  readonly #state: StateFile
  readonly #startedAt = new Date()
  #director!: RuleDirector
  /** Absent in a daemon that only keeps rules. */
  #managed: ManagedDirector | null = null
  readonly #clockwork: Clockwork
  readonly #journal: Journal
  /** Takes the director's beats out of the clockwork. */
  #unwind: () => void = () => {}
  #attachments: Attachments | null = null
  readonly #recordings = new Recordings(() => this.#opened.dataplane)
  readonly #asker = new Asker(() => this.#snapshot(false), askedHops())
  #push: OtlpPush | null = null
  #checks: Checks | null = null
  #api: Api | null = null
  readonly #sources = new Sources()
  readonly #siteReader: SiteReader
  /** What keeps them in force; null before the first is. */
  #followed: FollowedSources | null = null
  /** The configuration file as it was read before there was a director. */
  #first: FirstReading | null
  #removeSockets: () => void = () => {}
  #finish: (status: number) => void = () => {}
  readonly #ending: Ending
  /** Signals to end, so far. */
  #signals = 0

  static async start(options: DaemonOptions, log: Logger): Promise<Daemon> {
    const run = await takeRunDirectory(options.runDirectory, options.dataplane !== 'none')
    let host: LiveHost | null = null
    let opened: Opened | null = null
    const lasting = lastingDirectory(run, process.env)
    const siteReader = new SiteReader({ poolFile: join(lasting, 'pools.json'), goodFolder: lasting })
    try {
      host = openHost()
      const first = await readConfiguration(siteReader, options.config)
      const named = {
        ...options,
        interfaces: interfacesOf(options.interfaces, [first?.now.site ?? first?.lastGood?.site ?? null]),
      }
      opened = await openDataplane(openOptions(named, run, host, log))
      const daemon = new Daemon(options, log, run, host, opened, siteReader, first)
      await daemon.#serve()
      return daemon
    } catch (error) {
      await opened?.dataplane?.close().catch(() => {})
      await siteReader.close()
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
    siteReader: SiteReader,
    first: FirstReading | null,
  ) {
    this.#siteReader = siteReader
    this.#first = first
    this.#options = options
    this.#log = log
    this.#run = run
    this.#host = host
    this.#opened = opened
    this.#state = stateFile(run.path, bootId(), (message) => log.warn(message))
    this.#journal = openJournal(run.path, Date.now, (message) => log.warn(message))
    this.#clockwork = new Clockwork((beat, error) => this.#beatFailed(beat, error))
    this.#ending = new Ending({
      exit: (status) => process.exit(status),
      warn: (error, message) => log.error({ err: error }, message),
    })
    this.finished = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  #openOptions(): OpenOptions {
    const interfaces = this.#interfaces() ?? []
    return openOptions({ ...this.#options, interfaces }, this.#run, this.#host, this.#log)
  }

  async #serve(): Promise<void> {
    const { dataplane, reason, adopted } = this.#opened
    this.#makeDirector(dataplane, adopted)
    await this.#director.settle([])
    this.#checks = openChecks({
      runDirectory: this.#run.path,
      director: this.#director,
      host: this.#host,
      ways: () => this.#managed?.applier.probeWays ?? null,
      isAttached: (ifindex) => this.#attachments?.takes(ifindex) ?? false,
      takeAlso: (name) => void this.#attachments?.takeAlso(name),
      takeNoLonger: (name) => void this.#attachments?.takeNoLonger(name),
      log: this.#log,
      journal: this.#journal,
    })
    await this.#openSources()
    if (dataplane !== null) await this.#attach(dataplane)
    this.#listenForSignals()
    await this.#listen(this.#checks)
    this.#windWatchdog()
    const held = adopted ? 'carrying on with what the maps hold' : 'with empty maps'
    const words = `${VERSION} started, pid ${process.pid}: ${dataplane?.plane ?? 'no'} data plane (${reason}), ${held}`
    this.#journal.add({ kind: 'daemon', about: 'start', words })
    notify(`READY=1\nSTATUS=${dataplane?.plane ?? 'no'} data plane`)
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

  /** A thread that hangs tells nothing, and is ended and started again for it. */
  #windWatchdog(): void {
    const everyMs = watchdogPeriodMs()
    if (everyMs === null) return
    const run = (): null => {
      notify('WATCHDOG=1')
      return null
    }
    this.#clockwork.add([{ name: 'watchdog', everyMs, run }])
  }

  #makeDirector(dataplane: Dataplane | null, adopted: boolean): void {
    if (dataplane === null) {
      this.#director = createDirector({ host: this.#host })
      return
    }
    this.#managed = openDirector({ ...this.#directorOptions(), dataplane })
    const { director, applier } = this.#managed
    this.#director = director
    director.onSettled = () => this.#clockwork.ring(NEIGHBOURS)
    this.#unwind = this.#wind(applier)
    if (adopted) {
      const { services, servers, gone } = applier.adoption
      this.#log.info({ services, servers, gone }, 'carrying on with what the maps hold')
      // Reading a large table back leaves much behind, and nobody is waiting yet.
      collectGarbage()
    }
    for (const warning of dataplane.warnings ?? []) this.#log.warn(warning)
  }

  #directorOptions(): Omit<OpenDirectorOptions, 'dataplane'> {
    return {
      host: this.#host,
      stateFile: this.#state,
      warn: (message) => this.#log.warn(message),
      failed: (error) => this.#beatFailed('bring rules in force', error),
      servesOwn: this.#options.ownClients,
    }
  }

  /** Sets the director's beats going; the way to take them out again. */
  #wind(applier: MapApplier): () => void {
    const beats = directorBeats(applier, this.#host)
    const takeOut = this.#clockwork.add(beats)
    const unfollow = this.#host.onChange((change) => {
      this.#guarded(NETWORK, () => applier.networkChanged(change))
      if (change.nextHops !== 'others' && change.nextHops !== 'none') this.#clockwork.ring(HOPS)
    })
    this.#clockwork.ring(NEIGHBOURS)
    return () => {
      this.#unwind = () => {}
      takeOut()
      unfollow()
      applier.stopFollowing()
      // Forwarding may go on without us, and then nobody else asks the kernel to resolve them.
      for (const { name, run } of beats) {
        if (name === NEIGHBOURS)
          this.#guarded(name, () => {
            while (run() !== null);
          })
      }
    }
  }

  #guarded(name: string, action: () => unknown): void {
    try {
      action()
    } catch (error) {
      this.#beatFailed(name, error)
    }
  }

  /** What the machine refuses now it may grant the next time; what we did wrong we would do again. */
  #beatFailed(name: string, error: unknown): void {
    if (!isMachineTrouble(error)) this.#fail(error)
    else this.#log.warn({ err: error }, `Cannot do ${name} now: trying again`)
  }

  /** The director stays; rules, connections and counters go from one plane to the other below it. */
  async #changePlane(kind: 'xdp' | 'tc' | 'userspace'): Promise<void> {
    const managed = this.#managed
    if (managed === null)
      throw new DataplaneError('Cannot change the data plane: this daemon only keeps rules')
    const from = managed.applier.dataplane
    if (from.plane === kind) return
    if (kind === 'userspace' && from.answers?.() != null) this.#warnOfLocalServers()
    await this.#recordings.end('the data plane was changed')
    await this.#director.settle([])
    this.#unwind()
    this.#checks?.interrupt()
    await this.#attachments?.use(null)
    const { applier, error } = await exchangePlane(managed, this.#directorOptions(), async () => {
      const dataplane = await exchangeDataplane(this.#openOptions(), from, kind)
      this.#opened = { dataplane, reason: 'changed to while running', adopted: true }
      return dataplane
    })
    this.#managed = { ...managed, applier }
    this.#unwind = this.#wind(applier)
    await this.#director.settle([])
    await this.#attachments?.use(applier.dataplane)
    if (error !== null) throw error
    this.#countSendFailures(applier.dataplane)
    this.#log.info({ dataplane: kind }, 'changed the data plane')
  }

  #warnOfLocalServers(): void {
    const words =
      'connections to NAT real servers on this host are reset: the userspace plane does not carry them out'
    this.#log.warn(words)
    this.#journal.add({ kind: 'dataplane', about: 'plane', words })
  }

  async #attach(dataplane: Dataplane): Promise<void> {
    // Told of none, it goes on with those of the program that runs.
    const wanted = this.#interfaces() ?? namesOf(dataplane)
    this.#attachments = new Attachments(wanted, this.#host, (message) => {
      this.#log.warn(message)
      this.#journal.add({ kind: 'dataplane', about: 'interface', words: message })
    })
    if (this.#checks?.health.isWanted === true) void this.#attachments.takeAlso(CHECK_DEVICE)
    for (const one of await this.#attachments.use(dataplane)) {
      if (one.state === 'refused') throw new DataplaneError(one.why)
      if (one.state === 'waiting') this.#log.warn(`Waiting for interface ${one.wanted}: ${one.why}`)
    }
    if (isKernel(dataplane.plane) && (await removeLeftovers(this.#run.path))) {
      this.#log.info('removed what an earlier userspace plane had left in the kernel')
    }
    if (wanted.length === 0) {
      this.#log.warn('No interface to take packets from: start with --interface NAME')
    }
    for (const { name, note } of dataplane.interfaces()) {
      if (note !== undefined) this.#log.warn({ interface: name }, note)
    }
    this.#countSendFailures(dataplane)
    this.#warnOfTraps(this.#host)
  }

  /** Frames that the kernel takes and then loses show nowhere else. */
  #countSendFailures({ plane }: Dataplane): void {
    this.#stopCountingSendFailures()
    if (plane === 'xdp') this.#sendFailures = countSendFailures(builtFile('failures.bpf.o'))
  }

  #stopCountingSendFailures(): void {
    if (this.#sendFailures !== null && typeof this.#sendFailures !== 'string') this.#sendFailures.close()
    this.#sendFailures = null
  }

  #verdicts(): Map<string, bigint> {
    const { dataplane } = this.#opened
    if (dataplane === null) return new Map()
    const verdicts = readVerdicts(dataplane)
    const failures = this.#sendFailures
    if (failures === null || typeof failures === 'string') return verdicts
    const frames = failures.read().reduce((sum, failure) => sum + failure.frames, 0n)
    return frames === 0n ? verdicts : verdicts.set(REDIRECT_FAILED, frames)
  }

  /** What will not stop the daemon but will stop packets. */
  #warnOfTraps(host: Host): void {
    // Hosts without IPv6 services have it off by default.
    const six = this.#director.rules().some(({ service }) => service.id.family === 6)
    for (const { family, path } of FORWARDING) {
      if (host.sysctl(path) !== 0 || (family === 'IPv6' && !six)) continue
      this.#log.warn(
        `${family} forwarding is off: answers of NAT real servers will not pass: sysctl -w ${path.replaceAll('/', '.')}=1`,
      )
    }
  }

  async #listen(checks: Checks): Promise<void> {
    const tidy = new Tidy()
    const history = new HourHistory(() => Date.now(), this.#journal)
    const collector = new Collector(() => this.#metricFacts(), this.#options.metrics.detail, history)
    this.#pushMetrics(collector)
    this.#clockwork.add([{ name: 'history', everyMs: SAMPLE_MS, run: whole(() => collector.sample()) }])
    const api = createApi({
      context: {
        director: this.#director,
        health: checks.health,
        journal: this.#journal,
        sources: this.#sources,
        status: () => this.#status(),
        verdicts: () => this.#verdicts(),
        metrics: (format, detail) => collector.text(format, detail),
        overview: (asked) => collector.overview(asked),
        history: (service) => collector.history(service),
        snapshot: (withHops) => this.#snapshot(withHops),
        explain: (asked, signal) => this.#asker.explain(asked, signal),
        nextHop: askedHops(),
        record: (asked, ended) => this.#recordings.begin(asked, ended),
        endRecording: (why) => this.#recordings.end(why),
        changePlane: (kind) => this.#changePlane(kind),
        detach: () => this.#detach(),
      },
      failed: (error) => this.#log.error({ err: error }, 'request failed'),
      answered: () => tidy.requested(),
      webToken: readWebToken(this.#options.web?.tokenFile ?? null),
    })
    this.#api = api
    this.#removeSockets = await openSockets(api, this.#run, this.#options.sockets)
    await this.#openDoor(api, this.#options.metrics.listen, 'metrics')
    await this.#openDoor(api, this.#options.web?.listen ?? null, 'web')
  }

  #pushMetrics(collector: Collector): void {
    const { otlp } = this.#options.metrics
    if (otlp === null) return
    const push = new OtlpPush({
      ...{ url: otlp.url, headers: readOtlpHeaders(otlp.headersFile) },
      ...{ startedMs: this.#startedAt.getTime(), wallMs: () => Date.now() },
      collect: () => collector.text('text', null),
      told: (words, isBad) => {
        this.#log[isBad ? 'warn' : 'info'](words)
        this.#journal.add({ kind: 'daemon', about: 'metrics', words })
      },
    })
    this.#push = push
    const run = whole(
      () => void push.push().catch((error: unknown) => this.#beatFailed('push metrics', error)),
    )
    this.#clockwork.add([{ name: 'push metrics', everyMs: PUSH_MS, run }])
    run()
  }

  async #openDoor(api: Api, listen: Place | null, access: 'metrics' | 'web'): Promise<void> {
    if (listen === null) return
    const door = new Door(api, listen, access, this.#log)
    this.#clockwork.add([{ name: `open ${access}`, everyMs: DOOR_MS, run: whole(() => void door.open()) }])
    await door.open()
  }

  // Sources

  async #openSources(): Promise<void> {
    const followed = new FollowedSources(this.#sources, {
      places: this.#options,
      reader: this.#siteReader,
      director: this.#director,
      ...{ journal: this.#journal, log: this.#log },
      applied: () => this.#siteApplied(),
      failed: (what, error) => this.#beatFailed(what, error),
      isEnding: () => this.#ending.begun,
    })
    this.#followed = followed
    this.#clockwork.add([
      followed.beat(),
      { name: 'ends of holds', everyMs: HOLDS_MS, run: whole(() => this.#endHolds()) },
    ])
    const first = this.#first
    this.#first = null
    await followed.open(first)
  }

  /** What follows from another site that is in force. */
  #siteApplied(): void {
    this.#checks?.health.want(this.#sources.services().filter(hasHealth))
    const wanted = this.#interfaces()
    if (wanted !== null) void this.#attachments?.want(wanted)
  }

  #endHolds(): void {
    const over = this.#director.endHolds()
    if (over.length === 0) return
    for (const { service, server } of over) {
      this.#log.info({ service: serviceText(service), server: endpointText(server) }, 'a hold has ended')
      const names = { service: serviceText(service), server: endpointText(server) }
      this.#journal.add({ kind: 'rules', about: 'hold', ...names, words: 'ended: its time is over' })
    }
    void this.#director.settle([]).catch((error: unknown) => this.#beatFailed('end holds', error))
  }

  /** By command line and files; null: nobody has named any. */
  #interfaces(): readonly string[] | null {
    const sites = this.#sources.all().map(({ site }) => site)
    const wanted = interfacesOf(this.#options.interfaces, sites)
    return wanted.length > 0 ? wanted : null
  }

  #status(): Status {
    return readStatus(this.#facts())
  }

  #snapshot(withHops: boolean): AsyncIterable<Uint8Array> | null {
    const { dataplane } = this.#opened
    if (dataplane === null) return null
    return takeSnapshot(dataplane, {
      version: VERSION,
      wallMs: Date.now(),
      interfaces: this.#host.interfaces(),
      hops: withHops ? knownHops(this.#director, this.#host) : [],
    })
  }

  #metricFacts(): MetricFacts {
    const { health } = this.#checks ?? {}
    const totals = this.#director.totals()
    let counters: Counters | null = null
    return {
      ...this.#facts(),
      counted: () => this.#director.counted(),
      get totals() {
        counters ??= totals.counters
        return counters
      },
      totalRates: totals.rates,
      verdicts: this.#verdicts(),
      checked: () => health?.checked() ?? [],
      checkedOf: (service) => health?.of(service) ?? null,
      pushed: this.#push?.pushed ?? null,
    }
  }

  #facts(): StatusFacts {
    return {
      version: VERSION,
      startedAt: this.#startedAt,
      reason: this.#opened.reason,
      adopted: this.#opened.adopted,
      dataplane: this.#opened.dataplane,
      applier: this.#managed?.applier ?? null,
      director: this.#director,
      sources: this.#sources,
      holds: this.#director.holds(),
      health: this.#checks?.health.inShort() ?? null,
      attachments: this.#attachments?.state() ?? [],
      warnings: this.#host.warnings(),
      sendFailures: this.#sendFailures,
    }
  }

  #listenForSignals(): void {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        // Whoever says it twice does not want to wait.
        if (this.#signals++ > 0) process.exit(1)
        this.#log.info({ signal }, 'stopping')
        this.#journal.add({ kind: 'daemon', about: 'end', words: `stopping: ${signal}` })
        void this.#end(0, [this.#settled()])
      })
    }
    process.on('SIGHUP', () => void this.#reload())
    process.on('uncaughtException', (error) => this.#fail(error))
    process.on('unhandledRejection', (error) => this.#fail(error))
  }

  /**
   * What an operator wants of a reload where options come from the command line: everything is compared
   * with the machine again and brought in force, and nothing is interrupted.
   */
  async #reload(): Promise<void> {
    if (this.#ending.begun || this.#api === null) return
    const us = process.hrtime.bigint() / 1000n
    this.#tell(`RELOADING=1\nMONOTONIC_USEC=${us}`)
    const permit = await this.#api.permits.shared(RELOAD_TURN_MS, () => {})
    try {
      if (permit === null) throw new Error('other requests do not end')
      await this.#followed?.applyAll()
      await this.#attachments?.compare()
      this.#managed?.applier.networkChanged({ links: true, addresses: true, routes: true, neighbours: true })
      this.#managed?.applier.stateChanged()
      await this.#director.settle([])
      this.#log.info('reloaded')
      this.#journal.add({ kind: 'daemon', about: 'reload', words: 'reloaded' })
    } catch (error) {
      this.#log.error({ err: error }, 'Cannot reload')
    } finally {
      permit?.release()
    }
    this.#tell('READY=1')
  }

  /** A systemd that cannot be told is no reason to end. */
  #tell(state: string): void {
    try {
      notify(state)
    } catch (error) {
      if (!isMachineTrouble(error)) throw error
      this.#log.warn({ err: error }, 'Cannot tell systemd of it')
    }
  }

  /** A broken invariant: better to end and be started again than to go on with it. */
  #fail(error: unknown): void {
    this.#log.fatal({ err: error }, 'failed')
    const words = `failed: ${error instanceof Error ? error.message : error}`
    this.#journal.add({ kind: 'daemon', about: 'end', words })
    this.#ending.failed()
    void this.#end(1, [])
  }

  #settled(): Step {
    return {
      name: 'bring the last changes into force',
      limitMs: CLIENTS_MS,
      run: () => this.#director.settle([]),
    }
  }

  /** Ends the daemon; whoever forwards goes on. */
  async #end(status: number, first: readonly Step[]): Promise<void> {
    if (this.#ending.begun) return
    const startedAt = performance.now()
    const leftMs = (): number => Math.max(0, CLIENTS_MS - (performance.now() - startedAt))
    const result = await this.#ending.run(status, [
      { name: 'tell systemd of the end', limitMs: 0, run: () => this.#tell('STOPPING=1') },
      { name: 'stop the checks', limitMs: 0, run: () => this.#checks?.stop() },
      {
        name: 'end what is recorded',
        limitMs: END_MS,
        run: () => this.#recordings.end('the daemon has ended'),
      },
      { name: 'push no more metrics', limitMs: 0, run: () => this.#push?.close() },
      { name: 'leave the interfaces as they are', limitMs: 0, run: () => this.#attachments?.stop() },
      {
        name: 'stop the clockwork',
        limitMs: 0,
        run: () => {
          this.#unwind()
          this.#clockwork.stop()
        },
      },
      {
        name: 'wait for the requests under way',
        limitMs: END_MS,
        run: async () => {
          const permits = this.#api?.permits
          // Whoever is still inside then goes on with what is in force. Between two planes there is none to
          // close: the process ends as if it were killed, which a change of planes has to stand anyway.
          const limitMs = permits?.exclusive === true ? END_MS : CLIENTS_MS
          if ((await permits?.close(limitMs)) === false) throw new Error(`not done after ${limitMs} ms`)
        },
      },
      ...first,
      // Its maps are about to go.
      { name: 'stop bringing rules in force', limitMs: END_MS, run: () => this.#managed?.applier.stop() },
      { name: 'save the state', limitMs: 0, run: () => this.#managed?.applier.saveState() },
      { name: 'close the data plane', limitMs: END_MS, run: () => this.#opened.dataplane?.close() },
      { name: 'stop reading files', limitMs: END_MS, run: () => this.#siteReader.close() },
      { name: 'close the API', limitMs: END_MS, run: () => this.#api?.close(leftMs()) },
      { name: 'stop counting', limitMs: 0, run: () => this.#stopCountingSendFailures() },
      { name: 'stop following the network', limitMs: 0, run: () => this.#host.close() },
      { name: 'remove the sockets', limitMs: 0, run: () => this.#removeSockets() },
      { name: 'give up the run directory', limitMs: 0, run: () => this.#run.release() },
    ])
    this.#finish(result)
  }

  async #detach(): Promise<void> {
    this.#log.info('detaching')
    await this.#recordings.end('the packet program was taken off')
    this.#checks?.stop()
    await this.#attachments?.use(null)
    this.#attachments?.stop()
    this.#unwind()
    await this.#managed?.applier.stop()
    try {
      await this.#opened.dataplane?.detach()
    } catch (error) {
      // Half taken off nothing could be brought in force any more: started again it goes on with what is left.
      this.#fail(error)
      throw error
    }
    this.#managed?.applier.forgetState()
    // It goes on when this has been answered; those that wait for their turn are sent away at once, since
    // what they would change is gone.
    void this.#end(0, [])
  }
}

/** How exactly a hold ends. */
const HOLDS_MS = 1000
const NETWORK = 'what changes of the network ask for'
/** How long a reload waits for a change of the data plane. */
const RELOAD_TURN_MS = 60_000

/** Whether there is anything to be asked or done about it. */
function hasHealth({ servers, health }: SiteService): boolean {
  return health.sorryServer !== null || servers.some(({ checks }) => checks.length > 0)
}

function namesOf(dataplane: Dataplane): readonly string[] {
  return dataplane.interfaces().flatMap(({ name, wanted }) => (name === CHECK_DEVICE ? [] : [wanted ?? name]))
}

function openOptions(options: DaemonOptions, run: RunDirectory, host: LiveHost, log: Logger): OpenOptions {
  return {
    choice: options.dataplane,
    xdpMode: options.xdpMode,
    interfaces: options.interfaces,
    capacity: options.capacity,
    runDirectory: run.path,
    workers: options.workers,
    busyPoll: options.busyPoll,
    engine: options.engine,
    links: () => host.links(),
    log: (message) => log.warn(message),
  }
}
