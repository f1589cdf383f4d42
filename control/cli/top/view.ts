/** What somebody is looking at: the state of the screen, and what keys and answers make of it. */
import { SORTS } from '../../counting/measures.ts'
import type { Overview } from '../../front/api/schema/overview.ts'
import { COLUMNS } from './columns.ts'

/** Seconds that lines of the past are of. */
const PAST = 120

export interface Seen {
  /** A verdict, or what else is counted. */
  readonly name: string
  readonly total: number
  /** Since the last look. */
  readonly rate: number
  /** When it was counted last (ms); null: before anybody looked. */
  readonly lastMs: number | null
}

export interface View {
  readonly overview: Overview | null
  /** Why there is nothing new to be seen; null: there is. */
  readonly trouble: string | null
  readonly sort: string
  readonly filter: string
  /** While a filter is typed. */
  readonly typing: boolean
  /** Row under the cursor. */
  readonly row: number
  /** The service whose real servers are shown. */
  readonly open: string | null
  /** The first column of numbers that is shown. */
  readonly column: number
  readonly help: boolean
  readonly paused: boolean
  readonly newConnections: readonly number[]
  readonly packets: readonly number[]
  /** What was not forwarded, and what else was counted, newest first. */
  readonly counts: readonly Seen[]
  readonly atMs: number
  readonly over: boolean
}

export const START: View = {
  overview: null,
  trouble: null,
  sort: 'new',
  filter: '',
  typing: false,
  row: 0,
  open: null,
  column: 0,
  help: false,
  paused: false,
  newConnections: [],
  packets: [],
  counts: [],
  atMs: 0,
  over: false,
}

export function withOverview(view: View, overview: Overview, nowMs: number): View {
  const { rates } = overview
  return {
    ...view,
    overview,
    trouble: null,
    newConnections: [...view.newConnections, rates.cps].slice(-PAST),
    packets: [...view.packets, rates.inPps + rates.outPps].slice(-PAST),
    counts: seen(view, overview, nowMs),
    row: Math.max(0, Math.min(view.row, rowsOf(overview, view.open) - 1)),
    atMs: nowMs,
  }
}

function seen(view: View, { counts }: Overview, nowMs: number): Seen[] {
  const before = new Map(view.counts.map((one) => [one.name, one]))
  const seconds = view.overview === null ? 0 : (nowMs - view.atMs) / 1000
  return Object.entries(counts)
    .filter(([name, total]) => total > 0 && !name.startsWith('forward_'))
    .map(([name, total]): Seen => {
      const was = before.get(name)
      const more = seconds === 0 ? 0 : total - (was?.total ?? 0)
      const lastMs = more > 0 ? nowMs : (was?.lastMs ?? null)
      return { name, total, rate: seconds > 0 ? Math.max(0, more) / seconds : 0, lastMs }
    })
    .sort((a, b) => (b.lastMs ?? -1) - (a.lastMs ?? -1) || b.rate - a.rate || b.total - a.total)
}

function rowsOf(overview: Overview | null, open: string | null): number {
  if (overview === null) return 0
  return open === null ? overview.services.length : (overview.servers?.length ?? 0)
}

/** Names of keys: a character, or `up`, `down`, `left`, `right`, `pageup`, `pagedown`, `enter`, `escape`, `backspace`. */
export function withKey(view: View, key: string, page: number): View {
  if (view.typing) return typed(view, key)
  if (view.help) return { ...view, help: false }
  const move = (by: number): View => {
    const last = rowsOf(view.overview, view.open) - 1
    return { ...view, row: Math.max(0, Math.min(view.row + by, last)) }
  }
  switch (key) {
    case 'q':
    case '\u0003':
      return { ...view, over: true }
    case '?':
    case 'h':
      return { ...view, help: true }
    case 'up':
    case 'k':
      return move(-1)
    case 'down':
    case 'j':
      return move(1)
    case 'left':
      return { ...view, column: Math.max(0, view.column - 1) }
    case 'right':
      return { ...view, column: Math.min(view.column + 1, COLUMNS.length - 1) }
    case 'pageup':
      return move(-page)
    case 'pagedown':
    case ' ':
      return move(page)
    case 's':
      return { ...view, sort: SORTS[(SORTS.indexOf(view.sort) + 1) % SORTS.length]!, row: 0 }
    case '/':
      return { ...view, typing: true }
    case 'p':
      return { ...view, paused: !view.paused }
    case 'enter': {
      const service = view.overview?.services[view.row]
      return view.open !== null || service === undefined ? view : { ...view, open: service.name, row: 0 }
    }
    case 'escape':
    case 'backspace':
      if (view.open !== null) return { ...view, open: null, row: 0 }
      return { ...view, filter: '', row: 0 }
    default:
      return view
  }
}

function typed(view: View, key: string): View {
  switch (key) {
    case 'enter':
      return { ...view, typing: false }
    case 'escape':
    case '\u0003':
      return { ...view, typing: false, filter: '' }
    case 'backspace':
      return { ...view, filter: view.filter.slice(0, -1), row: 0 }
    default:
      return /^[ -~]$/.test(key) ? { ...view, filter: (view.filter + key).slice(0, 60), row: 0 } : view
  }
}

/** What is asked for to show it. */
export function questionOf({ sort, filter, open }: View, limit: number): string {
  const query = new URLSearchParams({ sort, limit: String(limit) })
  if (filter !== '') query.set('filter', filter.toLowerCase())
  if (open !== null) query.set('service', open)
  return `/v1/overview?${query}`
}
