/** From validated words of a file to the values that directors and checkers work with. */
import {
  familyOf,
  type IpAddress,
  ipv4ToNumber,
  isMulticast,
  parseAddress,
  parseIpv4,
} from '../../../net/address.ts'
import { parseEndpoint } from '../../../net/endpoint.ts'
import type { Check, CheckPath, CheckQuestion, CheckTls, HttpRequest } from '../../model/check.ts'
import {
  DEFAULT_HEALTH_POLICY,
  type HealthPolicy,
  type Hook,
  NO_SERVER_POLICY,
  type ServerPolicy,
} from '../../model/health-policy.ts'
import { serverKey } from '../../model/identity.ts'
import { WHOLE_ADDRESS } from '../../model/limits.ts'
import { type RealServer, translates } from '../../model/server.ts'
import type { ServiceId, VirtualService } from '../../model/service.ts'
import type { Place, SiteServer, SiteService } from '../../model/site.ts'
import { resolveFilters, resolveLimit } from './gate.ts'
import type { Complain } from './issues.ts'
import { nearest } from './nearest.ts'
import {
  type CheckDocument,
  type DefaultsDocument,
  FLAG_BITS,
  type FlagName,
  type HookDocument,
  parseDuration,
  type ServerDocument,
  type ServiceDocument,
} from './schema.ts'

type Path = readonly PropertyKey[]

/** Real servers that services name by their pool. */
export class Pool {
  readonly members: readonly ServerDocument[]
  /** They come from a registry: of those that do not fit a service it is the registry that is wrong, or nobody. */
  readonly followed: boolean
  #text: string | null = null

  constructor(members: readonly ServerDocument[], followed: boolean) {
    this.members = members
    this.followed = followed
  }

  /** Of two that are the same, the same. */
  get text(): string {
    this.#text ??= JSON.stringify(this.members)
    return this.#text
  }
}

export interface Names {
  readonly checks: ReadonlyMap<string, CheckDocument>
  readonly pools: ReadonlyMap<string, Pool>
  /** Of the file that the service stands in. */
  readonly defaults: DefaultsDocument
  /** For files that a check names. */
  resolvePath(path: string): string
}

const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const
const INTERVAL_MS = 5000
const TIMEOUT_MS = 2000
const RISE = 2
const FALL = 3

const ms = (value: string | number | undefined): number | undefined =>
  value === undefined ? undefined : (parseDuration(value) ?? undefined)

export function hookOf(document: HookDocument | undefined): Hook | null {
  if (document === undefined) return null
  const { command, user = null } =
    typeof document === 'object' && 'command' in document ? document : { command: document }
  return { command: words(command as string | string[]), user }
}

function words(command: string | readonly string[]): readonly string[] {
  return typeof command === 'string' ? command.trim().split(/\s+/) : command
}

export function resolveService(
  document: ServiceDocument,
  at: Place,
  names: Names,
  complain: Complain,
): SiteService | null {
  const id = identity(document, complain)
  if (id === null) return null
  const settings = { ...names.defaults.service, ...document }
  const service = virtualService(id, settings, complain)
  const checks = new Checks(names, complain)
  const shared = checks.all(settings.checks, document.checks === undefined ? [] : ['checks'])
  const servers: SiteServer[] = []
  const seen = new Set<string>()
  const add = (own: ServerDocument | string, path: Path, pool: string | null): void => {
    const words = typeof own === 'string' ? { address: own } : own
    const real = realServer(words, id, names.defaults, (inner, message) =>
      complain(pool === null ? [...path, ...inner] : path, message),
    )
    if (real === null) return
    const key = serverKey(real.id)
    if (seen.has(key)) complain(path, `Real server "${words.address}" is named twice in this service`)
    seen.add(key)
    const wanted = words.checks === undefined ? shared : checks.all(words.checks, [...path, 'checks'])
    const policy = serverPolicy({ ...names.defaults.server, ...words })
    servers.push({ real, checks: checks.of(wanted, real), policy, pool })
  }
  for (const [index, own] of (document.real_servers ?? []).entries()) add(own, ['real_servers', index], null)
  for (const [index, name] of (document.pools ?? []).entries()) {
    const pool = names.pools.get(name)
    if (pool === undefined) complain(['pools', index], unknown('pool', name, names.pools.keys()))
    for (const member of pool?.members ?? []) {
      if (pool?.followed !== true || fits(member, id, names.defaults, seen))
        add(member, ['pools', index], name)
    }
  }
  const health = healthPolicy(settings, id, names.defaults, (path, message) => complain(path, message))
  const filters = resolveFilters(document, id.family, complain).map(({ filter }) => filter)
  const limit = resolveLimit(document.limit, id.family, complain)
  if (service === null) return null
  return { service, servers, health, filters, limit, at }
}

/** A registry may have both families under one name, and what the file says of it already. */
function fits(
  member: ServerDocument,
  id: ServiceId,
  defaults: DefaultsDocument,
  seen: ReadonlySet<string>,
): boolean {
  const { address, port } = parseEndpoint(member.address)!
  const family = familyOf(address)
  if (family !== id.family && (member.method ?? defaults.server?.method) !== 'tunnel') return false
  return !seen.has(serverKey({ address, family, port: port ?? (id.kind === 'address' ? id.port : 0) }))
}

export function unknown(what: string, name: string, known: Iterable<string>): string {
  const all = [...known]
  const near = nearest(name, all)
  const hint =
    near !== null
      ? `did you mean "${near}"?`
      : all.length === 0
        ? `there are none, see ${what === 'registry' ? 'registries' : `${what}s`}: in pointsman.yaml(5)`
        : `expected one of ${all.join(', ')}`
  return `Unknown ${what} "${name}": ${hint}`
}

function identity(document: ServiceDocument, complain: Complain): ServiceId | null {
  const named = [...PROTOCOLS, 'fwmark' as const].filter((word) => document[word] !== undefined)
  const [word] = named
  if (word === undefined || named.length > 1) {
    complain(
      word === undefined ? [] : [named[1]!],
      `A service has exactly one of tcp, udp, sctp, fwmark${word === undefined ? '' : `, not ${named.join(' and ')}`}`,
    )
    return null
  }
  if (word === 'fwmark') {
    return { kind: 'fwmark', mark: document.fwmark!, family: document.family === 'ipv6' ? 6 : 4 }
  }
  if (document.family !== undefined) {
    complain(['family'], 'family is for fwmark: an address says of which family it is')
  }
  const { address, port } = parseEndpoint(document[word]!)!
  return { kind: 'address', protocol: word, address, family: familyOf(address), port: port! }
}

function virtualService(id: ServiceId, document: ServiceDocument, complain: Complain): VirtualService | null {
  const scheduler = document.scheduler ?? 'wlc'
  const persistenceTimeoutS = Math.round((ms(document.persistence_timeout) ?? 0) / 1000)
  const onePacket = document.one_packet ?? false
  if (id.kind === 'address' && id.port === 0 && persistenceTimeoutS === 0) {
    complain([id.protocol], 'Port 0 is for persistent services: give a port, or persistence_timeout')
  }
  if (document.untracked === true && (document.limit?.connections ?? 0) > 0) {
    complain(['untracked'], 'Connections at a time are not counted where untracked: limit their rate instead')
  }
  if (onePacket && !(id.kind === 'address' && id.protocol === 'udp')) {
    complain(['one_packet'], 'one_packet is for udp services')
  }
  let schedulerFlags = 0
  for (const [index, flag] of (document.flags ?? []).entries()) {
    if (!flagFits(flag, scheduler)) {
      complain(['flags', index], `Flag "${flag}" is not for scheduler ${scheduler}`)
    }
    schedulerFlags |= FLAG_BITS[flag]
  }
  const netmask = maskOf(document.netmask, id)
  if (netmask === null) {
    const wanted = id.family === 4 ? 'a mask such as 255.255.255.0, or 1 to 32' : '1 to 128'
    complain(['netmask'], `Expected ${wanted}, got ${JSON.stringify(document.netmask)}`)
    return null
  }
  return {
    id,
    scheduler,
    schedulerFlags,
    onePacket,
    untracked: document.untracked ?? false,
    persistenceTimeoutS,
    netmask,
    persistenceEngine: document.persistence_engine ?? null,
  }
}

function flagFits(flag: FlagName, scheduler: string): boolean {
  return flag.startsWith('flag-') || flag.startsWith(`${scheduler}-`)
}

function maskOf(netmask: ServiceDocument['netmask'], id: ServiceId): number | null {
  if (netmask === undefined) return WHOLE_ADDRESS[id.family]
  if (id.family === 6) return typeof netmask === 'number' ? netmask : null
  if (typeof netmask === 'string') {
    const mask = parseIpv4(netmask)
    return mask === null ? null : ipv4ToNumber(mask)
  }
  return netmask > 32 ? null : (0xffffffff << (32 - netmask)) >>> 0
}

/** One value for all that have nothing else: it is compared, packed and kept a hundred thousand times. */
const IPIP = { type: 'ipip' } as const

type ServerWords = Omit<ServerDocument, 'checks' | 'on_up' | 'on_down' | 'on_failure' | 'start'>

function realServer(
  own: ServerWords,
  service: ServiceId,
  defaults: DefaultsDocument,
  complain: Complain,
): RealServer | null {
  const document = { ...defaults.server, ...own }
  const { address, port } = parseEndpoint(document.address)!
  const family = familyOf(address)
  const method = document.method ?? 'direct-routing'
  const upperThreshold = document.upper_threshold ?? 0
  const lowerThreshold = document.lower_threshold ?? 0
  if (lowerThreshold > upperThreshold) {
    complain(
      ['lower_threshold'],
      `lower_threshold ${lowerThreshold} is above upper_threshold ${upperThreshold}`,
    )
  }
  if (method !== 'tunnel') {
    if (family !== service.family) {
      complain(
        ['address'],
        `"${document.address}" is of another family than its service: only method tunnel can`,
      )
    }
    if (own.tunnel !== undefined) complain(['tunnel'], `tunnel is for method tunnel, not for ${method}`)
  }
  const tunnel = document.tunnel ?? IPIP
  return {
    id: { address, family, port: port ?? (service.kind === 'address' ? service.port : 0) },
    method,
    tunnel: method !== 'tunnel' || tunnel.type === 'ipip' ? IPIP : filled(tunnel),
    weight: document.weight ?? 1,
    upperThreshold,
    lowerThreshold,
  }
}

function filled(
  tunnel: Exclude<NonNullable<ServerDocument['tunnel']>, { type: 'ipip' }>,
): RealServer['tunnel'] {
  return tunnel.type === 'gue'
    ? { type: 'gue', port: tunnel.port, checksum: tunnel.checksum ?? 'none' }
    : { type: 'gre', checksum: tunnel.checksum ?? 'none' }
}

function serverPolicy({ on_up, on_down, on_failure, start }: ServerDocument): ServerPolicy {
  if ((on_up ?? on_down ?? on_failure ?? start) === undefined) return NO_SERVER_POLICY
  return {
    onUp: hookOf(on_up),
    onDown: hookOf(on_down),
    onFailure: on_failure ?? null,
    start: start ?? null,
  }
}

function healthPolicy(
  document: ServiceDocument,
  id: ServiceId,
  defaults: DefaultsDocument,
  complain: Complain,
): HealthPolicy {
  const quorum = document.quorum ?? DEFAULT_HEALTH_POLICY.quorum
  const hysteresis = document.hysteresis ?? DEFAULT_HEALTH_POLICY.hysteresis
  if (hysteresis >= quorum && hysteresis > 0) {
    complain(['hysteresis'], `hysteresis ${hysteresis} has to be less than the quorum, ${quorum}`)
  }
  const sorry = document.sorry_server
  const words = typeof sorry === 'string' ? { address: sorry } : sorry
  return {
    quorum,
    hysteresis,
    onQuorumUp: hookOf(document.on_quorum_up),
    onQuorumDown: hookOf(document.on_quorum_down),
    onFailure: document.on_failure ?? DEFAULT_HEALTH_POLICY.onFailure,
    start: document.start ?? DEFAULT_HEALTH_POLICY.start,
    hooksAtEnd: document.hooks_at_end ?? DEFAULT_HEALTH_POLICY.hooksAtEnd,
    sorryServer:
      words === undefined
        ? null
        : realServer(words, id, defaults, (path, message) => complain(['sorry_server', ...path], message)),
    sorryStays: document.sorry_server_stays ?? false,
    slowStartMs: ms(document.slow_start) ?? 0,
  }
}

/** A check before it is known whom it asks: its way follows from the real server's method. */
interface Wanted {
  readonly name: string
  readonly document: CheckDocument
}

/** The checks of one service: equal ones are one value. */
class Checks {
  readonly #names: Names
  readonly #complain: Complain
  readonly #made = new Map<readonly Wanted[], Map<CheckPath, readonly Check[]>>()

  constructor(names: Names, complain: Complain) {
    this.#names = names
    this.#complain = complain
  }

  /** @param path where they stand; empty: in defaults, which complain where they are */
  all(list: ServiceDocument['checks'], path: Path): readonly Wanted[] {
    const taken = new Set<string>()
    return (list ?? []).flatMap((one, index): Wanted[] => {
      const document = typeof one === 'string' ? this.#names.checks.get(one) : one
      if (document === undefined) {
        const message = unknown('check', String(one), this.#names.checks.keys())
        this.#complain(path.length === 0 ? [] : [...path, index], message)
        return []
      }
      const base = document.name ?? (typeof one === 'string' ? one : document.kind)
      let name = base
      for (let next = 2; taken.has(name); next++) name = `${base}-${next}`
      taken.add(name)
      return [{ name, document }]
    })
  }

  of(wanted: readonly Wanted[], real: RealServer): readonly Check[] {
    if (wanted.length === 0) return NONE
    const usual: CheckPath = translates(real.method) ? 'direct' : 'service'
    const ways = this.#made.get(wanted) ?? new Map<CheckPath, readonly Check[]>()
    this.#made.set(wanted, ways)
    const known = ways.get(usual)
    if (known !== undefined) return known
    const made = wanted.map(({ name, document }) => checkOf(name, document, usual, this.#names))
    ways.set(usual, made)
    return made
  }
}

const NONE: readonly Check[] = []

export function checkOf(name: string, document: CheckDocument, usual: CheckPath, names: Names): Check {
  const timing = { ...names.defaults.check, ...document }
  const intervalMs = ms(timing.interval) ?? INTERVAL_MS
  return {
    name,
    question: questionOf(document, names),
    path: timing.path ?? usual,
    address: plainAddress(document.address),
    port: document.port ?? null,
    source: plainAddress(document.source),
    intervalMs,
    retryIntervalMs: ms(timing.retry_interval) ?? intervalMs,
    timeoutMs: ms(timing.timeout) ?? TIMEOUT_MS,
    rise: timing.rise ?? RISE,
    fall: timing.fall ?? FALL,
    startJitterMs: ms(timing.start_jitter) ?? intervalMs,
  }
}

function plainAddress(text: string | undefined): IpAddress | null {
  return text === undefined ? null : parseAddress(text)
}

interface TlsWords {
  readonly server_name?: string | undefined
  readonly verify?: boolean | undefined
  readonly ca?: string | undefined
}

function tlsOf(document: TlsWords, names: Names): CheckTls {
  return {
    serverName: document.server_name ?? null,
    verify: document.verify ?? true,
    ca: document.ca === undefined ? null : names.resolvePath(document.ca),
  }
}

function questionOf(document: CheckDocument, names: Names): CheckQuestion {
  switch (document.kind) {
    case 'tcp':
    case 'ping':
      return { kind: document.kind }
    case 'http':
    case 'https':
      return {
        kind: 'http',
        tls: document.kind === 'https' ? tlsOf(document, names) : null,
        method: document.method ?? 'GET',
        version: document.version ?? '1.1',
        host: document.host ?? null,
        requests: (document.urls ?? [{ ...document, url: document.url ?? '/' }]).map(requestOf),
      }
    case 'tls':
      return { kind: 'tls', tls: tlsOf(document, names) }
    case 'dns':
      return { kind: 'dns', name: document.query, type: document.type ?? 'A' }
    case 'smtp':
      return { kind: 'smtp', helo: document.helo ?? 'localhost' }
    case 'udp':
      return {
        kind: 'udp',
        payload: (document.payload ?? '').toLowerCase(),
        reply: {
          required: document.require_reply ?? document.reply !== undefined,
          match: document.reply ?? null,
        },
      }
    case 'grpc':
      return {
        kind: 'grpc',
        service: document.service ?? '',
        tls: document.tls === true ? tlsOf(document, names) : null,
      }
    case 'exec':
      return {
        kind: 'exec',
        command: words(document.command),
        user: document.user ?? null,
        result: document.result ?? 'status',
      }
    case 'file':
      return { kind: 'file', file: names.resolvePath(document.file), factor: document.factor ?? 1 }
    case 'agent':
      return { kind: 'agent', send: document.send ?? '' }
    default:
      return document satisfies never
  }
}

interface HttpWords {
  readonly url: string
  readonly status?: string | number | readonly (string | number)[] | undefined
  readonly body?: string | undefined
  readonly md5?: string | undefined
  readonly sha256?: string | undefined
}

function requestOf({ url, status, body, md5, sha256 }: HttpWords): HttpRequest {
  const ranges = status === undefined ? ['200-399'] : Array.isArray(status) ? status : [status]
  const digest =
    sha256 !== undefined
      ? ({ algorithm: 'sha256', hex: sha256.toLowerCase() } as const)
      : md5 !== undefined
        ? ({ algorithm: 'md5', hex: md5.toLowerCase() } as const)
        : null
  return {
    path: url,
    status: ranges.map((text) => {
      const [from, to = from] = String(text).split('-').map(Number)
      return { from: from!, to: to! }
    }),
    body: body ?? null,
    digest,
  }
}

/** Of a synchronisation daemon; null: it is none of multicast. */
export function groupOf(text: string | undefined): IpAddress | null | undefined {
  if (text === undefined) return undefined
  const address = parseAddress(text)
  return address !== null && isMulticast(address) ? address : null
}
