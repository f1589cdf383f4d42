/** Finding the line of a packet's connection, and reading it. */
import {
  ConnKind,
  Method,
  methodNames,
  sctpStateNames,
  tcpStateNames,
} from '../../../dataplane/layout/layout.gen.ts'
import { type IpAddress, readAddress } from '../../../net/address.ts'
import type { PacketKey } from '../../../net/packet/key.ts'
import { type Protocol, protocolOfNumber } from '../../../net/protocol.ts'
import { msOfTicks } from '../../compile/settings.ts'
import { linesOf, placeOf } from '../../connections/place.ts'
import type { ConnectionTable } from '../../connections/table.ts'

export interface LineRead {
  readonly line: number
  /** The client's direction, or the answers'. */
  readonly direction: 'client' | 'answer'
  readonly state: string
  /** Until it ends, if nothing comes; negative when that is past. */
  readonly remainingMs: number
  readonly real: number
  readonly method: string
  readonly client: { readonly address: IpAddress; readonly port: number }
  readonly virtual: { readonly address: IpAddress; readonly port: number }
}

/**
 * By the place that the key has, so that each packet of a long capture costs a look-up and not a walk. null: there is
 * none, or the packet has no ports to find it by.
 */
export function findLine(
  tables: readonly [ConnectionTable, ConnectionTable],
  key: PacketKey,
  now: number,
): LineRead | null {
  const { sourcePort, destinationPort } = key
  if (sourcePort === null || destinationPort === null) return null
  const table = tables[key.family === 4 ? 0 : 1]
  const bytes = new Uint8Array([...key.source, ...key.destination])
  const place = placeOf(table.levels.seed, {
    addresses: new Uint32Array(bytes.buffer),
    first: 0,
    words: key.family === 4 ? 1 : 4,
    sport: asLoaded(sourcePort),
    dport: asLoaded(destinationPort),
    protocol: key.protocol,
  })
  const source = readAddress(key.source, 0, key.family)
  const destination = readAddress(key.destination, 0, key.family)
  for (const level of table.levels.toSearch()) {
    for (const line of linesOf(place, table.levels.mask(level))) {
      if (!table.isLive(line) || table.protocol(line) !== key.protocol) continue
      if (table.kind(line) === ConnKind.Template) continue
      const ports = table.ports(line)
      if (ports.source !== sourcePort || ports.destination !== destinationPort) continue
      const addresses = table.addresses(line)
      if (addresses.source === source && addresses.destination === destination)
        return lineAt(table, line, now)
    }
  }
  return null
}

/** A port as a little-endian program loads it from a packet. */
const asLoaded = (port: number): number => ((port & 0xff) << 8) | (port >>> 8)

/** What answers leave as: what the client sends to, which the line of its direction says. */
function virtualOf(table: ConnectionTable, line: number): { address: IpAddress; port: number } {
  const peer = table.peer(line)
  const at = peer < 0 ? line : peer
  return { address: table.addresses(at).destination, port: table.ports(at).destination }
}

/** Whom answers of full NAT are for, which that line says, too. */
function clientOf(table: ConnectionTable, line: number): { address: IpAddress; port: number } {
  const peer = table.peer(line)
  return peer < 0
    ? { address: table.addresses(line).destination, port: table.ports(line).destination }
    : { address: table.addresses(peer).source, port: table.ports(peer).source }
}

function stateName(protocol: Protocol | null, state: number): string {
  if (protocol === 'tcp') return tcpStateNames[state] ?? 'none'
  return protocol === 'sctp' ? (sctpStateNames[state] ?? 'none') : 'exchange'
}

export function lineAt(table: ConnectionTable, line: number, now: number): LineRead {
  const isAnswer = table.kind(line) === ConnKind.Reply
  const addresses = table.addresses(line)
  const ports = table.ports(line)
  const source = { address: addresses.source, port: ports.source }
  const destination = { address: addresses.destination, port: ports.destination }
  return {
    line,
    direction: isAnswer ? 'answer' : 'client',
    state: stateName(protocolOfNumber(table.protocol(line)), table.state(line)),
    remainingMs: msOfTicks(table.remaining(line, now)),
    real: table.real(line),
    method: methodNames[table.method(line)] ?? String(table.method(line)),
    client: !isAnswer ? source : table.method(line) === Method.FullNat ? clientOf(table, line) : destination,
    virtual: isAnswer ? virtualOf(table, line) : destination,
  }
}
