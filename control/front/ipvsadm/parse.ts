/** From the words of a command line to a request that may be carried out, or a refusal. */

import type { Family, IpAddress } from '../../../net/address.ts'
import type { Protocol } from '../../../net/protocol.ts'
import { TIMEOUT_MAX_S } from '../../model/limits.ts'
import { type RealServer, type ServerId, type Tunnel, translates } from '../../model/server.ts'
import type { ServiceId, ServiceRequest } from '../../model/service.ts'
import type { Timeouts } from '../../model/timeouts.ts'
import { type Draft, newDraft, persistByDefault, READERS, timeoutRefusal } from './draft.ts'
import { type CommandName, DEFAULT_INTERFACE, DEFAULT_SCHEDULER, type OptionName } from './grammar.ts'
import { checkLegality, type OptionSet } from './legality.ts'
import type { Names } from './names.ts'
import { parseNumber, parseSchedulerFlags } from './values.ts'
import { WordReader } from './words.ts'

export interface DaemonRequest {
  readonly state: 'master' | 'backup'
  readonly interface: string
  readonly syncId: number
  readonly maxLength: number | undefined
  readonly group: IpAddress | undefined
  readonly port: number | undefined
  readonly ttl: number | undefined
}

/** What `-L` shows of services; the first of these options wins, in this order. */
export type ListFormat = 'stats' | 'rate' | 'thresholds' | 'persistent-conn' | 'tun-info' | 'default'

export interface ListStyle {
  readonly format: ListFormat
  readonly numeric: boolean
  readonly exact: boolean
  readonly sorted: boolean
  /** `-L -c` shows engine data with `--persistent-conn`, whatever the format. */
  readonly persistentConn: boolean
}

export type Request =
  | { readonly kind: 'add-service' | 'edit-service'; readonly service: ServiceRequest }
  | { readonly kind: 'delete-service'; readonly id: ServiceId }
  | { readonly kind: 'flush' }
  | { readonly kind: 'zero'; readonly id: ServiceId | null }
  | { readonly kind: 'add-server' | 'edit-server'; readonly id: ServiceId; readonly server: RealServer }
  | { readonly kind: 'delete-server'; readonly id: ServiceId; readonly server: ServerId }
  | { readonly kind: 'list-services'; readonly style: ListStyle; readonly id: ServiceId | null }
  | { readonly kind: 'list-connections'; readonly style: ListStyle }
  | { readonly kind: 'list-timeouts' }
  | { readonly kind: 'list-daemons' }
  | { readonly kind: 'save'; readonly numeric: boolean }
  | { readonly kind: 'restore' }
  | { readonly kind: 'set'; readonly timeouts: Timeouts }
  | { readonly kind: 'start-daemon'; readonly daemon: DaemonRequest }
  | { readonly kind: 'stop-daemon'; readonly state: 'master' | 'backup' }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }

/**
 * A command line that is wrong. `ends`: the original exits on the spot, which ends a restore too; the
 * others are errors a restore goes on after.
 */
export interface Refusal {
  readonly kind: 'refused'
  readonly status: 2 | 255
  readonly message: string
  readonly ends: boolean
}

const fail = (message: string): Refusal => ({ kind: 'refused', status: 2, message, ends: true })

export const helpHint = (program: string): string =>
  `Try \`${program} -h' or '${program} --help' for more information.`

const tryHelp = (program: string): Refusal => ({
  kind: 'refused',
  status: 255,
  message: helpHint(program),
  ends: true,
})

/**
 * @param words the program's name, then its arguments, as bytes (latin1)
 */
export function parse(words: readonly string[], names: Names): Request | Refusal {
  const program = words[0] ?? 'ipvsadm'
  const reader = new WordReader(words, 1)
  const first = reader.next()
  if (first === null || typeof first === 'string') return tryHelp(program)
  if (first.role.kind === 'help' || first.role.kind === 'version') return { kind: first.role.kind }
  if (first.role.kind !== 'command') return tryHelp(program)
  const command = first.role.command

  let state: 'master' | 'backup' = 'master'
  if (first.role.state) {
    if (reader.argument !== 'master' && reader.argument !== 'backup') {
      return fail(
        `illegal ${command === 'start-daemon' ? 'start-daemon parameter' : 'start_daemon'} specified`,
      )
    }
    state = reader.argument
  }

  const draft = newDraft()
  const options = new Set<OptionName>()
  const refusal = readOptions(reader, draft, options, names)
  if (refusal !== null) return refusal

  let timeouts: Timeouts | null = null
  if (command === 'set') {
    const read = readTimeouts(reader.leftOver)
    if ('kind' in read) return read
    timeouts = read
    reader.leftOver.splice(0, 3)
  }
  const unexpected = reader.leftOver[0]
  if (unexpected !== undefined) return fail(`unexpected argument ${unexpected}`)

  const flags = parseSchedulerFlags(draft.flags, draft.scheduler)
  if (typeof flags === 'object') return fail(flags.error)
  const illegal = checkLegality(command, options, draft)
  if (illegal !== null) return fail(illegal)
  return toRequest(command, { draft, options, flags, timeouts, state })
}

function readOptions(
  reader: WordReader,
  draft: Draft,
  options: Set<OptionName>,
  names: Names,
): Refusal | null {
  for (;;) {
    const spelling = reader.next()
    if (spelling === null) return null
    if (typeof spelling === 'string') {
      return { kind: 'refused', status: 255, message: `${reader.lastWord}: ${spelling}`, ends: false }
    }
    const role = spelling.role
    switch (role.kind) {
      case 'command':
      case 'help':
      case 'version':
        return fail(`invalid option \`${reader.lastWord}'`)
      case 'nothing':
        break
      case 'ipv6':
        // The blank line after this message is the original's.
        if (draft.mark === 0) return fail('-6 used before -f\n')
        draft.family = 6
        draft.netmask = 128
        break
      case 'option': {
        if (options.has(role.option)) return fail(`multiple '${role.option}' options specified`)
        options.add(role.option)
        if (role.reader === undefined) break
        if (reader.argument === null && spelling.argument === 'optional') {
          persistByDefault(draft)
          break
        }
        const message = READERS[role.reader](draft, reader.argument ?? '', role.value ?? '', names)
        if (message !== null) return fail(message)
        break
      }
      default:
        role satisfies never
    }
  }
}

function readTimeouts(words: readonly string[]): Timeouts | Refusal {
  if (words.length < 3) return fail('--set option requires 3 timeout values')
  const values: number[] = []
  for (const word of words.slice(0, 3)) {
    const value = parseNumber(word, 0, TIMEOUT_MAX_S)
    if (value === null) return fail(timeoutRefusal(word))
    values.push(value)
  }
  return { tcp: values[0]!, tcpFin: values[1]!, udp: values[2]! }
}

interface Parsed {
  readonly draft: Draft
  readonly options: OptionSet
  readonly flags: number
  readonly timeouts: Timeouts | null
  readonly state: 'master' | 'backup'
}

function toRequest(command: CommandName, parsed: Parsed): Request {
  const { draft, options } = parsed
  switch (command) {
    case 'add-service':
    case 'edit-service':
      return {
        kind: command,
        service: {
          id: serviceId(draft),
          scheduler: draft.scheduler || DEFAULT_SCHEDULER,
          schedulerFlags: parsed.flags,
          onePacket: draft.onePacket,
          untracked: draft.untracked,
          persistenceTimeoutS: draft.persistenceTimeoutS,
          netmask: draft.netmask,
          persistenceEngine: draft.engine === '' ? null : draft.engine,
        },
      }
    case 'delete-service':
      return { kind: command, id: serviceId(draft) }
    case 'zero':
      return { kind: command, id: options.has('service-address') ? serviceId(draft) : null }
    case 'add-server':
    case 'edit-server':
      return { kind: command, id: serviceId(draft), server: realServer(draft) }
    case 'delete-server':
      return { kind: command, id: serviceId(draft), server: serverId(draft, draft.serverPort) }
    case 'list':
      return listRequest(draft, options)
    case 'save':
      return { kind: command, numeric: options.has('numeric') }
    case 'set':
      return { kind: command, timeouts: parsed.timeouts! }
    case 'start-daemon':
      return {
        kind: command,
        daemon: {
          state: parsed.state,
          interface: draft.interface || DEFAULT_INTERFACE,
          syncId: draft.syncId,
          maxLength: draft.maxLength,
          group: draft.group,
          port: draft.groupPort,
          ttl: draft.groupTtl,
        },
      }
    case 'stop-daemon':
      return { kind: command, state: parsed.state }
    case 'flush':
    case 'restore':
      return { kind: command }
    default:
      return command satisfies never
  }
}

function serviceId(draft: Draft): ServiceId {
  if (draft.mark !== 0) return { kind: 'fwmark', mark: draft.mark, family: draft.family }
  const protocol: Protocol = draft.protocol ?? 'tcp'
  return { kind: 'address', protocol, address: draft.address, family: draft.family, port: draft.port }
}

function serverId(draft: Draft, port: number): ServerId {
  const family: Family = draft.serverFamily
  return { address: draft.serverAddress, family, port }
}

function realServer(draft: Draft): RealServer {
  // Direct routing and tunnels leave the packet's port alone, so a port of the real server's own would
  // be a lie; with a firewall mark there is no one service port to put in its place.
  const keepsPort = draft.mark === 0 && !translates(draft.method)
  return {
    id: serverId(draft, keepsPort ? draft.port : draft.serverPort),
    method: draft.method,
    tunnel: tunnel(draft),
    weight: draft.weight,
    upperThreshold: draft.upperThreshold,
    lowerThreshold: draft.lowerThreshold,
  }
}

function tunnel(draft: Draft): Tunnel {
  switch (draft.tunnelType) {
    case 'ipip':
      return { type: 'ipip' }
    case 'gue':
      return { type: 'gue', port: draft.tunnelPort, checksum: draft.tunnelChecksum }
    case 'gre':
      // The table of tunnel options has refused `remcsum` for GRE.
      return { type: 'gre', checksum: draft.tunnelChecksum === 'csum' ? 'csum' : 'none' }
    default:
      return draft.tunnelType satisfies never
  }
}

const FORMATS = ['stats', 'rate', 'thresholds', 'persistent-conn', 'tun-info'] as const

function listRequest(draft: Draft, options: OptionSet): Request {
  const style: ListStyle = {
    format: FORMATS.find((format) => options.has(format)) ?? 'default',
    numeric: options.has('numeric'),
    exact: options.has('exact'),
    sorted: !options.has('nosort'),
    persistentConn: options.has('persistent-conn'),
  }
  if (options.has('connection')) return { kind: 'list-connections', style }
  if (options.has('service-address')) return { kind: 'list-services', style, id: serviceId(draft) }
  if (options.has('timeout')) return { kind: 'list-timeouts' }
  if (options.has('daemon')) return { kind: 'list-daemons' }
  return { kind: 'list-services', style, id: null }
}

/** What `ipvsadm` without arguments does. */
export const LIST_ALL: Request = {
  kind: 'list-services',
  style: { format: 'default', numeric: false, exact: false, sorted: true, persistentConn: false },
  id: null,
}
