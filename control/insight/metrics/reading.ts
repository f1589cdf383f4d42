/** Reading what is counted of services and their real servers, in slices: one may have 100,000. */
import { endpointText } from '../../../net/endpoint.ts'
import { Turns } from '../../apply/turns.ts'
import { COLUMNS, MEASURES, type Measure } from '../../counting/measures.ts'
import type { ServerId } from '../../model/server.ts'
import type { ServiceId } from '../../model/service.ts'
import { NO_TALLY, type ServiceTally } from '../../rules/applier.ts'
import type { ServerEntry, ServiceEntry } from '../../rules/entries.ts'
import type { MetricFacts } from './facts.ts'
import { Texts } from './pieces.ts'

/** One service as it was when it was read. */
export interface CountedService {
  readonly id: ServiceId
  readonly servers: readonly ServerId[]
  /** As labels have them: `10.0.0.1:80`. */
  readonly names: Texts
  /** By `COLUMNS`. */
  readonly own: Float64Array
  /** By real server, then by `COLUMNS`. */
  readonly values: Float64Array
}

export function* eachColumn(): Generator<{ readonly measure: Measure; readonly columns: readonly number[] }> {
  let column = 0
  for (const measure of MEASURES) {
    yield { measure, columns: measure.columns.map(() => column++) }
  }
}

/** Its place among `COLUMNS`. */
export function columnOf([metric, labels]: readonly [metric: string, labels: string]): number {
  for (const { measure, columns } of eachColumn()) {
    for (const column of columns) {
      if (measure.metric === metric && COLUMNS[column]!.labels === labels) return column
    }
  }
  throw new TypeError(`Nothing is measured as ${metric}{${labels}}`)
}

/** Reads all services; says so where others have had their turn. */
export async function* readServices(facts: MetricFacts): AsyncGenerator<CountedService | 'pause'> {
  const turns = new Turns()
  for (const { entry, tally } of facts.counted()) {
    // One service may have 100,000 real servers.
    for (const read of readService(entry, tally)) {
      if (read !== 'going on') yield read
      if (!turns.over) continue
      await turns.pass()
      yield 'pause'
    }
  }
}

const IS_COUNTER = MEASURES.flatMap(({ type, columns }) => columns.map(() => type === 'counter'))
export const WIDTH = COLUMNS.length
/** Real servers between two looks at the clock. */
const STRIDE = 256

function* readService(
  { value, servers: entries }: ServiceEntry,
  tally: ServiceTally,
): Generator<CountedService | 'going on'> {
  // Who comes or goes between two slices does not move the others.
  const servers = [...entries]
  const own = new Float64Array(WIDTH)
  const values = new Float64Array(servers.length * WIDTH)
  for (const [i, { key, value: server }] of servers.entries()) {
    const counted = tally.server(key)
    for (let column = 0; column < WIDTH; column++) {
      const number = COLUMNS[column]!.of(counted, server)
      values[i * WIDTH + column] = number
      own[column]! += number
    }
    if (i % STRIDE === STRIDE - 1) yield 'going on'
  }
  // With real servers that have left, and since the last -Z.
  const whole = { ...NO_TALLY, counters: tally.counters }
  for (let column = 0; column < WIDTH; column++) {
    if (IS_COUNTER[column]) own[column] = COLUMNS[column]!.of(whole, NOBODY)
  }
  const ids = servers.map(({ value: { id } }) => id)
  yield { id: value.id, servers: ids, names: new Texts(ids.map(endpointText)), own, values }
}

/** What is counted does not ask for it. */
const NOBODY = { weight: 0 } as Parameters<(typeof COLUMNS)[number]['of']>[1]

/** One of them, whole. */
export async function readAll(
  entry: ServiceEntry,
  tally: ServiceTally,
): Promise<CountedService & { readonly width: number; readonly entries: readonly ServerEntry[] }> {
  const turns = new Turns()
  const entries = [...entry.servers]
  for (const read of readService({ ...entry, servers: entries }, tally)) {
    if (read !== 'going on') return { ...read, width: WIDTH, entries }
    if (turns.over) await turns.pass()
  }
  throw new Error('A service was read, and nothing came of it')
}
