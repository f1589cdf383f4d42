/**
 * Health: who is asked what, and what follows for services. It states nothing: it is an overlay over what
 * sources state (rules/layers.ts), and says of each real server whether it counts, for how much, and whether
 * a sorry server has to serve.
 */
import type { IpAddress } from '../../net/address.ts'
import { familyOf } from '../../net/address.ts'
import { endpointText } from '../../net/endpoint.ts'
import type { Check } from '../model/check.ts'
import type { Hook } from '../model/health-policy.ts'
import { serverKey, serviceKey, serviceText } from '../model/identity.ts'
import { Journal } from '../model/journal.ts'
import { INT_MAX } from '../model/limits.ts'
import type { RealServer } from '../model/server.ts'
import type { VirtualService } from '../model/service.ts'
import type { SiteServer, SiteService } from '../model/site.ts'
import type { Overlays } from '../rules/layers.ts'
import type { WeightChange } from './checker/protocol.ts'
import type { Asking, Prober } from './checker-link.ts'
import type { RunHook } from './hooks.ts'
import type { HealthFile, HealthMemory, Known } from './memory.ts'
import { Probe, type ProbeMemory, type ProbeTools } from './probe.ts'

export interface HealthOptions extends Pick<ProbeTools, 'prober' | 'after' | 'nowMs' | 'wallMs' | 'random'> {
  readonly prober: Prober
  readonly file: HealthFile
  readonly runHook: RunHook
  /** What is in force for these services is another one: brings it in force. */
  readonly overlay: (overlays: Overlays, services: readonly string[]) => void
  /** Where changes are written down; one of its own if left out. */
  readonly journal?: Journal
  /** Whether an address is the host's own. */
  readonly isLocal: (address: IpAddress) => boolean
  readonly log: {
    info(details: object, message: string): void
    warn(details: object, message: string): void
  }
}

/** How finely a weight grows; no finer than this time. */
const SLOW_STEPS = 20
const SLOW_STEP_MS_MIN = 100
/** Changes of one moment are brought in force together. */
const GATHER_MS = 10
/** At most a tenth of the time goes into writing it down. */
const SAVE_MS_MIN = 20
const SAVE_SHARE = 10

export interface CheckedServer {
  readonly real: RealServer
  readonly probes: readonly { readonly check: Check; readonly probe: Probe }[]
  readonly state: 'up' | 'down'
  readonly sinceMs: number
  /** Why it is as it is; '' before any answer. */
  readonly words: string
  /** The share of its weight in a slow start; 1 otherwise. */
  readonly share: number
}

export interface CheckedService {
  readonly key: string
  readonly service: VirtualService
  readonly state: 'up' | 'down'
  readonly sinceMs: number
  /** The sum of the weights of what is up, and what is wanted. */
  readonly weight: number
  readonly quorum: number
  readonly sorry: boolean
  readonly servers: readonly CheckedServer[]
}

/** For whoever looks often: without what every check has said. */
export interface HealthInShort {
  readonly services: number
  readonly servicesDown: readonly Pick<CheckedService, 'service' | 'sinceMs' | 'sorry'>[]
  /** Those that are asked. */
  readonly realServers: number
  readonly realServersDown: number
}

interface Server {
  stated: SiteServer
  probes: { readonly check: Check; readonly probe: Probe }[]
  known: Known
  /** When it came up while it was watched (monotonic); null: its weight is whole. */
  startedMs: number | null
}

interface Service {
  stated: SiteService
  readonly servers: Map<string, Server>
  known: Known
}

export class Health implements Overlays {
  readonly journal: Journal
  readonly #options: HealthOptions
  readonly #services = new Map<string, Service>()
  readonly #probes = new Map<string, { readonly probe: Probe; readonly services: Set<string> }>()
  /** Of an earlier daemon, until somebody wants it. */
  #memory: HealthMemory
  readonly #changed = new Set<string>()
  #gathering: (() => void) | null = null
  #saving: (() => void) | null = null
  #slow: (() => void) | null = null
  #unsaved = false
  #saveAfterMs = SAVE_MS_MIN
  #stopped = false

  constructor(options: HealthOptions) {
    this.#options = options
    this.journal = options.journal ?? new Journal(options.wallMs)
    this.#memory = options.file.load()
  }

  /** Whether anything is to be asked at all. */
  get isWanted(): boolean {
    return this.#probes.size > 0
  }

  /** All that sources want checked, from now on. In force at once: rules may be brought in force after it. */
  want(stated: readonly SiteService[]): void {
    const wanted = new Map(stated.map((one) => [serviceKey(one.service.id), one]))
    const before = [...this.#services.keys()]
    for (const key of before) if (!wanted.has(key)) this.#services.delete(key)
    const used = new Map<string, Set<string>>()
    for (const [key, site] of wanted) {
      const service = this.#service(key, site)
      for (const { probes } of service.servers.values()) {
        for (const { probe } of probes) used.set(probe.key, (used.get(probe.key) ?? new Set()).add(key))
      }
    }
    for (const [key, { probe, services }] of this.#probes) {
      services.clear()
      for (const service of used.get(key) ?? []) services.add(service)
      if (services.size > 0) continue
      probe.stop()
      this.#probes.delete(key)
    }
    for (const key of wanted.keys()) this.#judge(key)
    this.#options.overlay(this, [...new Set([...before, ...wanted.keys()])])
    this.#changed.clear()
    this.#saveSoon()
  }

  #service(key: string, site: SiteService): Service {
    const { start } = site.health
    const nowMs = this.#options.wallMs()
    const known = this.#memory.services[key] ?? { state: start, sinceMs: nowMs }
    const service = this.#services.get(key) ?? { stated: site, servers: new Map<string, Server>(), known }
    service.stated = site
    this.#services.set(key, service)
    const left = new Set(service.servers.keys())
    for (const stated of site.servers) {
      const name = serverKey(stated.real.id)
      left.delete(name)
      const probes = stated.checks.map((check) => ({ check, probe: this.#probe(site, stated.real, check) }))
      const server = service.servers.get(name)
      if (server === undefined) {
        const begins = { state: stated.policy.start ?? start, sinceMs: nowMs }
        const before = this.#memory.servers[`${key}|${name}`] ?? begins
        service.servers.set(name, { stated, probes, known: before, startedMs: null })
      } else {
        server.stated = stated
        server.probes = probes
      }
    }
    for (const name of left) service.servers.delete(name)
    return service
  }

  #probe(site: SiteService, real: RealServer, check: Check): Probe {
    const asking = askingOf(site.service, real, check, this.#options.isLocal)
    const { intervalMs, retryIntervalMs, timeoutMs, rise, fall, startJitterMs } = check
    const timing = { intervalMs, retryIntervalMs, timeoutMs, rise, fall, startJitterMs }
    const key = JSON.stringify([asking, timing])
    const known = this.#probes.get(key)
    if (known !== undefined) return known.probe
    const tools = { ...this.#options, changed: (probe: Probe) => this.#heard(probe) }
    const probe = new Probe(key, check.name, asking, timing, tools, this.#memory.probes[key] ?? null)
    this.#probes.set(key, { probe, services: new Set() })
    probe.start()
    return probe
  }

  #heard(probe: Probe): void {
    const services = [...(this.#probes.get(probe.key)?.services ?? [])]
    const [last] = probe.changes.slice(-1)
    if (last !== undefined && last.atMs === probe.sinceMs && probe.state !== 'unknown') {
      const service = services.length === 1 ? this.#services.get(services[0]!) : undefined
      this.journal.add({
        kind: 'health',
        about: 'check',
        service: service === undefined ? null : serviceText(service.stated.service.id),
        server: endpointText(probe.asking.way?.real.id ?? probe.asking.to),
        check: probe.name,
        state: probe.state,
        words: probe.words,
      })
    }
    for (const key of services) {
      this.#judge(key)
      this.#changed.add(key)
    }
    this.#bringInSoon()
    this.#saveSoon()
  }

  /** What its real servers' checks come to, for a service. */
  #judge(key: string): void {
    const service = this.#services.get(key)
    if (service === undefined) return
    for (const server of service.servers.values()) this.#judgeServer(service, server)
    const { quorum, hysteresis, onQuorumUp, onQuorumDown } = service.stated.health
    const weight = weightUp(service)
    const was = service.known.state
    const is =
      was === 'up'
        ? weight < quorum - hysteresis
          ? 'down'
          : 'up'
        : weight >= quorum + hysteresis
          ? 'up'
          : 'down'
    if (is === was) return
    service.known = { state: is, sinceMs: this.#options.wallMs() }
    const text = serviceText(service.stated.service.id)
    const words = `weight ${weight} is up, wanted ${is === 'up' ? quorum + hysteresis : quorum - hysteresis}`
    this.journal.add({ kind: 'health', about: 'service', service: text, state: is, words })
    this.#options.log.warn({}, `Service ${text} is ${is}: ${words}`)
    this.#runHook(is === 'up' ? onQuorumUp : onQuorumDown, service, null, is)
  }

  #judgeServer(service: Service, server: Server): void {
    const { slowStartMs } = service.stated.health
    const start = server.stated.policy.start ?? service.stated.health.start
    const states = server.probes.map(({ probe }) => probe.state)
    const unknown = states.includes('unknown')
    // Before all have answered, it stays what it was, or what it starts as.
    const is = states.includes('down')
      ? 'down'
      : unknown && server.known.state === 'down'
        ? 'down'
        : unknown
          ? (server.known.state ?? start)
          : 'up'
    if (is === server.known.state) return
    server.known = { state: is, sinceMs: this.#options.wallMs() }
    server.startedMs = is === 'up' && slowStartMs > 0 ? this.#options.nowMs() : null
    if (server.startedMs !== null) this.#growSoon()
    const text = serviceText(service.stated.service.id)
    const name = endpointText(server.stated.real.id)
    const words = wordsOf(server)
    this.journal.add({ kind: 'health', about: 'server', service: text, server: name, state: is, words })
    const level = is === 'up' ? 'info' : 'warn'
    this.#options.log[level]({}, `Real server ${name} of ${text} is ${is}: ${words}`)
    const { onUp, onDown } = server.stated.policy
    this.#runHook(is === 'up' ? onUp : onDown, service, server, is)
  }

  #runHook(hook: Hook | null, service: Service, server: Server | null, state: 'up' | 'down'): void {
    if (hook === null) return
    this.#options.runHook(hook, {
      POINTSMAN_SERVICE: serviceText(service.stated.service.id),
      POINTSMAN_STATE: state,
      ...(server === null ? {} : { POINTSMAN_REAL_SERVER: endpointText(server.stated.real.id) }),
    })
  }

  #bringInSoon(): void {
    this.#gathering ??= this.#options.after(GATHER_MS, () => {
      this.#gathering = null
      if (this.#stopped) return
      const services = [...this.#changed]
      this.#changed.clear()
      this.#options.overlay(this, services)
    })
  }

  /** Weights of those that have come up grow by themselves. */
  #growSoon(): void {
    if (this.#slow !== null) return
    let stepMs = Number.POSITIVE_INFINITY
    for (const { stated, servers } of this.#services.values()) {
      for (const { startedMs } of servers.values()) {
        if (startedMs !== null) stepMs = Math.min(stepMs, stated.health.slowStartMs / SLOW_STEPS)
      }
    }
    if (stepMs === Number.POSITIVE_INFINITY) return
    this.#slow = this.#options.after(Math.max(stepMs, SLOW_STEP_MS_MIN), () => {
      this.#slow = null
      for (const [key, { stated, servers }] of this.#services) {
        for (const server of servers.values()) {
          if (server.startedMs === null) continue
          this.#changed.add(key)
          const ageMs = this.#options.nowMs() - server.startedMs
          if (ageMs >= stated.health.slowStartMs) server.startedMs = null
        }
      }
      this.#bringInSoon()
      this.#growSoon()
    })
  }

  // What it is to the rules

  weight(service: string, server: string, said: number): number | null {
    const checked = this.#services.get(service)
    const one = checked?.servers.get(server)
    if (checked === undefined || one === undefined) return said
    const out = one.probes.length > 0 && one.known.state === 'down'
    // Who was drained has connections that are to stay.
    if (out || (said > 0 && isSorry(checked))) {
      return (one.stated.policy.onFailure ?? checked.stated.health.onFailure) === 'remove' ? null : 0
    }
    if (one.probes.length === 0) return said
    const base = dynamicWeight(one, said)
    // What has any share of any weight keeps a weight: slow is not stopped.
    return base === 0 ? 0 : Math.max(1, Math.round(base * this.#share(checked, one)))
  }

  extra(service: string): readonly RealServer[] {
    const checked = this.#services.get(service)
    const { sorryServer = null, sorryStays = false } = checked?.stated.health ?? {}
    if (checked === undefined || sorryServer === null) return []
    if (isSorry(checked)) return [sorryServer]
    return sorryStays ? [{ ...sorryServer, weight: 0 }] : []
  }

  #share({ stated }: Service, { startedMs }: Server): number {
    if (startedMs === null || stated.health.slowStartMs <= 0) return 1
    return Math.min(1, (this.#options.nowMs() - startedMs) / stated.health.slowStartMs)
  }

  /** What has been found out, for whoever asks. */
  state(): readonly CheckedService[] {
    return [...this.checked()]
  }

  /** The same, one service at a time. */
  *checked(): Generator<CheckedService> {
    for (const [key, service] of this.#services) yield this.#checked(key, service)
  }

  /** Of one service, by identity; null: it is not checked. */
  of(key: string): CheckedService | null {
    const service = this.#services.get(key)
    return service === undefined ? null : this.#checked(key, service)
  }

  #checked(key: string, service: Service): CheckedService {
    return {
      key,
      service: service.stated.service,
      ...service.known,
      weight: weightUp(service),
      quorum: service.stated.health.quorum,
      sorry: isSorry(service),
      servers: Array.from(service.servers.values(), (server) => ({
        real: server.stated.real,
        probes: server.probes,
        ...server.known,
        words: wordsOf(server),
        share: this.#share(service, server),
      })),
    }
  }

  /** null: nothing is checked. */
  inShort(): HealthInShort | null {
    if (this.#services.size === 0) return null
    const servicesDown: HealthInShort['servicesDown'][number][] = []
    let realServers = 0
    let realServersDown = 0
    for (const service of this.#services.values()) {
      const { stated, known, servers } = service
      if (known.state === 'down') {
        servicesDown.push({ service: stated.service, sinceMs: known.sinceMs, sorry: isSorry(service) })
      }
      for (const server of servers.values()) {
        if (server.probes.length === 0) continue
        realServers++
        if (server.known.state === 'down') realServersDown++
      }
    }
    return { services: this.#services.size, servicesDown, realServers, realServersDown }
  }

  // What it leaves to the next daemon

  #saveSoon(): void {
    this.#unsaved = true
    this.#saving ??= this.#options.after(this.#saveAfterMs, () => {
      this.#saving = null
      const beganMs = this.#options.nowMs()
      this.save()
      this.#saveAfterMs = Math.max(SAVE_MS_MIN, SAVE_SHARE * (this.#options.nowMs() - beganMs))
    })
  }

  save(): void {
    if (!this.#unsaved) return
    const probes: Record<string, ProbeMemory> = {}
    for (const [key, { probe }] of this.#probes) {
      if (probe.state !== 'unknown') probes[key] = probe.memory()
    }
    const servers: Record<string, Known> = {}
    const services: Record<string, Known> = {}
    for (const [key, service] of this.#services) {
      services[key] = service.known
      for (const [name, { known }] of service.servers) servers[`${key}|${name}`] = known
    }
    this.#memory = { probes, servers, services }
    try {
      this.#options.file.save(this.#memory)
      this.#unsaved = false
    } catch (error) {
      this.#options.log.warn({ err: error }, 'Cannot write down what is known of health')
    }
  }

  /** Nothing is asked any more; what is in force stays. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    for (const cancel of [this.#gathering, this.#saving, this.#slow]) cancel?.()
    for (const { probe } of this.#probes.values()) probe.stop()
    for (const service of this.#services.values())
      if (service.stated.health.hooksAtEnd) this.#tellEnd(service)
    this.save()
  }

  /** keepalived's omega: as if all were down. */
  #tellEnd(service: Service): void {
    for (const server of service.servers.values()) {
      if (server.known.state === 'up') this.#runHook(server.stated.policy.onDown, service, server, 'down')
    }
    if (service.known.state === 'up') this.#runHook(service.stated.health.onQuorumDown, service, null, 'down')
  }
}

/** As keepalived has it: a service without its quorum is the sorry server's, whoever else is up. */
function isSorry({ stated, known }: Service): boolean {
  return stated.health.sorryServer !== null && known.state === 'down'
}

function weightUp({ servers }: Service): number {
  let sum = 0
  for (const server of servers.values()) {
    if (server.known.state === 'up') sum += dynamicWeight(server, server.stated.real.weight)
  }
  return sum
}

function dynamicWeight({ probes }: Server, said: number): number {
  return probes.reduce((weight, { probe }) => reweighed(weight, probe.weight), said)
}

function reweighed(weight: number, change: WeightChange | null): number {
  if (change === null) return weight
  switch (change.kind) {
    case 'is':
      return change.weight
    case 'plus':
      return Math.min(INT_MAX, Math.max(0, weight + change.weight))
    case 'share':
      return change.share === 0 ? 0 : Math.min(INT_MAX, Math.max(1, Math.round(weight * change.share)))
    default:
      return change satisfies never
  }
}

/** The bad answers, or all of them. */
function wordsOf({ probes }: Server): string {
  const down = probes.filter(({ probe }) => probe.state === 'down')
  return (down.length > 0 ? down : probes)
    .map(({ check, probe }) => (probe.words === '' ? '' : `${check.name}: ${probe.words}`))
    .filter((words) => words !== '')
    .join('; ')
}

/** What is asked of whom, over which way. */
function askingOf(
  service: VirtualService,
  real: RealServer,
  check: Check,
  isLocal: (address: IpAddress) => boolean,
): Asking {
  const { question, timeoutMs } = check
  const environment =
    question.kind === 'exec'
      ? {
          POINTSMAN_SERVICE: serviceText(service.id),
          POINTSMAN_REAL_SERVER: endpointText(real.id),
          POINTSMAN_ADDRESS: real.id.address as string,
          POINTSMAN_PORT: String(real.id.port),
        }
      : {}
  const common = { question, timeoutMs, environment, source: check.source }
  const virtual = service.id.kind === 'address' ? service.id : null
  const address = check.address ?? virtual?.address ?? null
  const protocol = question.kind === 'udp' || question.kind === 'dns' ? 'udp' : 'tcp'
  const asksItself = question.kind === 'ping' || question.kind === 'exec' || question.kind === 'file'
  // A real server on this host is behind no way of the packet program's.
  if (check.path === 'service' && address !== null && !asksItself && !isLocal(real.id.address)) {
    const virtualPort = check.port ?? (virtual?.port || real.id.port)
    const port = check.port ?? (real.id.port || virtualPort)
    const { method, tunnel, id } = real
    const way = {
      // What says nothing about the way is left out: those who differ in it share the question.
      real: { id: { ...id, port }, method, tunnel, weight: 1, upperThreshold: 0, lowerThreshold: 0 },
      protocol,
      port,
    } as const
    return { ...common, source: null, to: { address, family: familyOf(address), port: virtualPort }, way }
  }
  const direct = check.path === 'direct' ? (check.address ?? real.id.address) : real.id.address
  const port = check.port ?? (real.id.port || virtual?.port || 0)
  return { ...common, to: { address: direct, family: familyOf(direct), port }, way: null }
}
