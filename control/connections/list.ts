/** Connections as `ipvsadm -Lc` lists them. */
import type { MapMemory } from '../../dataplane/dataplane.ts'
import {
  ConnFlag,
  ConnKind,
  ConnStatus,
  Method,
  PM_CONN_STATUS,
  RealFlag,
  RealRecord,
  sctpStateNames,
  TemplateState,
  tcpStateNames,
} from '../../dataplane/layout/layout.gen.ts'
import type { Family, IpAddress } from '../../net/address.ts'
import { readAddress, unspecified } from '../../net/address.ts'
import { protocolOfNumber } from '../../net/protocol.ts'
import { msOfTicks } from '../compile/settings.ts'
import type { ConnectionListing } from '../model/connection.ts'
import type { Pace } from '../model/pace.ts'
import type { ConnectionTable } from './table.ts'

export function stateText(table: ConnectionTable, line: number): string {
  if (table.kind(line) === ConnKind.Template) {
    return (table.state(line) & TemplateState.Assured) === 0 ? 'NONE' : 'ASSURED'
  }
  const protocol = protocolOfNumber(table.protocol(line))
  if (protocol === 'udp') return 'UDP'
  if (protocol === 'sctp')
    return (sctpStateNames[table.state(line)] ?? 'NONE').toUpperCase().replaceAll('_', '-')
  return (tcpStateNames[table.state(line)] ?? 'NONE').toUpperCase()
}

/** As the kernel lists a template that leads nowhere any more. */
const LAPSED_PORTS = { source: 0, destination: 65535, target: 65535 }

interface FarEnd {
  readonly address: IpAddress
  /** 0: that of the packet. */
  readonly port: number
  /** Nobody: packets go on to where they are for, and IPVS lists an address of zeros. */
  readonly isNobody: boolean
}

function farEnd(reals: MapMemory, real: number, clients: Family): FarEnd | null {
  if (real >= reals.entries) return null
  const base = real * reals.entrySize
  const family = RealRecord.getFamily(reals.view, base) === 6 ? 6 : 4
  const isNobody = isBypass(reals.view, base)
  return {
    address: isNobody
      ? unspecified(clients)
      : readAddress(reals.bytes, base + RealRecord.offsets.addr, family),
    port: RealRecord.getPort(reals.view, base),
    isNobody,
  }
}

/** Whether a record of `reals` is nobody's. */
export function isBypass(view: DataView, base: number): boolean {
  return (RealRecord.getFlags(view, base) & RealFlag.Bypass) !== 0
}

/** By full NAT: the source that the line for answers has for its destination. */
function seenAs(table: ConnectionTable, line: number): Pick<ConnectionListing, 'seenAs'> {
  if (table.method(line) !== Method.FullNat || table.kind(line) !== ConnKind.In) return {}
  const answers = table.peer(line)
  if (answers < 0) return {}
  return { seenAs: { address: table.addresses(answers).destination, port: table.ports(answers).destination } }
}

/** Where packets of a line arrive: a template says of no port which one, if it is for all of them. */
export function portAt(table: ConnectionTable, line: number, server: Omit<FarEnd, 'address'> | null): number {
  if (server?.isNobody === true) return 0
  const { destination } = table.ports(line)
  if (table.kind(line) === ConnKind.Template) return destination === 0 ? 0 : (server?.port ?? 0)
  return ((table.flags(line) & ConnFlag.OtherPort) === 0 && server?.port) || destination
}

export function listing(
  table: ConnectionTable,
  line: number,
  remaining: number,
  reals: MapMemory,
): ConnectionListing {
  const { source, destination } = table.addresses(line)
  const server = farEnd(reals, table.real(line), table.family)
  const isTemplate = table.kind(line) === ConnKind.Template
  const hasLapsed = isTemplate && (table.state(line) & TemplateState.Lapsed) !== 0
  const ports = hasLapsed ? LAPSED_PORTS : { ...table.ports(line), target: portAt(table, line, server) }
  return {
    protocol: protocolOfNumber(table.protocol(line)) ?? 'ip',
    family: table.family,
    remainingMs: msOfTicks(remaining),
    state: stateText(table, line),
    client: source,
    clientPort: ports.source,
    virtual: destination,
    virtualPort: ports.destination,
    destination: server?.address ?? destination,
    destinationPort: ports.target,
    ...seenAs(table, line),
    template: isTemplate,
    engine: table.isByCall(line) ? { name: 'sip', data: table.callId(line) ?? '' } : null,
  }
}

/** Every live connection, in the order of the table. Lines change while one reads: each row is a glance. */
export function* listConnections(
  tables: readonly ConnectionTable[],
  reals: MapMemory,
  nowTicks: () => number,
): Generator<ConnectionListing> {
  for (const table of tables) {
    const { u32, stride } = table
    for (let line = 0; line < table.levels.inUse; line++) {
      if ((u32[line * stride]! & PM_CONN_STATUS) !== ConnStatus.Live || !table.isConnection(line)) continue
      const remaining = table.remaining(line, nowTicks())
      if (remaining >= 0) yield listing(table, line, remaining, reals)
    }
  }
}

/** Lines looked at between two looks at the clock. */
const LINES = 8192

/** Live connections by real server, templates left out. */
export async function countByReal(
  tables: readonly ConnectionTable[],
  reals: number,
  pace: Pace,
): Promise<Uint32Array> {
  const counts = new Uint32Array(reals)
  for (const table of tables) {
    const { u32, stride } = table
    for (let line = 0; line < table.levels.inUse; line++) {
      if (line % LINES === 0 && pace.over) await pace.pass()
      if ((u32[line * stride]! & PM_CONN_STATUS) !== ConnStatus.Live) continue
      const real = table.real(line)
      if (!table.isConnection(line) || table.kind(line) === ConnKind.Template || real >= reals) continue
      counts[real]! += 1
    }
  }
  return counts
}
