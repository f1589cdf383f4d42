/**
 * A site from keepalived.conf as it is. Tolerant in what it takes and loud in what it says: what keepalived
 * 2.2 remarks on is remarked on, and what it acts on and we do not is said, too.
 */
import { hostname } from 'node:os'
import { basename, dirname, resolve } from 'node:path'
import { serviceKey } from '../../model/identity.ts'
import {
  type Complaint,
  type DirectorSettings,
  NO_DIRECTOR_SETTINGS,
  placeText,
  type Site,
  type SiteService,
} from '../../model/site.ts'
import type { DaemonRequest } from '../../model/sync-daemon.ts'
import type { Files, Reading } from '../file/read.ts'
import { blocksOf, type Statement } from './blocks.ts'
import type { TrackFile } from './checks.ts'
import { LineReader } from './lines.ts'
import { readServices } from './services.ts'
import { Remarks, Settings } from './settings.ts'

export interface KeepalivedOptions {
  /** For lines that begin with `@`: keepalived's option -i, the host's name without domain by default. */
  readonly configId: string
  /** What SMTP servers are greeted with. */
  readonly hostName: string
}

export interface KeepalivedReading extends Reading {
  /** As keepalived -t ends: 0 nothing to say, 5 remarks, 6 scripts without script security, 1 no file. */
  readonly status: 0 | 1 | 5 | 6
}

/** What keepalived takes for this host. */
export function thisHost(): KeepalivedOptions {
  const hostName = hostname()
  return { configId: hostName.replace(/\..*$/, ''), hostName }
}

const CLEAN = 0
const UNREADABLE = 1
const REMARKS = 5
const SCRIPT_SECURITY = 6

export function readKeepalived(path: string, files: Files, options: KeepalivedOptions): KeepalivedReading {
  const reader = new LineReader(files, { configId: options.configId })
  if (!reader.read(resolve(path))) return { site: null, complaints: reader.complaints, status: UNREADABLE }
  const blocks = blocksOf(reader.lines)
  const remarks = new Remarks((path) => isThere(path, files))
  remarks.remarks.push(...reader.complaints, ...blocks.complaints)
  if (blocks.elsewhere !== null) {
    remarks.note(
      blocks.elsewhere,
      'VRRP, BFD and static addresses are left to keepalived itself, run as: keepalived -P',
    )
  }
  const site = siteOf(blocks.statements, reader.files, options, remarks)
  const security = globals(blocks.statements).some(
    (settings) => settings.own('enable_script_security') !== null,
  )
  if (remarks.scripts && !security) {
    const at = { file: reader.files[0]!, line: 1, column: 1 }
    remarks.remark(at, 'Scripts are run, and enable_script_security is not said in global_defs')
  }
  const complaints = [...remarks.remarks, ...remarks.notes].sort(byPlace)
  const status = remarks.scripts && !security ? SCRIPT_SECURITY : remarks.remarks.length > 0 ? REMARKS : CLEAN
  return { site, complaints, status }
}

function isThere(path: string, files: Files): boolean {
  try {
    return files.list(dirname(path)).includes(basename(path))
  } catch {
    return false
  }
}

function byPlace(a: Complaint, b: Complaint): number {
  if (a.at.file !== b.at.file) return a.at.file < b.at.file ? -1 : 1
  return a.at.line - b.at.line
}

const named = (statements: readonly Statement[], ...names: readonly string[]): readonly Statement[] =>
  statements.filter(({ words }) => names.includes(words[0]!))

const globals = (statements: readonly Statement[]): readonly Settings[] =>
  named(statements, 'global_defs').map((statement) => new Settings(statement, new Remarks()))

function siteOf(
  statements: readonly Statement[],
  files: readonly string[],
  { hostName }: KeepalivedOptions,
  remarks: Remarks,
): Site {
  const groups = new Map(
    named(statements, 'virtual_server_group').map((group) => [group.words[1] ?? '', group]),
  )
  const trackFiles = new Map<string, TrackFile>()
  for (const statement of named(statements, 'track_file', 'vrrp_track_file')) {
    const settings = new Settings(statement, remarks)
    const file = settings.text('file')
    const weight = Number(settings.own('weight')?.words[1] ?? 1)
    if (file !== null) trackFiles.set(statement.words[1] ?? '', { file, weight })
  }
  for (const { at } of named(statements, 'SSL'))
    remarks.note(at, 'The block SSL is not taken: SSL_GET verifies no certificate and shows none')
  const user =
    globals(statements)
      .findLast((settings) => settings.own('script_user') !== null)
      ?.own('script_user')?.words[1] ?? null
  const context = { groups, trackFiles, user, hostName }
  const known = new Map<string, SiteService>()
  for (const statement of named(statements, 'virtual_server')) {
    for (const service of readServices(statement, context, remarks)) {
      const key = serviceKey(service.service.id)
      const other = known.get(key)
      if (other === undefined) known.set(key, service)
      else
        remarks.note(
          service.at,
          `virtual_server ${statement.words.slice(1).join(' ')} stands at ${placeText(other.at)}, too: passed over`,
        )
    }
  }
  return {
    services: [...known.values()],
    director: directorOf(statements, remarks),
    filters: [],
    marks: [],
    files,
    watched: [],
    followed: [],
  }
}

function directorOf(statements: readonly Statement[], remarks: Remarks): DirectorSettings {
  let settings = NO_DIRECTOR_SETTINGS
  for (const block of named(statements, 'global_defs')) {
    const inside = new Settings(block, remarks)
    inside.ignore(
      ['lvs_flush', 'lvs_flush_on_stop'],
      'of services those that stand here are replaced, and those of others are left',
    )
    inside.ignore(['lvs_notify_fifo', 'lvs_notify_fifo_script'], 'state changes are events of the API')
    const timeouts = inside.own('lvs_timeouts')
    if (timeouts !== null) settings = { ...settings, timeouts: timeoutsOf(timeouts, remarks) }
    const daemon = inside.own('lvs_sync_daemon')
    if (daemon !== null) settings = { ...settings, daemons: daemonsOf(daemon, remarks) }
  }
  return settings
}

/** `tcp 900 tcpfin 120 udp 300`, any of them in any order. */
function timeoutsOf({ words, at }: Statement, remarks: Remarks): DirectorSettings['timeouts'] {
  const timeouts = { tcp: 0, tcpfin: 0, udp: 0 }
  for (let i = 1; i < words.length; i += 2) {
    const name = words[i]!
    const value = Number(words[i + 1])
    if (!(name in timeouts) || !Number.isInteger(value) || value < 0) {
      remarks.remark(
        at,
        `lvs_timeouts: expected tcp, tcpfin or udp with seconds, got "${name} ${words[i + 1] ?? ''}"`,
      )
    } else timeouts[name as keyof typeof timeouts] = value
  }
  return { tcp: timeouts.tcp, tcpFin: timeouts.tcpfin, udp: timeouts.udp }
}

/** `INTERFACE [INSTANCE] [id N] [maxlen N] [port N] [ttl N] [group ADDRESS]` */
function daemonsOf({ words, at }: Statement, remarks: Remarks): readonly DaemonRequest[] {
  const [, nic = '', ...rest] = words
  const options = ['id', 'maxlen', 'port', 'ttl', 'group']
  const numbers: Record<string, number> = {}
  for (let i = 0; i < rest.length; i++) {
    const word = rest[i]!
    if (!options.includes(word)) continue
    const text = rest[++i] ?? ''
    if (word === 'group') remarks.note(at, 'lvs_sync_daemon: "group" is not taken: the usual one is used')
    else if (/^\d+$/.test(text)) numbers[word] = Number(text)
    else remarks.remark(at, `lvs_sync_daemon: "${word} ${text}" is no number`)
  }
  remarks.note(at, 'lvs_sync_daemon: both master and backup are run, whatever VRRP says')
  const shared = {
    interface: nic,
    syncId: numbers.id ?? 0,
    maxLength: numbers.maxlen,
    port: numbers.port,
    ttl: numbers.ttl,
  }
  return [
    { state: 'master', ...shared },
    { state: 'backup', ...shared },
  ]
}
