/** A view as lines of text: of exactly this width and height, or as many as there are for a pipe. */
import type { Numbers } from '../../counting/measures.ts'
import type { Overview } from '../../front/api/schema/overview.ts'
import { columnsIn, numbersText, titles, widthOfAll } from './columns.ts'
import { ago, bits, fit, right, short, sparkline } from './figures.ts'
import type { View } from './view.ts'

export interface Row {
  readonly text: string
  readonly style?: 'bold' | 'inverse' | 'red' | 'dim'
}

const HELP = [
  'up down k j PgUp PgDn  move',
  'left right             other columns, where the screen is too narrow for all',
  'Enter                  real servers of the service; Esc goes back',
  's                      sort by another column',
  '/                      filter by a part of the name; Esc shows all again',
  'p                      stop, and go on',
  'q                      quit',
  '',
  'New connections, packets and bits are per second, averaged as IPVS does.',
  'Below stands what was not forwarded, and what else was counted, newest first:',
  'pointsman explain says of a packet why, docs/verdicts.md of a verdict.',
]

/** Rows of what was not forwarded. */
const COUNTS = 4

export function rowsOnPage(height: number): number {
  return Math.max(1, height - 9 - COUNTS)
}

/** @param nowMs of the clock that answers were heard by */
export function screen(view: View, width: number, height: number, nowMs: number): Row[] {
  const rows = [...head(view, width, nowMs)]
  if (view.help) rows.push(...HELP.map((text) => ({ text: `  ${text}` })))
  else if (view.overview !== null) rows.push(...body(view, view.overview, width, rowsOnPage(height)))
  while (rows.length < height - 2 - COUNTS) rows.push({ text: '' })
  if (!view.help) rows.push(...counts(view, nowMs, COUNTS))
  while (rows.length < height - 1) rows.push({ text: '' })
  rows.length = Math.max(0, height - 1)
  rows.push(foot(view))
  return rows.map((row) => ({ ...row, text: fit(row.text, width) }))
}

/** Once and for all, for scripts. */
export function page(view: View, width: number, nowMs: number): Row[] {
  if (view.overview === null) return []
  const servers = view.overview.servers?.length ?? 0
  const all = body(view, view.overview, width, Math.max(view.overview.services.length, servers, 1))
  return [...head(view, width, nowMs), ...all, ...counts(view, nowMs, Number.POSITIVE_INFINITY)].map(
    (row) => ({
      ...row,
      text: fit(row.text, width).trimEnd(),
    }),
  )
}

function head({ overview, newConnections, packets, trouble }: View, width: number, nowMs: number): Row[] {
  if (overview === null) return [{ text: `pointsman  ${trouble ?? 'asking'}` }]
  const { version, dataplane, startedAt, forwarding, rates, total } = overview
  const up = ago(nowMs - Date.parse(startedAt))
  const state = trouble ?? (forwarding ? 'forwarding' : 'NOT FORWARDING: pointsman doctor')
  const line = Math.max(10, Math.min(40, width - 40))
  return [
    {
      text: `pointsman ${version}  ${dataplane}  up ${up}  ${total} services  ${state}`,
      style: trouble !== null || !forwarding ? 'red' : 'bold',
    },
    { text: `new    ${right(short(rates.cps), 6)}/s      ${sparkline(newConnections, line)}` },
    {
      text: `packets${right(short(rates.inPps + rates.outPps), 6)}/s      ${sparkline(packets, line)}`,
    },
    {
      text: `in ${bits(rates.inBps)}bit/s, out ${bits(rates.outBps)}bit/s`,
    },
    { text: '' },
  ]
}

function body(view: View, overview: Overview, width: number, rows: number): Row[] {
  return view.open === null ? services(view, overview, width, rows) : servers(view, overview, width, rows)
}

/** Of a name, whatever else there is to be told; then the last column, which says how it is. */
const NAME = 20
const LAST = 13

/** Columns of numbers, and a line of them: the name has what they leave. */
function lines(view: View, width: number) {
  const shown = columnsIn(width - NAME - LAST, view.column)
  const first = Math.max(NAME, width - widthOfAll(shown) - LAST)
  return {
    title: (name: string, last: string) => `${fit(name, first)}${titles(shown)} ${last}`,
    line: (name: string, of: Numbers, last: string) => `${fit(name, first)}${numbersText(shown, of)} ${last}`,
  }
}

function services(view: View, { services: all, more }: Overview, width: number, rows: number): Row[] {
  const { title, line } = lines(view, width)
  const from = windowOf(view.row, all.length, rows)
  const shown = all.slice(from, from + rows).map((one, i): Row => {
    const health =
      one.health === null
        ? `${one.servers}`
        : `${one.servers - one.down}/${one.servers}${one.health === 'up' ? '' : ` ${one.health}`}`
    const state = one.inForce ? health : 'NOT IN FORCE'
    const isBad = !one.inForce || one.health === 'down' || one.health === 'sorry' || one.weight === 0
    return { text: line(one.name, one, state), ...styleOf(from + i === view.row, isBad) }
  })
  if (all.length === 0)
    shown.push({
      text: view.filter === '' ? 'no services: ipvsadm -A' : `no service has "${view.filter}" in its name`,
    })
  if (more > 0 && shown.length < rows) shown.push({ text: `and ${more} more: / filters`, style: 'dim' })
  return [{ text: title('SERVICE', 'UP'), style: 'bold' }, ...shown]
}

function servers(view: View, { servers: all }: Overview, width: number, rows: number): Row[] {
  if (all === null) return [{ text: `${view.open} is not there any more: Esc` }]
  const { title, line } = lines(view, width)
  const from = windowOf(view.row, all.length, rows)
  const shown = all.slice(from, from + rows).map((one, i): Row => {
    const last = `${short(one.weight)}${one.health === null ? '' : ` ${one.health}`}`
    return {
      text: line(one.name, one, last),
      ...styleOf(from + i === view.row, one.health === 'down'),
    }
  })
  if (all.length === 0) shown.push({ text: 'no real servers: ipvsadm -a' })
  const words = all[view.row]?.words ?? ''
  if (words !== '' && shown.length < rows) shown.push({ text: `  ${words}`, style: 'dim' })
  return [{ text: title(view.open ?? '', 'WEIGHT'), style: 'bold' }, ...shown]
}

function styleOf(isHere: boolean, isBad: boolean): Pick<Row, 'style'> {
  if (isHere) return { style: 'inverse' }
  return isBad ? { style: 'red' } : {}
}

/** The first row that is shown, so that the cursor is. */
function windowOf(row: number, count: number, rows: number): number {
  return Math.max(0, Math.min(row - Math.floor(rows / 2), count - rows))
}

function counts({ counts: all }: View, nowMs: number, rows: number): Row[] {
  if (all.length === 0)
    return [{ text: 'every packet was forwarded, and nothing else happened', style: 'dim' }]
  return [
    { text: 'NOT FORWARDED, AND WHAT ELSE HAPPENED, newest first', style: 'bold' },
    ...all.slice(0, rows - 1).map(({ name, total, rate, lastMs }): Row => {
      const last = lastMs === null ? '' : `  ${ago(nowMs - lastMs)} ago`
      return { text: `${fit(name, 34)}${right(short(rate), 8)}/s${right(short(total), 9)} in all${last}` }
    }),
  ]
}

function foot({ typing, filter, sort, paused, open }: View): Row {
  if (typing) return { text: `filter: ${filter}_   Enter keeps it, Esc shows all`, style: 'inverse' }
  const what = open === null ? `sorted by ${sort}${filter === '' ? '' : `, filter "${filter}"`}` : open
  return {
    text: `${paused ? 'STOPPED  ' : ''}${what}   s sort  / filter  Enter open  ? help  q quit`,
    style: 'dim',
  }
}
