/** Checkers of keepalived as checks. */
import { type IpAddress, parseAddress } from '../../../net/address.ts'
import {
  type Check,
  type CheckQuestion,
  type CheckTiming,
  DNS_TYPES,
  type HttpRequest,
} from '../../model/check.ts'
import type { RealServer } from '../../model/server.ts'
import type { ServiceId } from '../../model/service.ts'
import type { Statement } from './blocks.ts'
import { hexPattern, hexPayload } from './hex.ts'
import { readPort } from './methods.ts'
import { Settings } from './settings.ts'
import { wordsOf } from './words.ts'

export interface TrackFile {
  readonly file: string
  readonly weight: number
}

export interface CheckContext {
  readonly service: ServiceId
  readonly server: RealServer
  readonly trackFiles: ReadonlyMap<string, TrackFile>
  /** global_defs: script_user. */
  readonly user: string | null
  /** What we call ourselves where a checker says nothing. */
  readonly hostName: string
}

export const CHECKERS = [
  ...['HTTP_GET', 'SSL_GET', 'TCP_CHECK', 'SMTP_CHECK', 'DNS_CHECK', 'MISC_CHECK', 'BFD_CHECK', 'PING_CHECK'],
  ...['UDP_CHECK', 'FILE_CHECK'],
] as const

const DELAY_LOOP_MS = 60_000
const CONNECT_TIMEOUT_MS = 5_000
const UINT32_MAX = 0xffffffff

/** The defaults that are not the same for all: tries again, and after how long; null: as often as else. */
const RETRIES: Readonly<Record<string, number>> = { DNS_CHECK: 3, MISC_CHECK: 0, FILE_CHECK: 0 }
const RETRY_DELAYS_MS: Readonly<Record<string, number | null>> = {
  DNS_CHECK: null,
  HTTP_GET: 3_000,
  SSL_GET: 3_000,
}

function timing(kind: string, checker: Settings): CheckTiming {
  const intervalMs = checker.timerMs(checker.find('delay_loop'), 0.000001) ?? DELAY_LOOP_MS
  const retries = checker.number(checker.find('retry', 'nb_get_retry'), 0, UINT32_MAX) ?? RETRIES[kind] ?? 1
  const deprecated = checker.own('nb_get_retry')
  if (deprecated !== null) checker.remarks.remark(deprecated.at, '"nb_get_retry" is old: say "retry"')
  const delay = kind in RETRY_DELAYS_MS ? RETRY_DELAYS_MS[kind]! : 1_000
  return {
    intervalMs,
    retryIntervalMs: checker.timerMs(checker.find('delay_before_retry')) ?? delay ?? intervalMs,
    timeoutMs: checker.timerMs(checker.find('connect_timeout'), 0.000001) ?? CONNECT_TIMEOUT_MS,
    rise: 1,
    fall: retries + 1,
    startJitterMs: checker.timerMs(checker.find('warmup')) ?? intervalMs,
  }
}

/** Where a checker connects to. */
interface Target {
  readonly path: Check['path']
  readonly address: IpAddress | null
  readonly port: number | null
  readonly source: IpAddress | null
}

function addressOf(settings: Settings, name: string): IpAddress | null {
  const statement = settings.own(name)
  if (statement === null) return null
  const address = parseAddress(statement.words[1] ?? '')
  if (address === null) {
    settings.remarks.remark(statement.at, `${name}: "${statement.words[1] ?? ''}" is no address`)
  }
  return address
}

function target(settings: Settings, { service, server }: CheckContext): Target {
  const address = addressOf(settings, 'connect_ip')
  const source = addressOf(settings, 'bindto')
  const portStatement = settings.own('connect_port')
  let port = portStatement === null ? null : readPort(portStatement.words[1] ?? '')
  if (portStatement !== null && !(port! > 0)) {
    settings.remarks.remark(
      portStatement.at,
      `connect_port: expected 1 to 65535, got "${portStatement.words[1] ?? ''}"`,
    )
    port = null
  }
  const virtual = service.kind === 'address' && service.address === address
  const mark = settings.own('fwmark')
  if (virtual) {
    settings.remarks.noteOnce(
      settings.at,
      'connect_ip is the virtual address: such checks go over the forwarding path of the real server; bindto and fwmark are not needed for that, nor are their routes and tunnels',
    )
    return { path: 'service', address: null, port: port === service.port ? null : port, source: null }
  }
  if (mark !== null)
    settings.remarks.note(
      mark.at,
      '"fwmark" of a checker is not taken: expected connect_ip to be the virtual address',
    )
  settings.ignore(['bind_if', 'bind_port'], 'checks take any port of ours, and the way that the kernel has')
  return {
    path: 'direct',
    address: address === server.id.address ? null : address,
    port: port === server.id.port ? null : port,
    source,
  }
}

/** The checks of one block: one, or one for each name or host that it asks with; named after their kind. */
export function readChecker(statement: Statement, above: Settings, context: CheckContext): readonly Check[] {
  const [kind = ''] = statement.words
  const checker = new Settings(statement, above.remarks, above)
  checker.ignore(['log_all_failures'], 'every result is in pointsman health')
  const questions = questionsOf(kind, checker, context)
  const times = timing(kind, checker)
  return questions.map(({ question, at, timeoutMs }) => ({
    ...times,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    name: kind.toLowerCase().replaceAll('_', '-'),
    question,
    ...target(at, context),
  }))
}

interface Asked {
  readonly question: CheckQuestion
  /** The block that says where. */
  readonly at: Settings
  readonly timeoutMs?: number
}

function questionsOf(kind: string, checker: Settings, context: CheckContext): readonly Asked[] {
  const one = (question: CheckQuestion): readonly Asked[] => [{ question, at: checker }]
  const { remarks } = checker
  switch (kind) {
    case 'TCP_CHECK':
      return one({ kind: 'tcp' })
    case 'PING_CHECK':
      return one({ kind: 'ping' })
    case 'HTTP_GET':
    case 'SSL_GET':
      return httpQuestions(kind, checker)
    case 'SMTP_CHECK': {
      const question = { kind: 'smtp', helo: checker.text('helo_name') ?? context.hostName } as const
      const hosts = checker.all('host').map((host) => new Settings(host, remarks, checker))
      return hosts.length === 0 ? one(question) : hosts.map((at) => ({ question, at }))
    }
    case 'DNS_CHECK': {
      const text = checker.text('type') ?? 'SOA'
      const type = DNS_TYPES.find((known) => known === text)
      if (type === undefined)
        remarks.remark(checker.own('type')!.at, `type: unknown type "${text}", asking for SOA`)
      const name = checker.text('name') ?? '.'
      return one({ kind: 'dns', name, type: type ?? 'SOA' })
    }
    case 'MISC_CHECK': {
      const path = checker.text('misc_path')
      const command = path === null ? [] : wordsOf(path)
      if (command.length === 0) {
        remarks.remark(checker.end, 'MISC_CHECK without misc_path: passed over')
        return []
      }
      remarks.script(command)
      const timeoutMs = checker.timerMs(checker.own('misc_timeout'), 0.000001)
      const question = {
        kind: 'exec',
        command,
        user: checker.own('user')?.words[1] ?? context.user,
        result: checker.own('misc_dynamic') === null ? 'status' : 'weight',
      } as const
      const limit = timeoutMs ?? checker.timerMs(checker.find('delay_loop'), 0.000001) ?? DELAY_LOOP_MS
      return [{ question, at: checker, timeoutMs: limit }]
    }
    case 'UDP_CHECK':
      return one(udpQuestion(checker))
    case 'FILE_CHECK':
      return fileQuestions(checker, context)
    case 'BFD_CHECK':
      remarks.note(
        checker.at,
        'BFD_CHECK is not taken: let a routing daemon have BFD, and a FILE_CHECK its result',
      )
      return []
    default:
      throw new Error(`Checker "${kind}" is in the grammar and nowhere else`)
  }
}

function fileQuestions(checker: Settings, { trackFiles }: CheckContext): readonly Asked[] {
  const name = checker.text('track_file')
  const track = name === null ? undefined : trackFiles.get(name)
  if (track === undefined) {
    const statement = checker.own('track_file')
    if (statement !== null) checker.remarks.remark(statement.at, `track_file "${name}" is not defined`)
    checker.remarks.remark(checker.end, 'FILE_CHECK without track_file: passed over')
    return []
  }
  const weight = checker.own('weight')
  const [, text, reverse] = weight?.words ?? []
  const own = text === undefined ? null : /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN
  if (own !== null && Number.isNaN(own))
    checker.remarks.remark(weight!.at, `weight: expected a number, got "${text}"`)
  const factor = (own === null || Number.isNaN(own) ? track.weight : own) * (reverse === 'reverse' ? -1 : 1)
  return [{ question: { kind: 'file', file: track.file, factor: factor === 0 ? 1 : factor }, at: checker }]
}

function udpQuestion(checker: Settings): CheckQuestion {
  checker.ignore(['min_reply_length', 'max_reply_length'], 'an answer of any length is one')
  const rest = (name: string): readonly string[] | null => checker.own(name)?.words.slice(1) ?? null
  const payload = rest('payload')
  const sent = payload === null ? '' : hexPayload(payload)
  if (sent === null)
    checker.remarks.remark(checker.own('payload')!.at, `payload: "${payload!.join(' ')}" is not hexadecimal`)
  const reply = rest('require_reply')
  const match = reply === null || reply.length === 0 ? null : hexPattern(reply)
  if (reply !== null && reply.length > 0 && match === null) {
    checker.remarks.remark(
      checker.own('require_reply')!.at,
      `require_reply: "${reply.join(' ')}" is not hexadecimal`,
    )
  }
  return { kind: 'udp', payload: sent ?? '', reply: { required: reply !== null, match } }
}

const ANY_STATUS = [{ from: 100, to: 599 }]
const GOOD_STATUS = [{ from: 200, to: 299 }]

function httpQuestions(kind: string, checker: Settings): readonly Asked[] {
  checker.ignore(['fast_recovery'], 'all urls are asked each time')
  const byHost = new Map<string | null, HttpRequest[]>()
  for (const statement of checker.all('url')) {
    const url = new Settings(statement, checker.remarks, checker)
    const request = httpRequest(url)
    if (request === null) continue
    const host = url.find('virtualhost')?.words[1] ?? null
    byHost.set(host, [...(byHost.get(host) ?? []), request])
  }
  if (byHost.size === 0) {
    checker.remarks.remark(checker.end, `${kind} without url: passed over`)
    return []
  }
  const protocol = checker.own('http_protocol')
  const version = protocol?.words[1] ?? '1.0'
  if (!['1.0', '1.0C', '1.0c', '1.1'].includes(version)) {
    checker.remarks.remark(protocol!.at, `http_protocol: expected 1.0, 1.0C or 1.1, got "${version}"`)
  }
  const sni = checker.own('enable_sni') !== null
  return [...byHost].map(([host, requests]) => ({
    at: checker,
    question: {
      kind: 'http',
      tls: kind === 'HTTP_GET' ? null : { serverName: sni ? host : null, verify: false, ca: null },
      method: 'GET',
      version: version === '1.1' ? '1.1' : '1.0',
      host,
      requests,
    },
  }))
}

const MD5_DIGITS = 32

function httpRequest(url: Settings): HttpRequest | null {
  const { remarks } = url
  url.ignore(
    ['regex_options', 'regex_stack', 'regex_min_offset', 'regex_max_offset'],
    'a regex is one of JavaScript here, over the whole body',
  )
  const digestText = url.text('digest')
  const digestRight =
    digestText !== null && digestText.length === MD5_DIGITS && /^[0-9a-fA-F]+$/.test(digestText)
  if (digestText !== null && !digestRight) {
    remarks.remark(
      url.own('digest')!.at,
      `digest: expected ${MD5_DIGITS} hexadecimal digits, got "${digestText}"`,
    )
  }
  const body = bodyPattern(url)
  const statuses = statusRanges(url)
  const path = url.text('path')
  if (path === null) {
    remarks.remark(url.end, 'url without path: passed over')
    return null
  }
  return {
    path,
    status: statuses ?? (digestRight || body !== null ? ANY_STATUS : GOOD_STATUS),
    body,
    digest: digestRight ? { algorithm: 'md5', hex: digestText.toLowerCase() } : null,
  }
}

function bodyPattern(url: Settings): string | null {
  const regex = url.text('regex')
  if (regex === null) return null
  const pattern = url.own('regex_no_match') === null ? regex : `^(?!.*(?:${regex}))`
  try {
    new RegExp(pattern, 's')
    return pattern
  } catch (error) {
    url.remarks.note(
      url.own('regex')!.at,
      `regex is not taken: ${error instanceof Error ? error.message : error}`,
    )
    return null
  }
}

function statusRanges(url: Settings): HttpRequest['status'] | null {
  const statement = url.own('status_code')
  if (statement === null) return null
  const ranges: { from: number; to: number }[] = []
  for (const word of statement.words.slice(1)) {
    const match = /^(\d{3})(?:-(\d{3}))?$/.exec(word)
    const from = Number(match?.[1])
    const to = Number(match?.[2] ?? match?.[1])
    // On one line with path, what follows is not a status at all.
    if (from >= 100 && to <= 599 && from <= to) ranges.push({ from, to })
    else url.remarks.remark(statement.at, `status_code: "${word}" is no status, expected 100 to 599`)
  }
  return ranges.length === 0 ? null : ranges
}
