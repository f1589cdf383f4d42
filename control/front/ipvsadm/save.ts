/** Rules as command lines, as `-S` prints them and `-R` reads them. */
import type { RealServer } from '../../model/server.ts'
import type { VirtualService } from '../../model/service.ts'
import { endpoint, flagNames, maskText, portProtocol, serviceOption } from './format.ts'
import type { Names } from './names.ts'
import { sortServers, sortServices } from './order.ts'

const METHOD_OPTIONS = {
  nat: '-m',
  'full-nat': '--full-nat',
  tunnel: '-i',
  'direct-routing': '-g',
} as const
const CHECKSUM_OPTIONS = { none: '--tun-nocsum', csum: '--tun-csum', remcsum: '--tun-remcsum' } as const

export interface Rule {
  readonly service: VirtualService
  readonly servers: readonly RealServer[]
}

function serviceRule(service: VirtualService, option: string): string {
  let line = `-A ${option} -s ${service.scheduler}`
  if (service.persistenceTimeoutS !== 0) {
    line += ` -p ${service.persistenceTimeoutS}`
    const mask = maskText(service.id.family, service.netmask)
    if (mask !== null) line += ` -M ${mask}`
  }
  if (service.persistenceEngine !== null) line += ` --pe ${service.persistenceEngine}`
  if (service.onePacket) line += ' -o'
  if (service.untracked) line += ' --untracked'
  if (service.schedulerFlags !== 0) line += ` -b ${flagNames(service.scheduler, service.schedulerFlags)}`
  return `${line}\n`
}

function tunnelOptions(server: RealServer): string {
  if (server.method !== 'tunnel') return ''
  const tunnel = server.tunnel
  if (tunnel.type === 'ipip') return ' --tun-type ipip'
  const port = tunnel.type === 'gue' ? ` --tun-port ${tunnel.port}` : ''
  return ` --tun-type ${tunnel.type}${port} ${CHECKSUM_OPTIONS[tunnel.checksum]}`
}

/**
 * All rules, sorted as listings are. Thresholds, timeouts and daemons are not among them: ipvsadm has
 * never saved them, and a saved file must stay one that the original restores.
 */
export function saveRules(rules: readonly Rule[], names: Names | null): string {
  const lines: string[] = []
  const sorted = sortServices(rules.map((rule) => ({ id: rule.service.id, ...rule })))
  for (const { service, servers } of sorted) {
    const option = serviceOption(service.id, names)
    const protocol = portProtocol(service.id)
    lines.push(serviceRule(service, option))
    for (const server of sortServers(servers)) {
      const address = endpoint(server.id.address, server.id.port, protocol, names)
      lines.push(
        `-a ${option} -r ${address} ${METHOD_OPTIONS[server.method]} -w ${server.weight}${tunnelOptions(server)}\n`,
      )
    }
  }
  return lines.join('')
}
