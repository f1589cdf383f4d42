/** Connections as `ipvsadm -Lc` lists them. */
import { ConnFlag, ConnKind, ConnStatus, PM_CONN_STATUS, tcpStateNames } from '../dataplane/layout.gen.ts'
import type { ConnectionTable } from './connection-table.ts'
import { protocolOfNumber } from './identity.ts'
import type { ConnectionListing } from './model.ts'
import { msOfTicks } from './settings.ts'

/** IPVS's default number of buckets, shown when no connection table exists. */
export const CONNECTION_TABLE_SIZE = 4096

function stateText(table: ConnectionTable, line: number): string {
  if (table.kind(line) === ConnKind.Template) {
    return (table.flags(line) & ConnFlag.Assured) !== 0 ? 'ASSURED' : 'NONE'
  }
  const protocol = protocolOfNumber(table.protocol(line))
  if (protocol === 'udp') return 'UDP'
  return (tcpStateNames[table.state(line)] ?? 'NONE').toUpperCase()
}

function listing(table: ConnectionTable, line: number, remaining: number): ConnectionListing {
  const { source, destination, target } = table.addresses(line)
  const ports = table.ports(line)
  return {
    protocol: protocolOfNumber(table.protocol(line)) ?? 'ip',
    family: table.family,
    remainingMs: msOfTicks(remaining),
    state: stateText(table, line),
    client: source,
    clientPort: ports.source,
    virtual: destination,
    virtualPort: ports.destination,
    destination: target,
    destinationPort: ports.target,
    template: table.kind(line) === ConnKind.Template,
    engine: null,
  }
}

/** Every live connection, in the order of the table. Lines change while one reads: each row is a glance. */
export function* listConnections(
  tables: readonly ConnectionTable[],
  nowTicks: () => number,
): Generator<ConnectionListing> {
  for (const table of tables) {
    const { u32, stride, lines } = table
    for (let line = 0; line < lines; line++) {
      if ((u32[line * stride]! & PM_CONN_STATUS) !== ConnStatus.Live || !table.isConnection(line)) continue
      const remaining = table.remaining(line, nowTicks())
      if (remaining >= 0) yield listing(table, line, remaining)
    }
  }
}
