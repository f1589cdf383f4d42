/** Virtual servers of keepalived as services of a site. */
import { type Family, type IpAddress, ipv4ToNumber, parseIpv4 } from '../../../net/address.ts'
import type { Protocol } from '../../../net/protocol.ts'
import type { Check } from '../../model/check.ts'
import {
  DEFAULT_HEALTH_POLICY,
  type HealthPolicy,
  type Hook,
  type OnFailure,
  type Start,
} from '../../model/health-policy.ts'
import { serverKey } from '../../model/identity.ts'
import { INT_MAX, TIMEOUT_MAX_S, WHOLE_ADDRESS } from '../../model/limits.ts'
import { SCHEDULERS, type SchedulerName } from '../../model/scheduler.ts'
import { type RealServer, translates } from '../../model/server.ts'
import type { ServiceId, VirtualService } from '../../model/service.ts'
import type { SiteServer, SiteService } from '../../model/site.ts'
import type { Statement } from './blocks.ts'
import { CHECKERS, readChecker, type TrackFile } from './checks.ts'
import { groupMembers, type Member } from './group.ts'
import { type Method, NAT, readMethod, readWhere } from './methods.ts'
import { type Remarks, Settings } from './settings.ts'
import { wordsOf } from './words.ts'

export interface ServicesContext {
  readonly groups: ReadonlyMap<string, Statement>
  readonly trackFiles: ReadonlyMap<string, TrackFile>
  readonly user: string | null
  readonly hostName: string
}

/** Seconds, where persistence is asked for without saying how long. */
const PERSISTENCE_S = 360
/** Looked at wherever they stand, also where no checker asks for them. */
const TIMERS = ['delay_loop', 'delay_before_retry', 'warmup', 'connect_timeout']
const MARK_MAX = 0xffffffff

const PROTOCOLS: Readonly<Record<string, Protocol>> = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' }

/** Bits of IPVS's scheduler flags by their words. */
const FLAGS = { 'flag-1': 0x08, 'flag-2': 0x10, 'flag-3': 0x20 } as const
const SCHEDULER_FLAGS: Readonly<Record<string, { readonly scheduler: string; readonly bit: number }>> = {
  'sh-fallback': { scheduler: 'sh', bit: 0x08 },
  'sh-port': { scheduler: 'sh', bit: 0x10 },
  'mh-fallback': { scheduler: 'mh', bit: 0x08 },
  'mh-port': { scheduler: 'mh', bit: 0x10 },
}

/** A real server before it is known which service it is for. */
interface Stated {
  readonly statement: Statement
  readonly settings: Settings
  readonly address: IpAddress
  readonly family: Family
  readonly port: number | null
  readonly way: Method
  readonly weight: number
  readonly upperThreshold: number
  readonly lowerThreshold: number
  readonly onFailure: OnFailure
  readonly start: Start
}

export function readServices(
  statement: Statement,
  context: ServicesContext,
  remarks: Remarks,
): readonly SiteService[] {
  return new VirtualServer(statement, context, remarks).services()
}

/** Equal checks of a service have one name, others have others: `tcp-check`, `tcp-check-2`. */
class CheckNames {
  readonly #byContent = new Map<string, string>()
  readonly #counts = new Map<string, number>()

  given(checks: readonly Check[]): readonly Check[] {
    return checks.map((check) => {
      const content = JSON.stringify(check)
      let name = this.#byContent.get(content)
      if (name === undefined) {
        const count = (this.#counts.get(check.name) ?? 0) + 1
        this.#counts.set(check.name, count)
        name = count === 1 ? check.name : `${check.name}-${count}`
        this.#byContent.set(content, name)
      }
      return { ...check, name }
    })
  }
}

class VirtualServer {
  readonly #statement: Statement
  readonly #context: ServicesContext
  readonly #remarks: Remarks
  readonly #settings: Settings

  constructor(statement: Statement, context: ServicesContext, remarks: Remarks) {
    this.#statement = statement
    this.#context = context
    this.#remarks = remarks
    this.#settings = new Settings(statement, remarks)
  }

  #remark(message: string, at = this.#statement.at): void {
    this.#remarks.remark(at, message)
  }

  get #name(): string {
    return `virtual_server ${this.#statement.words.slice(1).join(' ')}`
  }

  services(): readonly SiteService[] {
    const members = this.#members()
    if (members === null) return []
    const settings = this.#settings
    settings.ignore(['smtp_alert'], 'state changes are events of the API and lines of the log')
    settings.ignore(['snmp_name', 'ha_suspend', 'hashed'], 'it has no meaning here')
    for (const timer of TIMERS) settings.timerMs(settings.own(timer), timer === 'delay_loop' ? 0.000001 : 0)
    settings.flag(settings.own('smtp_alert'))
    const way = readMethod(settings.own('lb_kind', 'lvs_method'), this.#remarks)
    if (way === null && settings.own('lb_kind', 'lvs_method') === null)
      this.#remark(`${this.#name}: no forwarding method, so NAT`)
    const scheduler = this.#scheduler()
    const persistence = this.#persistence(members)
    const stated = this.#servers(way ?? NAT)
    const sorry = this.#sorry(way ?? NAT)
    if (stated.length === 0) {
      this.#remark(`${this.#name} has no real servers: passed over`)
      return []
    }
    const protocol = this.#protocol(members)
    const policy = this.#policy(stated)
    return members.flatMap((member): SiteService[] => {
      const id = this.#id(member, protocol, stated)
      const service: VirtualService = {
        id,
        scheduler,
        schedulerFlags: this.#flags(scheduler),
        onePacket: this.#onePacket(id),
        untracked: false,
        persistenceTimeoutS: persistence,
        netmask: this.#netmask(id.family),
        persistenceEngine: this.#engine(),
      }
      const servers = this.#serversOf(service, stated, policy)
      if (servers.length === 0) return []
      const sorryServer = sorry === null ? null : this.#realServer(service, sorry)
      const health = { ...policy, sorryServer }
      return [{ service, servers, health, filters: [], limit: null, at: this.#statement.at }]
    })
  }

  /** What the virtual server stands for; null: nothing. */
  #members(): readonly Member[] | null {
    const [, first = '', ...rest] = this.#statement.words
    if (first === 'fwmark') {
      const mark = /^\d+$/.test(rest[0] ?? '') ? Number(rest[0]) : Number.NaN
      if (mark >= 0 && mark <= MARK_MAX) return [{ kind: 'fwmark', mark, family: null }]
      this.#remark(
        `${this.#name}: "${rest[0] ?? ''}" is no firewall mark, expected a decimal number; passed over`,
      )
      return null
    }
    if (first === 'group') {
      const group = this.#context.groups.get(rest[0] ?? '')
      if (group === undefined) {
        this.#remarks.note(
          this.#statement.at,
          `${this.#name}: no virtual_server_group "${rest[0] ?? ''}"; passed over`,
        )
        return null
      }
      return groupMembers(group, this.#remarks)
    }
    if (/^[0-9a-fA-F.:]+-[0-9a-fA-F.:]+$/.test(first)) {
      this.#remarks.note(
        this.#statement.at,
        `${this.#name}: a range belongs in a virtual_server_group; passed over`,
      )
      return null
    }
    const where = readWhere([first, rest[0]], this.#statement, this.#name, this.#remarks)
    return where === null ? null : [{ kind: 'address', ...where }]
  }

  #scheduler(): SchedulerName {
    const statement = this.#settings.own('lb_algo', 'lvs_sched')
    const word = statement?.words[1]
    const known = SCHEDULERS.find((name) => name === word && name !== 'none')
    if (known !== undefined) return known
    if (statement === null) this.#remark(`${this.#name}: no scheduler, so wlc`)
    else this.#remark(`${statement.words[0]}: unknown scheduler "${word ?? ''}", so wlc`, statement.at)
    return 'wlc'
  }

  #flags(scheduler: SchedulerName): number {
    let flags = 0
    for (const [word, bit] of Object.entries(FLAGS)) if (this.#settings.own(word) !== null) flags |= bit
    for (const [word, { scheduler: wanted, bit }] of Object.entries(SCHEDULER_FLAGS)) {
      const statement = this.#settings.own(word)
      if (statement === null) continue
      if (scheduler === wanted) flags |= bit
      else this.#remark(`"${word}" is for the scheduler ${wanted}: it is ignored`, statement.at)
    }
    return flags
  }

  #onePacket(id: ServiceId): boolean {
    const statement = this.#settings.own('ops')
    if (statement === null || (id.kind === 'address' && id.protocol === 'udp')) return statement !== null
    this.#remark(`${this.#name}: "ops" is for UDP: it is ignored`)
    return false
  }

  /** Seconds; a service without port has to be persistent. */
  #persistence(members: readonly Member[]): number {
    const settings = this.#settings
    const statement = settings.own('persistence_timeout')
    const said =
      statement === null
        ? null
        : statement.words[1] === undefined
          ? PERSISTENCE_S
          : settings.number(statement, 1, TIMEOUT_MAX_S)
    if (said !== null) return said
    if (settings.own('persistence_granularity') !== null) return PERSISTENCE_S
    if (!members.some((member) => member.kind === 'address' && member.port === null)) return 0
    this.#remark(`${this.#name}: without a port only as a persistent service, so it is one`)
    return PERSISTENCE_S
  }

  #netmask(family: Family): number {
    const statement = this.#settings.own('persistence_granularity')
    if (statement === null) return WHOLE_ADDRESS[family]
    const text = statement.words[1] ?? ''
    if (family === 6) return this.#settings.number(statement, 1, 128) ?? WHOLE_ADDRESS[6]
    const address = parseIpv4(text)
    const mask = address === null ? 0 : ipv4ToNumber(address)
    // Ones, then zeros: its complement plus one is a power of two.
    const rest = ~mask >>> 0
    if (mask !== 0 && (rest & (rest + 1)) === 0) return mask
    this.#remarks.note(statement.at, `persistence_granularity: expected a netmask, got "${text}"`)
    return WHOLE_ADDRESS[4]
  }

  #engine(): 'sip' | null {
    const statement = this.#settings.own('persistence_engine')
    if (statement === null || statement.words[1] === 'sip') return statement === null ? null : 'sip'
    this.#remark(`persistence_engine: expected sip, got "${statement.words[1] ?? ''}"`, statement.at)
    return null
  }

  #protocol(members: readonly Member[]): Protocol {
    const statement = this.#settings.own('protocol')
    const marks = members.every(({ kind }) => kind === 'fwmark')
    if (statement !== null && marks)
      this.#remark(`${this.#name}: a firewall mark has no protocol: it is ignored`, statement.at)
    if (marks) return 'tcp'
    const word = (statement?.words[1] ?? '').toUpperCase()
    if (Object.hasOwn(PROTOCOLS, word)) return PROTOCOLS[word]!
    if (statement !== null)
      this.#remark(`protocol: expected TCP, UDP or SCTP, got "${statement.words[1] ?? ''}"`, statement.at)
    this.#remark(`${this.#name}: no protocol, so UDP`)
    return 'udp'
  }

  #id(member: Member, protocol: Protocol, stated: readonly Stated[]): ServiceId {
    if (member.kind === 'address') {
      const { address, family, port } = member
      const asked = this.#settings.own('ip_family')
      if (asked !== null && asked.words[1] !== (family === 4 ? 'inet' : 'inet6')) {
        this.#remark(`ip_family: "${asked.words[1] ?? ''}" is not that of ${address}`, asked.at)
      }
      return { kind: 'address', protocol, address, family, port: port ?? 0 }
    }
    const said = this.#settings.own('ip_family')?.words[1]
    const families = new Set(stated.map(({ family }) => family))
    const fromServers = families.size === 1 ? [...families][0]! : 4
    const family = member.family ?? (said === 'inet6' ? 6 : said === 'inet' ? 4 : fromServers)
    return { kind: 'fwmark', mark: member.mark, family }
  }

  #servers(way: Method): readonly Stated[] {
    return this.#settings.all('real_server').flatMap((statement): Stated[] => {
      const [, ...words] = statement.words
      const where = readWhere(words, statement, `real_server ${words.join(' ')}`, this.#remarks)
      if (where === null) return []
      const settings = new Settings(statement, this.#remarks, this.#settings)
      settings.ignore(['smtp_alert'], 'state changes are events of the API and lines of the log')
      settings.ignore(['snmp_name'], 'it has no meaning here')
      const weight = settings.number(settings.find('weight'), 0, INT_MAX) ?? 1
      const upperThreshold = settings.number(settings.own('uthreshold'), 0, INT_MAX) ?? 0
      const lowerThreshold = settings.number(settings.own('lthreshold'), 0, INT_MAX) ?? 0
      return [
        {
          ...{ statement, settings, ...where, weight },
          way: readMethod(settings.own('lvs_method'), this.#remarks) ?? way,
          upperThreshold,
          lowerThreshold: Math.min(lowerThreshold, upperThreshold),
          onFailure: settings.flag(settings.find('inhibit_on_failure')) === true ? 'drain' : 'remove',
          start: settings.flag(settings.find('alpha')) === true ? 'down' : 'up',
        },
      ]
    })
  }

  #sorry(way: Method): Stated | null {
    const settings = this.#settings
    const statement = settings.own('sorry_server')
    if (statement === null) return null
    const words = statement.words.slice(1)
    const where = readWhere(words, statement, `sorry_server ${words.join(' ')}`, this.#remarks)
    if (where === null) return null
    const own = readMethod(settings.own('sorry_server_lvs_method'), this.#remarks)
    return {
      ...{ statement, settings, ...where },
      way: own ?? way,
      weight: 1,
      upperThreshold: 0,
      lowerThreshold: 0,
      ...{ onFailure: DEFAULT_HEALTH_POLICY.onFailure, start: DEFAULT_HEALTH_POLICY.start },
    }
  }

  #serversOf(service: VirtualService, stated: readonly Stated[], policy: HealthPolicy): SiteServer[] {
    const known = new Set<string>()
    const names = new CheckNames()
    return stated.flatMap((one): SiteServer[] => {
      const real = this.#realServer(service, one)
      if (real === null) return []
      const key = serverKey(real.id)
      if (known.has(key)) {
        this.#remark(
          `real_server ${one.statement.words.slice(1).join(' ')} is stated twice: the second is passed over`,
          one.statement.at,
        )
        return []
      }
      known.add(key)
      const context = { ...this.#context, service: service.id, server: real }
      const checkers = one.settings.all(...CHECKERS)
      return [
        {
          real,
          checks: names.given(checkers.flatMap((checker) => readChecker(checker, one.settings, context))),
          policy: {
            onUp: this.#hook(one.settings.own('notify_up')),
            onDown: this.#hook(one.settings.own('notify_down')),
            onFailure: one.onFailure === policy.onFailure ? null : one.onFailure,
            start: one.start === policy.start ? null : one.start,
          },
          pool: null,
        },
      ]
    })
  }

  #realServer({ id }: VirtualService, stated: Stated): RealServer | null {
    const { address, family, way, weight, upperThreshold, lowerThreshold, statement } = stated
    const name = statement.words.join(' ')
    if (family !== id.family && way.method !== 'tunnel') {
      const end = statement.words[0] === 'sorry_server' ? this.#statement.end : statement.end
      this.#remark(`${name}: other addresses than its service's only with TUN: passed over`, end)
      return null
    }
    let port = stated.port ?? 0
    if (id.kind === 'fwmark') {
      if (port !== 0 && this.#statement.words[1] === 'fwmark')
        this.#remark(`${name}: a service of a firewall mark has no real port: it is ignored`, statement.at)
      port = 0
    } else if (!translates(way.method)) {
      if (port !== id.port) this.#remark(`${name}: only NAT changes ports, so ${id.port}`, statement.at)
      port = id.port
    } else if (stated.port === null) port = id.port
    return { id: { address, family, port }, ...way, weight, upperThreshold, lowerThreshold }
  }

  #hook(statement: Statement | null): Hook | null {
    if (statement === null) return null
    const [name, text = '', user = null] = statement.words
    const command = wordsOf(text)
    if (command.length === 0) {
      this.#remark(`${name}: expected a script`, statement.at)
      return null
    }
    this.#remarks.script(command)
    return { command, user: user ?? this.#context.user }
  }

  #policy(stated: readonly Stated[]): HealthPolicy {
    const settings = this.#settings
    const quorumStatement = settings.own('quorum')
    const quorum = settings.number(quorumStatement, 1, INT_MAX) ?? 1
    const hysteresisStatement = settings.own('hysteresis')
    const hysteresis = settings.number(hysteresisStatement, 0, INT_MAX) ?? 0
    if (hysteresis >= quorum && hysteresis > 0) {
      this.#remark(
        `hysteresis: expected less than the quorum (${quorum}), got ${hysteresis}`,
        hysteresisStatement!.at,
      )
    }
    return {
      ...DEFAULT_HEALTH_POLICY,
      quorum,
      hysteresis: Math.min(hysteresis, quorum - 1),
      onQuorumUp: this.#hook(settings.own('quorum_up')),
      onQuorumDown: this.#hook(settings.own('quorum_down')),
      // What most of them say is said of the service.
      onFailure:
        2 * stated.filter(({ onFailure }) => onFailure === 'drain').length > stated.length
          ? 'drain'
          : 'remove',
      start: 2 * stated.filter(({ start }) => start === 'down').length > stated.length ? 'down' : 'up',
      hooksAtEnd: settings.own('omega') !== null,
      sorryStays: settings.own('sorry_server_inhibit') !== null,
    }
  }
}
