/**
 * The metrics that node_exporter has of IPVS in the kernel, by its names, labels and types, so that dashboards
 * and alerts that people have go on working.
 */

import type { Counters } from '../../model/counters.ts'
import type { ServiceId } from '../../model/service.ts'
import type { Named } from './family.ts'

export interface Total extends Named {
  readonly of: (counters: Counters) => bigint
}

export const TOTALS: readonly Total[] = [
  {
    name: 'node_ipvs_connections_total',
    type: 'counter',
    help: 'Connections that were begun, all services together.',
    of: ({ conns }) => conns,
  },
  {
    name: 'node_ipvs_incoming_packets_total',
    type: 'counter',
    help: 'Packets from clients.',
    of: ({ inPackets }) => inPackets,
  },
  {
    name: 'node_ipvs_outgoing_packets_total',
    type: 'counter',
    help: 'Packets of answers that came by the director.',
    of: ({ outPackets }) => outPackets,
  },
  {
    name: 'node_ipvs_incoming_bytes_total',
    type: 'counter',
    help: 'Bytes from clients.',
    of: ({ inBytes }) => inBytes,
  },
  {
    name: 'node_ipvs_outgoing_bytes_total',
    type: 'counter',
    help: 'Bytes of answers that came by the director.',
    of: ({ outBytes }) => outBytes,
  },
]

export interface Backend extends Named {
  /** Which column of `COLUMNS` it is, by metric and labels. */
  readonly column: readonly [metric: string, labels: string]
}

export const BACKENDS: readonly Backend[] = [
  {
    name: 'node_ipvs_backend_connections_active',
    type: 'gauge',
    help: 'Established connections, by virtual service and real server.',
    column: ['connections', 'state="active"'],
  },
  {
    name: 'node_ipvs_backend_connections_inactive',
    type: 'gauge',
    help: 'Connections that begin or end, by virtual service and real server.',
    column: ['connections', 'state="inactive"'],
  },
  {
    name: 'node_ipvs_backend_weight',
    type: 'gauge',
    help: 'Weight in force, by virtual service and real server.',
    column: ['weight', ''],
  },
]

/** The labels of the virtual service; a firewall mark is written as /proc/net/ip_vs writes it. */
export function localLabels(id: ServiceId): string {
  if (id.kind === 'address')
    return `local_address="${id.address}",local_mark="",local_port="${id.port}",proto="${id.protocol.toUpperCase()}"`
  const mark = id.mark.toString(16).toUpperCase().padStart(8, '0')
  return `local_address="",local_mark="${mark}",local_port="0",proto="FWM"`
}
