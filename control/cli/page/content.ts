/** What the page shows, as plain values: from the view that the terminal has, too, to texts in tables. */
import { endpointText } from '../../../net/endpoint.ts'
import { type Numbers, SHOWN, shownNumber } from '../../counting/measures.ts'
import type { ConnectionPageShown } from '../../front/api/schema/connection.ts'
import type { EventShown } from '../../front/api/schema/event.ts'
import type { Overview } from '../../front/api/schema/overview.ts'
import { ago, bits, short } from '../top/figures.ts'
import type { View } from '../top/view.ts'

export type Tone = 'good' | 'bad' | 'quiet' | null

export interface Cell {
  readonly text: string
  readonly kind?: 'number' | 'words'
  readonly tone?: Tone
  /** Opens the service of this name. */
  readonly opens?: string
}

export interface Row {
  /** The same row at the next look. */
  readonly key: string
  readonly cells: readonly Cell[]
}

export interface Column {
  readonly title: string
  readonly kind?: 'number'
}

export interface Table {
  readonly columns: readonly Column[]
  readonly rows: readonly Row[]
  readonly words: string
}

export interface Figure {
  readonly title: string
  readonly text: string
  /** The last values, oldest first; none: it is no line. */
  readonly line: readonly number[]
}

const number = (title: string): Column => ({ title, kind: 'number' })
const count = (value: number): Cell => ({ text: short(value), kind: 'number' })
const rate = (value: number): Cell => ({
  text: value < 9.95 && value > 0 ? value.toFixed(1) : short(value),
  kind: 'number',
})

export function directorWords({ dataplane, version, startedAt, forwarding, at }: Overview): string {
  const since = ago(Date.parse(at) - Date.parse(startedAt))
  const plane = dataplane === 'none' ? 'no' : dataplane
  return `${forwarding ? 'forwarding' : 'NOT forwarding'}, ${plane} data plane, version ${version}, up for ${since}`
}

export function figures({ overview, newConnections, packets }: View): readonly Figure[] {
  if (overview === null) return []
  const { cps, inPps, outPps, inBps, outBps } = overview.rates
  return [
    { title: 'new connections a second', text: rate(cps).text, line: newConnections },
    { title: 'packets a second', text: rate(inPps + outPps).text, line: packets },
    { title: 'bits a second in', text: bits(inBps), line: [] },
    { title: 'bits a second out', text: bits(outBps), line: [] },
  ]
}

type Health = Overview['services'][number]['health']

function healthCell(health: Health, words: string): Cell {
  if (health === null) return { text: 'not checked', tone: 'quiet' }
  return { text: words, tone: health === 'up' ? 'good' : 'bad' }
}

const COUNTED: readonly Column[] = SHOWN.map(({ title }) => number(title))

function numbers(of: Numbers): Cell[] {
  return SHOWN.map((one): Cell => {
    const value = shownNumber(of, one)
    if (one.unit === 'bits') return { text: bits(value), kind: 'number' }
    return one.rate === undefined ? count(value) : rate(value)
  })
}

export function services({ overview, filter }: View): Table {
  const columns = [{ title: 'service' }, { title: 'scheduler' }, { title: 'health' }, ...COUNTED]
  if (overview === null) return { columns, rows: [], words: '' }
  const rows = overview.services.map((one): Row => {
    const down = one.down === 0 ? '' : `, ${one.down} of ${one.servers} down`
    const state: Cell = one.inForce
      ? healthCell(one.health, `${one.health}${down}`)
      : { text: 'not in force: see pointsman status', tone: 'bad' }
    return {
      key: one.name,
      cells: [{ text: one.name, opens: one.name }, { text: one.scheduler }, state, ...numbers(one)],
    }
  })
  const { more, total } = overview
  const some = filter === '' ? '' : ` with "${filter}" in their names`
  const words =
    rows.length === 0 && total === 0
      ? 'None yet: ipvsadm, or a configuration file, states them'
      : `${rows.length} of ${total}${some}${more > 0 ? `; ${more} more are left out` : ''}`
  return { columns, rows, words }
}

/** null: no service is open. */
export function servers({ overview, open }: View): Table | null {
  if (open === null) return null
  const columns = [
    { title: 'real server' },
    { title: 'method' },
    number('weight'),
    { title: 'health' },
    ...COUNTED,
  ]
  const found = overview?.servers ?? null
  if (found === null) return { columns, rows: [], words: 'There is no such service any more' }
  const rows = found.map((one): Row => {
    const state = healthCell(
      one.health,
      one.words === '' ? String(one.health) : `${one.health}: ${one.words}`,
    )
    const cells: Cell[] = [
      { text: one.name },
      { text: one.method },
      { text: one.weight === 0 ? '0, drained' : String(one.weight), kind: 'number' },
      { ...state, kind: 'words' },
    ]
    return { key: one.name, cells: [...cells, ...numbers(one)] }
  })
  return { columns, rows, words: rows.length === 0 ? 'It has none' : `${rows.length}` }
}

const LATEST_MS = 10_000

export function counts({ counts: seen, atMs }: View): Table {
  const rows = seen.map(({ name, total, rate: speed, lastMs }): Row => {
    const isNew = lastMs !== null && atMs - lastMs < LATEST_MS
    const tone = name.startsWith('drop_') && isNew ? 'bad' : null
    const last = lastMs === null ? 'before' : `${ago(atMs - lastMs)} ago`
    return {
      key: name,
      cells: [{ text: name, tone }, rate(speed), count(total), { text: last, tone: 'quiet' }],
    }
  })
  return {
    columns: [{ title: 'what' }, number('a second'), number('in all'), { title: 'last' }],
    rows,
    words: '',
  }
}

/** @param before rows of the pages before this one */
export function connections({ connections: shown, matched }: ConnectionPageShown, before: number): Table {
  const rows = shown.map((one): Row => {
    const client = endpointText({ address: one.client, port: one.clientPort })
    const service = `${one.protocol}/${endpointText({ address: one.virtual, port: one.virtualPort })}`
    return {
      key: `${client} ${service} ${one.template}`,
      cells: [
        { text: client },
        { text: service },
        { text: endpointText({ address: one.destination, port: one.destinationPort }) },
        { text: one.template ? `persistence, ${one.state}` : one.state },
        { text: ago(one.remainingMs), kind: 'number' },
      ],
    }
  })
  const titles = ['client', 'service', 'real server', 'state']
  const words =
    rows.length === 0 ? 'None' : `${before + 1} to ${before + rows.length} of ${matched}, at that moment`
  return { columns: [...titles.map((title) => ({ title })), number('ends in')], rows, words }
}

/** As many as somebody looks through. */
const EVENTS_MAX = 100

/** @param events oldest first */
export function events(events: readonly EventShown[]): Table {
  const rows = events
    .slice(-EVENTS_MAX)
    .reverse()
    .map(({ id, at, kind, about, service, server, check, state, words, by }): Row => {
      const names = [service, server, check].filter((name) => name !== null)
      const tone: Tone = state === 'down' ? 'bad' : state === 'up' ? 'good' : null
      return {
        key: String(id),
        cells: [
          { text: new Date(at).toLocaleString('sv-SE'), tone: 'quiet' },
          { text: kind },
          { text: names.length === 0 ? about : names.join(' '), kind: 'words' },
          { text: state === null ? words : `${state}: ${words}`, kind: 'words', tone },
          { text: by ?? '', kind: 'words', tone: 'quiet' },
        ],
      }
    })
  const titles = ['time', 'kind', 'about', 'what', 'by']
  return { columns: titles.map((title) => ({ title })), rows, words: '' }
}

/** Corners of a line in a box of this size, the largest value at its top. */
export function corners(values: readonly number[], width: number, height: number): string {
  const most = Math.max(...values, 0)
  const step = values.length > 1 ? width / (values.length - 1) : 0
  return values
    .map((value, i) => {
      const up = most === 0 ? 0 : (value / most) * height
      return `${(i * step).toFixed(1)},${(height - up).toFixed(1)}`
    })
    .join(' ')
}
