/**
 * What is measured of every virtual service and of every real server: one row here is one metric of each,
 * in the metrics, in `pointsman top` and on the page.
 */
import type { RealServer } from '../../model/server.ts'
import type { ServerTally } from '../../rules/applier.ts'

export interface Measure {
  /** Of the column, wherever it is shown; the metric is `pointsman_service_…` and `pointsman_real_server_…`. */
  readonly metric: string
  readonly type: 'counter' | 'gauge'
  readonly help: string
  /** Kinds of one metric, by what stands between its braces; '' where there is only one. */
  readonly columns: readonly Column[]
}

export interface Column {
  readonly labels: '' | `${string}="${string}"`
  /** Of a real server; a service has the sum of its own, but for what it counted with real servers it has lost. */
  readonly of: (tally: ServerTally, server: RealServer) => number
}

const DIRECTIONS =
  'in: from clients; out: answers, which come by the director with the forwarding method nat alone'

export const MEASURES: readonly Measure[] = [
  {
    metric: 'new_connections_total',
    type: 'counter',
    help: 'Connections that were begun.',
    columns: [{ labels: '', of: ({ counters }) => Number(counters.conns) }],
  },
  {
    metric: 'packets_total',
    type: 'counter',
    help: `Packets of its connections (${DIRECTIONS}).`,
    columns: [
      { labels: 'direction="in"', of: ({ counters }) => Number(counters.inPackets) },
      { labels: 'direction="out"', of: ({ counters }) => Number(counters.outPackets) },
    ],
  },
  {
    metric: 'bytes_total',
    type: 'counter',
    help: `Bytes of those packets, from the IP header on (${DIRECTIONS}).`,
    columns: [
      { labels: 'direction="in"', of: ({ counters }) => Number(counters.inBytes) },
      { labels: 'direction="out"', of: ({ counters }) => Number(counters.outBytes) },
    ],
  },
  {
    metric: 'connections',
    type: 'gauge',
    help: 'Connections there are: active ones are established, inactive ones begin or end (UDP: all of them).',
    columns: [
      { labels: 'state="active"', of: ({ activeConns }) => activeConns },
      { labels: 'state="inactive"', of: ({ inactiveConns }) => inactiveConns },
    ],
  },
  {
    metric: 'persistence_templates',
    type: 'gauge',
    help: 'Clients that are kept at their real server.',
    columns: [{ labels: '', of: ({ persistentConns }) => persistentConns }],
  },
  {
    metric: 'weight',
    type: 'gauge',
    help: 'Weight in force, with what checks and holds make of it; 0 takes no new connections.',
    columns: [{ labels: '', of: (_tally, { weight }) => weight }],
  },
]

export const COLUMNS: readonly Column[] = MEASURES.flatMap(({ columns }) => columns)
