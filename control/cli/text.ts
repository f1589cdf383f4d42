/** What `pointsman` prints for people. */

import { endpoint, type ServiceName, serviceTitle } from '../front/api/names.ts'
import type { Diagnosis } from '../insight/doctor/checks.ts'
import type { Status } from '../insight/status.ts'

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

export interface ServiceShown extends ServiceName {
  readonly scheduler: string
  readonly persistenceTimeoutS: number
  readonly unsupported: readonly string[]
  readonly servers: readonly {
    readonly address: string
    readonly port: number
    readonly method: string
    readonly weight: number
    readonly activeConns: number
    readonly inactiveConns: number
  }[]
}

export function servicesText(services: readonly ServiceShown[]): string {
  if (services.length === 0) return 'No virtual services. Add one: ipvsadm -A -t ADDRESS:PORT -s rr\n'
  return services
    .map((service) => {
      const lines = [`virtual service: ${serviceTitle(service)}`, `  scheduler: ${service.scheduler}`]
      if (service.persistenceTimeoutS > 0) lines.push(`  persistence: ${service.persistenceTimeoutS} s`)
      if (service.unsupported.length > 0) lines.push(`  not in force: ${service.unsupported.join(', ')}`)
      lines.push('  real servers:')
      const rows = service.servers.map((server) => [
        `    ${endpoint(server.address, server.port)}`,
        server.method,
        server.weight === 0 ? 'draining' : `weight ${server.weight}`,
        server.activeConns + server.inactiveConns,
        'connections',
      ])
      return `${lines.join('\n')}\n${rows.length === 0 ? '    none\n' : table(rows)}`
    })
    .join('\n')
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
  for (const { name, mode, note } of dataplane.interfaces) {
    rows.push(['interface', `${name}, ${mode}${note === undefined ? '' : ` (${note})`}`])
  }
  if (dataplane.interfaces.length === 0) rows.push(['interface', 'none'])
  rows.push(
    ['services', String(status.services)],
    ['real servers', String(status.realServers)],
    ['connections', `${status.connections.ipv4} IPv4, ${status.connections.ipv6} IPv6`],
    [
      'daemon',
      `version ${status.version}, pid ${status.pid}, since ${status.startedAt}, ${status.memoryMiB} MiB`,
    ],
  )
  for (const warning of dataplane.warnings) rows.push(['warning', warning])
  for (const { service, reasons } of status.unsupported) {
    rows.push(['not in force', `${serviceTitle(service)}: ${reasons.join(', ')}`])
  }
  return table(rows)
}

export function verdictsText(verdicts: Readonly<Record<string, number>>): string {
  const rows = Object.entries(verdicts)
  return rows.length === 0 ? 'No packet was seen yet.\n' : table(rows)
}

function minutes(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  return `${String(Math.floor(seconds / 60)).padStart(2, '0')}:${String(seconds % 60).padStart(2, '0')}`
}

export function connectionsText(
  connections: readonly {
    readonly protocol: string
    readonly remainingMs: number
    readonly state: string
    readonly client: string
    readonly clientPort: number
    readonly virtual: string
    readonly virtualPort: number
    readonly destination: string
    readonly destinationPort: number
  }[],
): string {
  if (connections.length === 0) return 'No connections.\n'
  return table([
    ['protocol', 'expires', 'state', 'client', 'virtual', 'real server'],
    ...connections.map((c) => [
      c.protocol,
      minutes(c.remainingMs),
      c.state,
      endpoint(c.client, c.clientPort),
      endpoint(c.virtual, c.virtualPort),
      endpoint(c.destination, c.destinationPort),
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
