/** What `pointsman` prints for people. */

import { getSystemErrorMap } from 'node:util'
import { endpointText } from '../../net/endpoint.ts'
import { serviceTitle } from '../front/api/names.ts'
import type { ConnectionShown } from '../front/api/schema/connection.ts'
import type { ServiceShown } from '../front/api/schema/service.ts'
import type { PoolShown, SourceShown } from '../front/api/schema/source.ts'
import type { Status } from '../front/api/schema/status.ts'
import { expiry } from '../front/ipvsadm/format.ts'
import type { Diagnosis } from '../insight/doctor/checks.ts'
import { SYSCTLS } from '../model/sysctls.ts'
import type { GoesOn } from '../source/site-source.ts'

/** Columns two blanks apart; numbers to the right. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const widths: number[] = []
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, String(cell).length)
  }
  return rows
    .map((row) =>
      row
        .map((cell, i) =>
          typeof cell === 'number' ? String(cell).padStart(widths[i]!) : cell.padEnd(widths[i]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('')
}

export function servicesText(services: readonly ServiceShown[]): string {
  if (services.length === 0) return 'No virtual services. Add one: ipvsadm -A -t ADDRESS:PORT -s rr\n'
  return services
    .map((service) => {
      const lines = [`virtual service: ${serviceTitle(service)}`, `  scheduler: ${service.scheduler}`]
      if (service.source !== 'manual') lines.push(`  stated by: ${service.source}`)
      if (service.persistenceTimeoutS > 0) lines.push(`  persistence: ${service.persistenceTimeoutS} s`)
      if (service.why !== undefined) lines.push(`  ${service.state}: ${service.why}`)
      if (service.unsupported.length > 0) lines.push(`  not in force: ${service.unsupported.join(', ')}`)
      lines.push('  real servers:')
      const rows = service.servers.map((server) => [
        `    ${endpointText(server)}`,
        server.method,
        server.weight === 0 ? 'draining' : `weight ${server.weight}`,
        server.activeConns + server.inactiveConns,
        'connections',
        weightNote(server),
      ])
      return `${lines.join('\n')}\n${rows.length === 0 ? '    none\n' : table(rows)}`
    })
    .join('\n')
}

/** Why the weight in force is not the one that was said. */
function weightNote({ weight, saidWeight, hold }: ServiceShown['servers'][number]): string {
  if (hold === null) return weight === saidWeight ? '' : `its source says ${saidWeight}`
  const until = hold.until === null ? '' : `, until ${hold.until}`
  return `held by hand (${hold.by}) for ${age(hold.since)}${until}; its source says ${saidWeight}`
}

/** From then until now, in the two largest units. */
export function age(since: string, nowMs = Date.now()): string {
  let left = Math.max(0, Math.round((nowMs - Date.parse(since)) / 1000))
  const parts: string[] = []
  for (const [unit, seconds] of [
    ['d', 86_400],
    ['h', 3600],
    ['min', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(left / seconds)
    left -= count * seconds
    if (count > 0) parts.push(`${count} ${unit}`)
  }
  return parts.slice(0, 2).join(' ') || '0 s'
}

export function sourcesText(sources: readonly SourceShown[]): string {
  return sources
    .map(({ source, path, state, since, services, watched, pools, complaints, goesOn }) => {
      const where = path === null ? 'commands and the API' : path
      const how = state === 'unread' ? 'not read since the daemon started' : state
      const when = since === null ? '' : ` for ${age(since)}`
      const lines = [`${source}: ${where}`, `  ${how}${when}, ${services} services`]
      if (goesOn !== null) lines.push(`  ${GOES_ON[goesOn]}`)
      if (watched.length > 0) lines.push(`  watches: ${watched.join(', ')}`)
      for (const pool of pools) {
        lines.push(`  pool ${pool.pool}: ${pool.kind} ${pool.name}, ${poolText(pool)}`)
        for (const { key, why } of pool.skippedEntries) lines.push(`    skipped ${key}: ${why}`)
      }
      for (const { at, message } of complaints) lines.push(`  ${at}: ${message}`)
      return `${lines.join('\n')}\n`
    })
    .join('')
}

const GOES_ON: Readonly<Record<GoesOn, string>> = {
  before: 'what it said before is in force',
  'last good': 'what it said before the daemon started is in force',
  rules: 'the rules that were in force go on, without checks, until it is right',
}

/** How a pool stands that follows a registry. */
function poolText({ state, since, heard, servers, why, skipped }: PoolShown): string {
  const has = servers === null ? 'nothing is known yet' : `${servers} real servers`
  const bad = skipped === 0 ? '' : `, ${skipped} entries skipped`
  const for_ = since === null ? '' : ` for ${age(since)}`
  switch (state) {
    case 'unheard':
      return `${has}, not heard since the daemon started${bad}`
    case 'current':
      return `${has}${bad}${since === null ? '' : `, changed ${age(since)} ago`}`
    case 'away': {
      const last = heard === null ? 'not heard since the daemon started' : `last heard ${age(heard)} ago`
      return `${has}, registry away${for_} (${last})${bad}: ${why ?? ''}`
    }
    case 'held':
      return `${has}, held back${for_}${bad}: ${why ?? ''}`
    default:
      return state satisfies never
  }
}

export function statusText(status: Status): string {
  const { dataplane } = status
  const { program } = dataplane
  const rows: (readonly [string, string])[] = [
    ['forwarding', status.forwarding ? 'yes' : 'no'],
    ['data plane', `${dataplane.kind} (${dataplane.reason})`],
  ]
  if (program !== null) {
    const identity = [
      program.id === null ? '' : `id ${program.id}`,
      program.tag === null ? '' : `tag ${program.tag}`,
    ]
    rows.push(['program', [program.name, ...identity.filter((text) => text !== '')].join(', ')])
  }
  for (const { name, mode, note, relayed } of dataplane.interfaces) {
    const how = relayed ? `${mode}, and traffic control for what XDP cannot send` : mode
    rows.push(['interface', `${name}, ${how}${note === undefined ? '' : ` (${note})`}`])
  }
  for (const { name, state, why } of dataplane.missing) {
    rows.push([state === 'waiting' ? 'waiting for' : 'refused', `${name}, ${why}`])
  }
  if (dataplane.interfaces.length === 0) rows.push(['interface', 'none'])
  rows.push(...answerRows(dataplane.answers), ...cuttingRows(dataplane.cutting), ...ownRows(dataplane.own))
  rows.push(
    ['services', String(status.services)],
    ['real servers', String(status.realServers)],
    ['connections', connectionCounts(status.connections)],
    [
      'daemon',
      `version ${status.version}, pid ${status.pid}, since ${status.startedAt}, ${status.memoryMiB} MiB`,
    ],
  )
  for (const warning of dataplane.warnings) rows.push(['warning', warning])
  if (dataplane.sendFailures?.counted === false) {
    rows.push(['redirect_failed', `not counted: ${dataplane.sendFailures.why ?? ''}`])
  }
  for (const { interface: name, error, frames } of dataplane.sendFailures?.ways ?? []) {
    rows.push(['redirect_failed', `${frames} frames to ${name}: ${error}`])
  }
  for (const { source, path, since, complaints, goesOn } of status.sources) {
    const [first = ''] = complaints
    const more = complaints.length > 1 ? `, and ${complaints.length - 1} more: pointsman sources` : ''
    rows.push(['not applied', `${source} ${path}, for ${age(since)}: ${first}${more}`])
    rows.push(['', GOES_ON[goesOn]])
  }
  for (const pool of status.pools) rows.push(['pool', `${pool.pool}: ${poolText(pool)}`])
  rows.push(...healthRows(status.health))
  for (const { service, server, hold } of status.holds) {
    const until = hold.until === null ? '' : `, until ${hold.until}`
    const held = `weight ${hold.weight} by ${hold.by} for ${age(hold.since)}${until}`
    rows.push(['held by hand', `${serviceTitle(service)} ${server}: ${held}`])
  }
  for (const { service, state, why } of status.notInForce) {
    rows.push([state, `${serviceTitle(service)}: ${why}`])
  }
  const repairs = Object.entries(status.repairs).map(([what, count]) => `${what} ${count}`)
  if (repairs.length > 0) rows.push(['repaired', repairs.join(', ')])
  for (const { service, reasons } of status.unsupported) {
    rows.push(['not in force', `${serviceTitle(service)}: ${reasons.join(', ')}`])
  }
  return table(rows)
}

/** Where real servers on the director itself are heard. */
function answerRows(answers: Status['dataplane']['answers']): (readonly [string, string])[] {
  if (answers === null) return []
  const { interfaces, refused } = answers
  const seen = interfaces.length === 0 ? 'nowhere' : interfaces.join(', ')
  return [
    ['local servers', `their answers are seen at ${seen}`],
    ...refused.map((why) => ['not seen', why] as const),
  ]
}

/** Only what is missing. */
function cuttingRows(cutting: Status['dataplane']['cutting']): (readonly [string, string])[] {
  return (cutting?.refused ?? []).map((why) => ['larger packets', `not cut: ${why}`] as const)
}

/** Only what is missing: that own clients are served is nothing to be told. */
function ownRows(own: Status['dataplane']['own']): (readonly [string, string])[] {
  return (own?.refused ?? []).map((why) => ['own clients', `not served: ${why}`] as const)
}

/** The first ones; a whole site that is down has its page. */
const DOWN_MAX = 10

function healthRows(health: Status['health']): (readonly [string, string])[] {
  if (health === null) return []
  const { services, servicesDown, realServers, realServersDown } = health
  const ups = `${services - servicesDown.length} of ${services} services up, ${realServers - realServersDown} of ${realServers} real servers up`
  const isWell = servicesDown.length === 0 && realServersDown === 0
  const rows = servicesDown.slice(0, DOWN_MAX).map(({ service, since, sorry }) => {
    const serves = sorry ? ', the sorry server serves' : ''
    return ['down', `${service}, for ${age(since)}${serves}`] as const
  })
  const more = servicesDown.length - rows.length
  return [
    ['checks', `${ups}${isWell ? '' : ': pointsman health'}`],
    ...rows,
    ...(more > 0 ? [['down', `and ${more} more: pointsman health`] as const] : []),
  ]
}

function connectionCounts(counts: Status['connections']): string {
  return counts === null ? 'not counted yet' : `${counts.ipv4} IPv4, ${counts.ipv6} IPv6`
}

export function verdictsText(verdicts: Readonly<Record<string, number>>): string {
  const rows = Object.entries(verdicts)
  return rows.length === 0 ? 'No packet was seen yet.\n' : table(rows)
}

/** What nothing acts on says so once it is not as it was. */
export function settingsText(settings: Readonly<Record<string, number>>): string {
  return Object.entries(settings)
    .map(([name, value]) => {
      const known = SYSCTLS[name]
      const idle = known !== undefined && !known.inForce && value !== known.initial
      return `${name}=${value}${idle ? '  # kept, not acted on' : ''}\n`
    })
    .join('')
}

export function connectionsText(connections: readonly ConnectionShown[]): string {
  if (connections.length === 0) return 'No connections.\n'
  return table([
    ['protocol', 'expires', 'state', 'client', 'virtual', 'real server'],
    ...connections.map((c) => [
      c.protocol,
      expiry(c.remainingMs),
      c.state,
      endpointText({ address: c.client, port: c.clientPort }),
      endpointText({ address: c.virtual, port: c.virtualPort }),
      endpointText({ address: c.destination, port: c.destinationPort }),
    ]),
  ])
}

export function diagnosisText(diagnosis: Diagnosis): string {
  const lines: string[] = []
  for (const { name, findings } of diagnosis.checks) {
    if (findings.length === 0) {
      lines.push(`ok       ${name}`)
      continue
    }
    for (const { severity, cause, consequence, remedy } of findings) {
      lines.push(
        `${severity.padEnd(8)} ${name}: ${cause}`,
        `         so: ${consequence}`,
        `         do: ${remedy}`,
      )
    }
  }
  return `${lines.join('\n')}\n`
}

/** Why the system refused, without the call and its arguments. */
export function systemWords({ errno, message }: NodeJS.ErrnoException): string {
  return (errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1]) ?? message
}
