import { COLUMNS, MEASURES, type Measure } from '../../counting/measures.ts'
import type { MetricsDetail, MetricsFormat } from '../../front/api/route.ts'
import type { History } from '../../front/api/schema/history.ts'
import type { Overview, OverviewAsked } from '../../front/api/schema/overview.ts'
import { serviceName } from '../../model/service-name.ts'
import { DIRECTOR_METRICS } from './director.ts'
import type { MetricFacts } from './facts.ts'
import { END, escaped, heading, type Named, sampleLine } from './family.ts'
import { checkedName, HEALTH_METRICS } from './health.ts'
import type { HourHistory } from './history.ts'
import { BACKENDS, localLabels } from './node-exporter.ts'
import { readOverview } from './overview.ts'
import { encoded, Pieces, Texts } from './pieces.ts'
import { type CountedService, columnOf, eachColumn, readServices, WIDTH } from './reading.ts'

/** A pair of Prometheus servers, and two people who look: each takes some ten megabytes meanwhile. */
const AT_ONCE = 4
const NOTHING = new Uint8Array()

export class Collector {
  readonly #facts: () => MetricFacts
  readonly #detail: MetricsDetail
  readonly #history: HourHistory
  #collecting = 0

  constructor(facts: () => MetricFacts, detail: MetricsDetail, history: HourHistory) {
    this.#history = history
    this.#facts = facts
    this.#detail = detail
  }

  /** What pointsman top and the page show. */
  overview(asked: OverviewAsked): Promise<Overview> {
    return readOverview(this.#facts(), asked)
  }

  /** Called every `SAMPLE_MS`. */
  sample(): void {
    this.#history.take(this.#facts())
  }

  history(service: string | null): History {
    return this.#history.read(service)
  }

  /** The text, in pieces; null when enough others are being told already. */
  text(format: MetricsFormat, detail: MetricsDetail | null): AsyncIterable<Uint8Array> | null {
    if (this.#collecting >= AT_ONCE) return null
    return this.#text(format, detail ?? this.#detail)
  }

  async *#text(format: MetricsFormat, detail: MetricsDetail): AsyncGenerator<Uint8Array> {
    this.#collecting++
    try {
      const facts = this.#facts()
      const pieces = new Pieces()
      for (const metric of DIRECTOR_METRICS) {
        const samples = metric.of(facts)
        if (samples.length > 0) pieces.add(heading(metric, format))
        for (const sample of samples) pieces.add(sampleLine(metric.name, sample))
      }
      yield* health(facts, format, detail, pieces)
      const services: CountedService[] = []
      for await (const service of readServices(facts)) {
        if (service === 'pause') yield NOTHING
        else services.push(service)
      }
      yield* ofServices(services, format, pieces)
      if (detail === 'real-server') {
        yield* ofServers(services, format, pieces)
        yield* ofBackends(services, format, pieces)
      }
      pieces.add(END[format])
      yield pieces.take()
    } finally {
      this.#collecting--
    }
  }
}

function named(scope: 'service' | 'real_server', { metric, type, help }: Measure): Named {
  const of = scope === 'service' ? 'Of a virtual service.' : 'Of a real server.'
  return { name: `pointsman_${scope}_${metric}`, type, help: `${help} ${of}` }
}

function* ofServices(
  services: readonly CountedService[],
  format: MetricsFormat,
  pieces: Pieces,
): Generator<Uint8Array> {
  if (services.length === 0) return
  const names = new Texts(services.map(({ id }) => escaped(serviceName(id))))
  for (const { measure, columns } of eachColumn()) {
    const metric = named('service', measure)
    pieces.add(heading(metric, format))
    const start = encoded(`${metric.name}{service="`)
    const ends = endsOf(columns)
    for (let service = 0; service < services.length; service++) {
      const { own } = services[service]!
      for (let kind = 0; kind < ends.length; kind++)
        pieces.part(start).of(names, service).part(ends[kind]!).number(own[columns[kind]!]!)
      if (pieces.isFull) yield pieces.take()
    }
  }
}

function* ofServers(
  services: readonly CountedService[],
  format: MetricsFormat,
  pieces: Pieces,
): Generator<Uint8Array> {
  if (services.length === 0) return
  for (const { measure, columns } of eachColumn()) {
    const metric = named('real_server', measure)
    pieces.add(heading(metric, format))
    const ends = endsOf(columns)
    for (const { id, servers, names, values } of services) {
      const service = encoded(`${metric.name}{service="${escaped(serviceName(id))}",real_server="`)
      for (let i = 0; i < servers.length; i++) {
        for (let kind = 0; kind < ends.length; kind++)
          pieces
            .part(service)
            .of(names, i)
            .part(ends[kind]!)
            .number(values[i * WIDTH + columns[kind]!]!)
        if (pieces.isFull) yield pieces.take()
      }
    }
  }
}

/** What stands between a name and its number. */
function endsOf(columns: readonly number[]): readonly Uint8Array[] {
  return columns.map((column) => {
    const { labels } = COLUMNS[column]!
    return encoded(labels === '' ? '"} ' : `",${labels}} `)
  })
}

const BACKEND_END = encoded('"} ')

function* ofBackends(
  services: readonly CountedService[],
  format: MetricsFormat,
  pieces: Pieces,
): Generator<Uint8Array> {
  if (services.length === 0) return
  for (const backend of BACKENDS) {
    const column = columnOf(backend.column)
    pieces.add(heading(backend, format))
    for (const { id, servers, values } of services) {
      const service = encoded(`${backend.name}{${localLabels(id)},remote_address="`)
      const remotes = new Texts(servers.map(({ address, port }) => `${address}",remote_port="${port}`))
      for (let i = 0; i < servers.length; i++) {
        pieces
          .part(service)
          .of(remotes, i)
          .part(BACKEND_END)
          .number(values[i * WIDTH + column]!)
        if (pieces.isFull) yield pieces.take()
      }
    }
  }
}

function* health(
  { checked }: MetricFacts,
  format: MetricsFormat,
  detail: MetricsDetail,
  pieces: Pieces,
): Generator<Uint8Array> {
  for (const metric of HEALTH_METRICS) {
    if (metric.fine && detail === 'service') continue
    let headed = false
    for (const service of checked()) {
      for (const sample of metric.of(service, checkedName(service))) {
        if (!headed) pieces.add(heading(metric, format))
        headed = true
        pieces.add(sampleLine(metric.name, sample))
      }
      if (pieces.isFull) yield pieces.take()
    }
  }
}

/** Every name there can be, for whoever writes rules and dashboards. */
export function metricNames(): readonly string[] {
  return [
    ...DIRECTOR_METRICS.map(({ name }) => name),
    ...HEALTH_METRICS.map(({ name }) => name),
    ...MEASURES.flatMap((measure) => [named('service', measure).name, named('real_server', measure).name]),
    ...BACKENDS.map(({ name }) => name),
  ]
}
