/** The director at a glance: the busiest services, one of them in full, and what was not forwarded. */
import { endpointText } from '../../../net/endpoint.ts'
import { Turns } from '../../apply/turns.ts'
import { COLUMNS, SHOWN } from '../../counting/measures.ts'
import type { Overview, OverviewAsked } from '../../front/api/schema/overview.ts'
import { compareServices, serverKey } from '../../model/identity.ts'
import { serviceName } from '../../model/service-name.ts'
import type { ServiceTally } from '../../rules/applier.ts'
import type { ServiceEntry } from '../../rules/entries.ts'
import { directorCounts, isForwarding } from './director.ts'
import type { MetricFacts } from './facts.ts'
import { columnOf, readAll } from './reading.ts'

/** Rows of one answer. */
const LIMIT = 100

interface Candidate {
  readonly entry: ServiceEntry
  readonly tally: ServiceTally
  readonly name: string
  readonly order: number
}

const WEIGHT = columnOf(['weight', ''])

export async function readOverview(facts: MetricFacts, asked: OverviewAsked): Promise<Overview> {
  const sort = asked.sort ?? 'new'
  const filter = asked.filter?.toLowerCase() ?? ''
  let total = 0
  let open: Candidate | null = null
  const candidates: Candidate[] = []
  const turns = new Turns()
  for (const { entry, tally } of facts.counted()) {
    if (turns.over) await turns.pass()
    total++
    const name = serviceName(entry.value.id)
    const candidate = { entry, tally, name, order: orderOf(entry, tally, sort) }
    if (name === asked.service) open = candidate
    if (name.includes(filter)) candidates.push(candidate)
  }
  candidates.sort((a, b) => b.order - a.order || compareServices(a.entry.value.id, b.entry.value.id))
  const shown = candidates.slice(0, Math.min(asked.limit ?? LIMIT, 1000))
  const states = facts.director.states()
  const services: Overview['services'] = []
  for (const { entry, tally, name } of shown) {
    const { own } = await readAll(entry, tally)
    const health = facts.checkedOf(entry.key)
    services.push({
      ...{ name, scheduler: entry.value.scheduler, inForce: !states.has(entry.key), rates: tally.rates },
      ...numbersAt(own, 0),
      health: health === null ? null : health.sorry ? 'sorry' : health.state,
      servers: entry.servers.length,
      down: health?.servers.filter(({ state, probes }) => probes.length > 0 && state === 'down').length ?? 0,
    })
  }
  return {
    at: new Date().toISOString(),
    version: facts.version,
    startedAt: facts.startedAt.toISOString(),
    dataplane: facts.dataplane?.plane ?? 'none',
    forwarding: isForwarding(facts),
    rates: facts.totalRates,
    services,
    more: candidates.length - shown.length,
    total,
    servers: open === null ? null : await serversOf(facts, open),
    counts: Object.fromEntries(directorCounts(facts)),
  }
}

function orderOf({ servers }: ServiceEntry, { rates, server }: ServiceTally, sort: string): number {
  let sum = 0
  for (const { rate, column, sort: word } of SHOWN) {
    if (word !== sort) continue
    if (rate !== undefined) sum += rates[rate]
    else for (const { key, value } of servers) sum += COLUMNS[column]!.of(server(key), value)
  }
  return sum
}

const COUNTED = SHOWN.filter(({ rate }) => rate === undefined)

function numbersAt(
  values: Float64Array,
  at: number,
): Pick<Overview['services'][number], 'numbers' | 'weight'> {
  return {
    numbers: Object.fromEntries(COUNTED.map(({ name, column }) => [name, values[at + column]!])),
    weight: Math.min(values[at + WEIGHT]!, Number.MAX_SAFE_INTEGER),
  }
}

async function serversOf(facts: MetricFacts, { entry, tally }: Candidate): Promise<Overview['servers']> {
  const { values, width, entries } = await readAll(entry, tally)
  const health = new Map(facts.checkedOf(entry.key)?.servers.map((one) => [serverKey(one.real.id), one]))
  return entries.map(({ key, value }, i) => {
    const checked = health.get(key)
    return {
      name: endpointText(value.id),
      method: value.method,
      rates: tally.server(key).rates,
      ...numbersAt(values, i * width),
      health: checked === undefined || checked.probes.length === 0 ? null : checked.state,
      words: checked?.words ?? '',
    }
  })
}
