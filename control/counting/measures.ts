/**
 * What is counted of every virtual service and of every real server. One row here is all there is to it: the
 * metrics, the overview that the API gives, `pointsman top`, the page, and what services can be sorted by are
 * made from these.
 */
import type { Rates } from '../model/counters.ts'
import type { RealServer } from '../model/server.ts'
import type { ServerTally } from '../rules/applier.ts'

export interface Measure {
  /** The metric is `pointsman_service_…` and `pointsman_real_server_…`. */
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
  /** Without it the metrics alone have it. */
  readonly shown?: Shown
}

/** How people see it. */
export interface Shown {
  /** In answers of the API. */
  readonly name: string
  /** On the page. */
  readonly title: string
  /** In a terminal, where columns of one title are one: their sum. */
  readonly brief: string
  readonly unit: 'number' | 'bits'
  /** Shown by the second, as this is estimated, instead of in all. */
  readonly rate?: keyof Rates
  /** The word to sort services by it, the most first; columns of one word count together. */
  readonly sort?: string
}

const DIRECTIONS = 'in: from clients; out: answers, which come by the director with nat and full-nat alone'

export const MEASURES: readonly Measure[] = [
  {
    metric: 'new_connections_total',
    type: 'counter',
    help: 'Connections that were begun.',
    columns: [
      {
        labels: '',
        of: ({ counters }) => Number(counters.conns),
        shown: {
          ...{ name: 'new', title: 'new/s', brief: 'NEW/s', unit: 'number', rate: 'cps' },
          sort: 'new',
        },
      },
    ],
  },
  {
    metric: 'packets_total',
    type: 'counter',
    help: `Packets of its connections (${DIRECTIONS}).`,
    columns: [
      {
        labels: 'direction="in"',
        of: ({ counters }) => Number(counters.inPackets),
        shown: {
          ...{ name: 'packets_in', title: 'packets/s in', brief: 'PKT/s', unit: 'number', rate: 'inPps' },
          sort: 'packets',
        },
      },
      {
        labels: 'direction="out"',
        of: ({ counters }) => Number(counters.outPackets),
        shown: {
          ...{ name: 'packets_out', title: 'packets/s out', brief: 'PKT/s', unit: 'number', rate: 'outPps' },
          sort: 'packets',
        },
      },
    ],
  },
  {
    metric: 'bytes_total',
    type: 'counter',
    help: `Bytes of those packets, from the IP header on (${DIRECTIONS}).`,
    columns: [
      {
        labels: 'direction="in"',
        of: ({ counters }) => Number(counters.inBytes),
        shown: {
          ...{ name: 'bytes_in', title: 'bits/s in', brief: 'IN bit', unit: 'bits', rate: 'inBps' },
          sort: 'bytes',
        },
      },
      {
        labels: 'direction="out"',
        of: ({ counters }) => Number(counters.outBytes),
        shown: {
          ...{ name: 'bytes_out', title: 'bits/s out', brief: 'OUT bit', unit: 'bits', rate: 'outBps' },
          sort: 'bytes',
        },
      },
    ],
  },
  {
    metric: 'connections',
    type: 'gauge',
    help: 'Connections there are: active ones are established, inactive ones begin or end (UDP: all of them).',
    columns: [
      {
        labels: 'state="active"',
        of: ({ activeConns }) => activeConns,
        shown: {
          ...{ name: 'active', title: 'active', brief: 'ACTIVE', unit: 'number' },
          sort: 'connections',
        },
      },
      {
        labels: 'state="inactive"',
        of: ({ inactiveConns }) => inactiveConns,
        shown: { name: 'inactive', title: 'inactive', brief: 'INACT', unit: 'number' },
      },
    ],
  },
  {
    metric: 'persistence_templates',
    type: 'gauge',
    help: 'Clients that are kept at their real server.',
    columns: [
      {
        labels: '',
        of: ({ persistentConns }) => persistentConns,
        shown: { name: 'kept', title: 'kept', brief: 'KEPT', unit: 'number' },
      },
    ],
  },
  {
    metric: 'weight',
    type: 'gauge',
    help: 'Weight in force, with what checks and holds make of it; 0 takes no new connections.',
    // Seen beside health: it is no count.
    columns: [{ labels: '', of: (_tally, { weight }) => weight }],
  },
]

export const COLUMNS: readonly Column[] = MEASURES.flatMap(({ columns }) => columns)

export interface ShownColumn extends Shown {
  /** Its place among `COLUMNS`. */
  readonly column: number
}

export const SHOWN: readonly ShownColumn[] = COLUMNS.flatMap(({ shown }, column) =>
  shown === undefined ? [] : [{ ...shown, column }],
)

/** What services can be sorted by; by name last. */
export const SORTS: readonly string[] = [
  ...new Set(SHOWN.flatMap(({ sort }) => (sort === undefined ? [] : [sort]))),
  'name',
]

/** What an overview tells of a service or of a real server. */
export interface Numbers {
  readonly rates: Rates
  /** What is not told by the second, by the columns' names. */
  readonly numbers: Readonly<Record<string, number>>
}

export function shownNumber({ rates, numbers }: Numbers, { rate, name }: Shown): number {
  return rate === undefined ? (numbers[name] ?? 0) : rates[rate]
}
