/** What is measured of the director itself: one row is one metric. */

import { SettingsRecord, Verdict, verdictNames } from '../../../dataplane/layout/layout.gen.ts'
import { readLevels } from '../../../dataplane/levels.ts'
import { netDeviceName } from '../../../linux/device.ts'
import { CHECK_DEVICE } from '../../../linux/netlink/probe-pair.ts'
import type { FullNatAddress } from '../../model/full-nat.ts'
import { NO_PORTS_TAKEN, type PortsTaken } from '../../model/ports-taken.ts'
import type { MetricFacts } from './facts.ts'
import type { Labels, Named, Sample } from './family.ts'
import { TOTALS } from './node-exporter.ts'

export interface DirectorMetric extends Named {
  /**
   * Of a counter: what a sample is called where people look, null: nothing, since they see it otherwise. Without it
   * the metric's name and its labels.
   */
  readonly seenAs?: (labels: Labels) => string | null
  readonly of: (facts: MetricFacts) => readonly Sample[]
}

const one = (value: number): readonly Sample[] => [[{}, value]]
const maybe = (value: number | null | undefined): readonly Sample[] =>
  value === null || value === undefined ? [] : one(value)
const unseen = (): null => null
const yes = (is: boolean): number => (is ? 1 : 0)

const FAMILIES = ['ipv4', 'ipv6'] as const

/** Verdicts count packets; from here on they count what became of connections. */
const FIRST_NOT_OF_PACKETS = Verdict.EvictedEnded

interface NamedVerdict {
  readonly name: string
  readonly number: number
}

const VERDICTS: readonly NamedVerdict[] = Object.entries(verdictNames).map(([number, name]) => ({
  name,
  number: Number(number),
}))
const OF_PACKETS = VERDICTS.filter(({ number }) => number > 0 && number < FIRST_NOT_OF_PACKETS)
const EVICTIONS = VERDICTS.filter(({ name }) => name.startsWith('evicted_'))

function verdict({ verdicts }: MetricFacts, name: string): number {
  return Number(verdicts.get(name) ?? 0n)
}

/** Lines of each connection table. */
function lines({ dataplane }: MetricFacts): readonly Sample[] {
  if (dataplane === null) return []
  const { connections4, connections6 } = dataplane.sizes
  return [
    [{ family: 'ipv4' }, connections4],
    [{ family: 'ipv6' }, connections6],
  ]
}

/** Lines that are searched at this moment: the table grows with its load, up to all of them. */
function linesSearched({ dataplane }: MetricFacts): readonly Sample[] {
  if (dataplane === null) return []
  const { view } = dataplane.map('settings')
  const words = [SettingsRecord.getLevels4(view, 0), SettingsRecord.getLevels6(view, 0)]
  const sizes = [dataplane.sizes.connections4, dataplane.sizes.connections6]
  return FAMILIES.map((family, i) => [{ family }, sizes[i]! >>> readLevels(words[i]!).current])
}

/** Of each address that full NAT gives connections for a source. */
function ofFullNat(
  { director }: MetricFacts,
  of: (address: FullNatAddress, taken: PortsTaken) => number,
): readonly Sample[] {
  const taken = director.portsTaken()
  return director
    .fullNat()
    .map((one) => [{ address: one.address }, of(one, taken.get(one.address) ?? NO_PORTS_TAKEN)])
}

function interfaces({ dataplane, attachments }: MetricFacts): readonly Sample[] {
  const attached = (dataplane?.interfaces() ?? []).filter(({ name }) => name !== CHECK_DEVICE)
  return [
    ...attached.map(({ name, mode }): Sample => [{ interface: name, mode }, 1]),
    ...attachments.flatMap((wanted): Sample[] =>
      wanted.state === 'attached' ? [] : [[{ interface: wanted.wanted, mode: wanted.state }, 0]],
    ),
  ]
}

/** Programs beside the packet program, where the rules want them: on how many interfaces they are, or are not. */
function companions({ dataplane, applier }: MetricFacts): readonly Sample[] {
  const beside = { 'local answers': dataplane?.answers?.(), cutting: dataplane?.cutting?.() }
  const samples = Object.entries(beside).flatMap(([program, state]): Sample[] => {
    if (state == null) return []
    return [
      [{ program, state: 'attached' }, state.interfaces.length],
      [{ program, state: 'refused' }, state.refused.length],
    ]
  })
  const own = applier?.ownClients ?? null
  if (own === null) return samples
  const program = 'own clients'
  return [
    ...samples,
    [{ program, state: 'attached' }, yes(own.served)],
    [{ program, state: 'refused' }, own.refused.length],
  ]
}

function sendFailures({ sendFailures: counting }: MetricFacts): readonly Sample[] {
  if (counting === null || typeof counting === 'string') return []
  return counting
    .read()
    .map(({ ifindex, error, frames }) => [
      { interface: netDeviceName(ifindex) ?? `ifindex ${ifindex}`, error },
      Number(frames),
    ])
}

function sources({ sources: all }: MetricFacts, of: (one: ReturnType<typeof sourceOf>) => number): Sample[] {
  return all.all().map((source) => [{ source: source.source }, of(sourceOf(source))])
}

function sourceOf({ state }: { readonly state: MetricFactsSource }) {
  return {
    good: state.state === 'in force',
    complaints: state.state === 'refused' ? state.complaints.length : 0,
    sinceS: state.sinceMs / 1000,
  }
}
type MetricFactsSource = ReturnType<MetricFacts['sources']['all']>[number]['state']

export function isForwarding(facts: MetricFacts): boolean {
  const taken = interfaces(facts)
  return taken.length > 0 && taken.every(([, attached]) => attached === 1)
}

export const DIRECTOR_METRICS: readonly DirectorMetric[] = [
  {
    name: 'pointsman_build_info',
    type: 'gauge',
    help: 'Always 1; the version is in the label.',
    of: ({ version }) => [[{ version }, 1]],
  },
  {
    name: 'process_start_time_seconds',
    type: 'gauge',
    help: 'When the daemon started, as a Unix time.',
    of: ({ startedAt }) => one(startedAt.getTime() / 1000),
  },
  {
    name: 'process_cpu_seconds_total',
    type: 'counter',
    help: 'Processor time of the daemon; packets in XDP are not in it.',
    seenAs: unseen,
    of: () => {
      const { user, system } = process.cpuUsage()
      return one((user + system) / 1e6)
    },
  },
  {
    name: 'process_resident_memory_bytes',
    type: 'gauge',
    help: 'Memory of the daemon, with the tables it has mapped.',
    of: () => one(process.memoryUsage.rss()),
  },
  {
    name: 'pointsman_forwarding',
    type: 'gauge',
    help: 'Whether packets are taken from every interface that was asked for.',
    of: (facts) => one(yes(isForwarding(facts))),
  },
  {
    name: 'pointsman_dataplane_info',
    type: 'gauge',
    help: 'Always 1; the data plane and its packet program are in the labels.',
    of: ({ dataplane }) => {
      const program = dataplane?.program() ?? null
      const labels = {
        dataplane: dataplane?.plane ?? 'none',
        program: program?.name ?? '',
        program_id: String(program?.id ?? ''),
        program_tag: program?.tag ?? '',
      }
      return [[labels, 1]]
    },
  },
  {
    name: 'pointsman_interface_attached',
    type: 'gauge',
    help: 'Whether packets are taken from the interface; mode says how, or why not (waiting: there is no such interface).',
    of: interfaces,
  },
  {
    name: 'pointsman_companion_programs',
    type: 'gauge',
    help: 'Interfaces where a program beside the packet program is, or could not be attached; none: nothing wants it. pointsman status says why.',
    of: companions,
  },
  {
    name: 'pointsman_warnings',
    type: 'gauge',
    help: 'Sentences in which pointsman status warns of something.',
    of: ({ dataplane, applier, warnings }) =>
      one((dataplane?.warnings ?? []).length + (applier?.warnings() ?? []).length + warnings.length),
  },
  {
    name: 'pointsman_packets_total',
    type: 'counter',
    help: 'Packets by verdict: what became of them (docs/verdicts.md says what each means, and what to do).',
    seenAs: ({ verdict: name }) => name ?? null,
    of: (facts) => OF_PACKETS.map(({ name }) => [{ verdict: name }, verdict(facts, name)]),
  },
  {
    name: 'pointsman_evictions_total',
    type: 'counter',
    help: 'Connections that made room for new ones in a full table, by what they were.',
    seenAs: ({ connection }) => `evicted_${connection}`,
    of: (facts) =>
      EVICTIONS.map(({ name }) => [{ connection: name.replace('evicted_', '') }, verdict(facts, name)]),
  },
  {
    name: 'pointsman_expired_by_packet_total',
    type: 'counter',
    help: 'Connections that ran out while no daemon was there to see it.',
    of: (facts) => one(verdict(facts, 'expired_by_packet')),
  },
  {
    name: 'pointsman_forgotten_sources_total',
    type: 'counter',
    help: 'Records of sources with limits that gave way to others before their last second was over.',
    seenAs: () => 'forgot_source',
    of: (facts) => one(verdict(facts, 'forgot_source')),
  },
  {
    name: 'pointsman_repairs_total',
    type: 'counter',
    help: 'What was put right in the maps without a change of the rules; report it if it is not 0.',
    seenAs: ({ what }) => (what === 'connection count' ? 'repaired_count' : `repaired ${what}`),
    of: (facts) => [
      [{ what: 'connection count' }, verdict(facts, 'repaired_count')],
      ...Array.from(facts.applier?.repairs ?? [], ([what, count]): Sample => [{ what }, count]),
    ],
  },
  {
    name: 'pointsman_send_failures_total',
    type: 'counter',
    help: 'XDP: frames that the kernel took and did not send (a full queue, an interface that is down), since the daemon started.',
    seenAs: ({ interface: name, error }) => `redirect_failed ${name}: ${error}`,
    of: sendFailures,
  },
  {
    name: 'pointsman_services',
    type: 'gauge',
    help: 'Virtual services.',
    of: ({ counted }) => one([...counted()].length),
  },
  {
    name: 'pointsman_real_servers',
    type: 'gauge',
    help: 'Real servers in the lists of all services.',
    of: ({ counted }) => {
      let servers = 0
      for (const { entry } of counted()) servers += entry.servers.length
      return one(servers)
    },
  },
  {
    name: 'pointsman_services_max',
    type: 'gauge',
    help: 'Virtual services there is room for (--services).',
    of: ({ dataplane }) => maybe(dataplane?.sizes.services),
  },
  {
    name: 'pointsman_real_servers_max',
    type: 'gauge',
    help: 'Real servers there is room for, removed ones with connections included (--real-servers).',
    of: ({ dataplane }) => maybe(dataplane?.sizes.reals),
  },
  {
    name: 'pointsman_services_not_in_force',
    type: 'gauge',
    help: 'Virtual services that are not in force as they are wanted; pointsman status says why.',
    of: ({ director }) => one(director.states().size),
  },
  {
    name: 'pointsman_holds',
    type: 'gauge',
    help: 'Real servers whose weight is held by hand (pointsman drain).',
    of: ({ holds }) => one(holds.length),
  },
  {
    name: 'pointsman_filters',
    type: 'gauge',
    help: 'Prefixes of sources that are denied or allowed (pointsman deny, allow).',
    of: ({ applier }) => maybe(applier?.filters.count),
  },
  {
    name: 'pointsman_limits',
    type: 'gauge',
    help: 'Services that limit what one source may do (pointsman limit).',
    of: ({ applier }) => maybe(applier?.limits.list().length),
  },
  {
    name: 'pointsman_connections',
    type: 'gauge',
    help: 'Connections, as the last sweep over the tables counted them.',
    of: ({ applier }) => {
      const sweep = applier?.lastSweep ?? null
      if (sweep === null) return []
      return [
        [{ family: 'ipv4' }, sweep.connections4],
        [{ family: 'ipv6' }, sweep.connections6],
      ]
    },
  },
  {
    name: 'pointsman_persistence_templates',
    type: 'gauge',
    help: 'Clients that are kept at their real servers, as the last sweep counted them.',
    of: ({ applier }) => maybe(applier?.lastSweep?.templates),
  },
  {
    name: 'pointsman_connection_table_lines',
    type: 'gauge',
    help: 'Lines of the connection tables (--connections); a connection takes one, with NAT two.',
    of: lines,
  },
  {
    name: 'pointsman_connection_table_lines_searched',
    type: 'gauge',
    help: 'As much of the connection tables as new connections are placed in now: they grow with their load.',
    of: linesSearched,
  },
  {
    name: 'pointsman_connection_table_lines_used',
    type: 'gauge',
    help: 'Lines in use, as the last sweep counted them.',
    of: ({ applier }) => {
      const sweep = applier?.lastSweep ?? null
      if (sweep === null) return []
      return [
        [{ family: 'ipv4' }, sweep.lines4],
        [{ family: 'ipv6' }, sweep.lines6],
      ]
    },
  },
  {
    name: 'pointsman_full_nat_ports',
    type: 'gauge',
    help: 'Ports of an address of full NAT: as many connections to each real server can come from it.',
    of: (facts) => ofFullNat(facts, ({ ports }) => ports.to - ports.from + 1),
  },
  {
    name: 'pointsman_full_nat_ports_taken',
    type: 'gauge',
    help: 'Ports of the address that are taken towards the real server that has the most, as the last sweep counted them.',
    of: (facts) => ofFullNat(facts, (_address, { most }) => most),
  },
  {
    name: 'pointsman_full_nat_connections',
    type: 'gauge',
    help: 'Connections to whichever real server that come from the address, as the last sweep counted them.',
    of: (facts) => ofFullNat(facts, (_address, { connections }) => connections),
  },
  {
    name: 'pointsman_sweep_duration_seconds',
    type: 'gauge',
    help: 'How long the last sweep over the connection tables took, with what went on between its slices.',
    of: ({ applier }) => maybe(applier?.lastSweepMs == null ? null : applier.lastSweepMs / 1000),
  },
  {
    name: 'pointsman_source_in_force',
    type: 'gauge',
    help: 'Whether what was read last of a source of services is in force; pointsman sources says what is wrong.',
    of: (facts) => sources(facts, ({ good }) => yes(good)),
  },
  {
    name: 'pointsman_source_complaints',
    type: 'gauge',
    help: 'What is wrong with a source of services.',
    of: (facts) => sources(facts, ({ complaints }) => complaints),
  },
  {
    name: 'pointsman_source_changed_timestamp_seconds',
    type: 'gauge',
    help: 'Since when a source of services is in force, or refused, as a Unix time.',
    of: (facts) => sources(facts, ({ sinceS }) => sinceS),
  },
  {
    name: 'pointsman_otlp_pushes_total',
    type: 'counter',
    help: 'Pushes of metrics to a receiver (--otlp), by what became of them; the log says why one failed.',
    seenAs: ({ result }) => (result === 'taken' ? null : `otlp_pushes ${result}`),
    of: ({ pushed }) =>
      pushed === null
        ? []
        : [
            [{ result: 'taken' }, pushed.whole],
            [{ result: 'failed' }, pushed.failed],
          ],
  },
  {
    name: 'pointsman_otlp_refused_points_total',
    type: 'counter',
    help: 'Numbers that the receiver of pushes did not want.',
    of: ({ pushed }) => maybe(pushed?.refused),
  },
  ...TOTALS.map(
    ({ of, ...named }): DirectorMetric => ({
      ...named,
      seenAs: unseen,
      of: ({ totals }) => one(Number(of(totals))),
    }),
  ),
]

/** What the director counts, as people see it, rates of traffic apart. */
export function* directorCounts(facts: MetricFacts): Generator<[name: string, count: number]> {
  for (const { name, type, seenAs, of } of DIRECTOR_METRICS) {
    if (type !== 'counter' || seenAs === unseen) continue
    const plain = name.replace(/^pointsman_/, '').replace(/_total$/, '')
    for (const [labels, count] of of(facts)) {
      const seen = seenAs === undefined ? [plain, ...Object.values(labels)].join(' ') : seenAs(labels)
      if (seen !== null) yield [seen, count]
    }
  }
}
