/** What each real server of the lab listens on: every address at which a forwarding method may deliver. */
import type { ServerSettings } from './server.ts'
import { realServers, topology } from './topology.ts'

export function serverSettings(name: string): ServerSettings {
  const server = realServers().find((candidate) => candidate.name === name)
  if (server === undefined) throw new Error(`No real server "${name}" in lab/topology.json`)
  const { ports, virtual } = topology
  const own = [server.servers.ipv4, server.servers.ipv6]
  const delivered = [virtual['direct-routing'], virtual.tunnel].flatMap((pair) => [pair.ipv4, pair.ipv6])
  return {
    name,
    httpPorts: [ports.http, ports.httpBehindNat],
    echo: [
      ...own.map((address) => ({ address, port: ports.echoBehindNat })),
      ...[...own, ...delivered].map((address) => ({ address, port: ports.echo })),
    ],
  }
}
