/** The page in a browser: asks the daemon once a second, and shows what `content.ts` makes of it. */
import { SORTS } from '../../../counting/measures.ts'
import type { EventShown } from '../../../front/api/schema/event.ts'
import type { History } from '../../../front/api/schema/history.ts'
import { questionOf, START, type View, withOverview } from '../../top/view.ts'
import {
  corners,
  counts as countTable,
  directorWords,
  events as eventTable,
  figures,
  servers as serverTable,
  services as serviceTable,
} from '../content.ts'
import { plots, strips, ways } from '../drawn.ts'
import { ask, keepToken } from './ask.ts'
import { listenToConnections, lookAtConnections } from './connections.ts'
import { part, SVG, setText, showTable } from './dom.ts'
import { showPlots, showStrips, showWays } from './drawing.ts'
import { listenToExplain } from './explain.ts'

const EVERY_MS = 1000
const EVENTS_EVERY = 5
const HISTORY_EVERY_MS = 5000
/** Rows in the document; who wants others says which. */
const ROWS = 200
let view: View = START
let events: readonly EventShown[] = []
let looks = 0
let history: History | null = null
let historyMs = Number.NEGATIVE_INFINITY

async function look(): Promise<void> {
  try {
    const overview = await ask<NonNullable<View['overview']>>(questionOf(view, ROWS))
    const login = part('login', HTMLFormElement)
    if (overview === null) {
      if (login.hidden) part('token', HTMLInputElement).focus()
      login.hidden = false
      view = { ...view, trouble: 'A token is wanted' }
    } else {
      login.hidden = true
      if (view.overview === null) lookAtConnections()
      view = withOverview(view, overview, Date.now())
      await lookBack()
      if (looks++ % EVENTS_EVERY === 0) events = (await ask<readonly EventShown[]>('/v1/events/kept')) ?? []
    }
  } catch (error) {
    view = { ...view, trouble: `Nothing new: ${error instanceof Error ? error.message : error}` }
  }
  show()
}

function show(): void {
  const { overview, open } = view
  setText(part('trouble', HTMLElement), view.trouble ?? '')
  if (overview !== null) setText(part('director', HTMLElement), directorWords(overview))
  showFigures()
  showTable('services', serviceTable(view), openService)
  const servers = serverTable(view)
  part('servers-part', HTMLElement).hidden = servers === null
  if (servers !== null) {
    setText(part('servers-title', HTMLElement), `Real servers of ${open}`)
    showTable('servers', servers)
  }
  showDrawings()
  showTable('counts', countTable(view))
  showTable('events', eventTable(events))
}

async function lookBack(): Promise<void> {
  if (performance.now() - historyMs < HISTORY_EVERY_MS) return
  historyMs = performance.now()
  const query = view.open === null ? '' : `?${new URLSearchParams({ service: view.open })}`
  history = await ask<History>(`/v1/history${query}`)
}

function showDrawings(): void {
  const drawn = ways(view)
  if (drawn !== null) showWays(part('ways', HTMLElement), drawn, openService)
  if (history === null) return
  showPlots(part('plots', HTMLElement), plots(history))
  const changed = strips(history, Date.now())
  showStrips(part('strips', HTMLElement), changed)
  setText(part('strips-words', HTMLElement), changed.length === 0 ? 'No changes' : '')
}

function showFigures(): void {
  const list = part('traffic', HTMLElement)
  for (const [i, { title, text, line }] of figures(view).entries()) {
    let group = list.children[i]
    if (group === undefined) {
      group = document.createElement('div')
      group.append(document.createElement('dt'), document.createElement('dd'))
      if (line.length > 0) {
        const svg = document.createElementNS(SVG, 'svg')
        svg.setAttribute('viewBox', '0 0 120 30')
        svg.setAttribute('preserveAspectRatio', 'none')
        svg.setAttribute('aria-hidden', 'true')
        const path = document.createElementNS(SVG, 'polyline')
        path.setAttribute('fill', 'none')
        path.setAttribute('stroke', 'currentColor')
        path.setAttribute('vector-effect', 'non-scaling-stroke')
        svg.append(path)
        group.append(svg)
      }
      list.append(group)
    }
    setText(group.children[0]!, title)
    setText(group.children[1]!, text)
    group.querySelector('polyline')?.setAttribute('points', corners(line, 120, 30))
  }
}

function openService(service: string | null): void {
  const before = view.open
  view = { ...view, open: service }
  historyMs = Number.NEGATIVE_INFINITY
  show()
  void look()
  if (service !== null) part('servers', HTMLElement).focus()
  else if (before !== null) {
    const row = [...part('services', HTMLTableElement).tBodies[0]!.rows].find(
      ({ dataset }) => dataset.key === before,
    )
    row?.querySelector('button')?.focus()
  }
}

function listen(): void {
  const filter = part('filter', HTMLInputElement)
  const sort = part('sort', HTMLSelectElement)
  for (const name of SORTS) sort.append(new Option(name, name))
  sort.onchange = () => {
    view = { ...view, sort: sort.value }
    void look()
  }
  filter.oninput = () => {
    view = { ...view, filter: filter.value }
    void look()
  }
  listenToConnections()
  listenToExplain()
  part('find', HTMLFormElement).onsubmit = (event) => event.preventDefault()
  part('back', HTMLButtonElement).onclick = () => openService(null)
  part('login', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault()
    const token = part('token', HTMLInputElement)
    keepToken(token.value)
    token.value = ''
    void look()
  }
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return
    if (event.key === 'Escape') openService(null)
    else if (event.key === '/' && !isTyped(event.target)) {
      event.preventDefault()
      filter.focus()
    }
  })
}

function isTyped(target: EventTarget | null): boolean {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement
}

/** One question after the other, and none while nobody looks. */
async function watch(): Promise<void> {
  for (;;) {
    if (!document.hidden) await look()
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
  }
}

listen()
void watch()
