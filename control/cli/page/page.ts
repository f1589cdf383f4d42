/** The page in a browser: asks the daemon once a second, and shows what `content.ts` makes of it. */
import type { EventShown } from '../../front/api/schema/event.ts'
import { SORTS, type Sort } from '../../front/api/schema/sorts.ts'
import { questionOf, START, type View, withOverview } from '../top/view.ts'
import {
  type Cell,
  type Column,
  corners,
  directorWords,
  events as eventTable,
  figures,
  type Row,
  servers as serverTable,
  services as serviceTable,
  type Table,
  verdicts as verdictTable,
} from './content.ts'

const EVERY_MS = 1000
const EVENTS_EVERY = 5
/** Rows in the document; who wants others says which. */
const ROWS = 200
const TOKEN = 'pointsman-token'
const SVG = 'http://www.w3.org/2000/svg'

function part<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id)
  if (!(found instanceof type)) throw new Error(`No ${id} in the page`)
  return found
}

let view: View = START
let events: readonly EventShown[] = []
let looks = 0

/** Null: a token is wanted. */
async function ask<T>(path: string): Promise<T | null> {
  const token = sessionStorage.getItem(TOKEN)
  const headers: HeadersInit = token === null ? {} : { authorization: `Bearer ${token}` }
  const answer = await fetch(path, { headers, signal: AbortSignal.timeout(10_000) })
  if (answer.status === 401) return null
  if (!answer.ok) throw new Error(`the director answered ${answer.status}`)
  return (await answer.json()) as T
}

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
      view = withOverview(view, overview, Date.now())
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
  showTable('services', serviceTable(view))
  const servers = serverTable(view)
  part('servers-part', HTMLElement).hidden = servers === null
  if (servers !== null) {
    setText(part('servers-title', HTMLElement), `Real servers of ${open}`)
    showTable('servers', servers)
  }
  showTable('verdicts', verdictTable(view))
  showTable('events', eventTable(events))
}

/** What says the same is left alone: a screen reader, and a selection, stay where they are. */
function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text
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

function showTable(id: string, { columns, rows, words }: Table): void {
  const table = part(id, HTMLTableElement)
  const head = table.tHead!
  if (head.rows.length === 0) head.append(headOf(columns))
  const caption = document.getElementById(`${id}-words`)
  if (caption !== null) setText(caption, words)
  const body = table.tBodies[0]!
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]))
  for (const [i, row] of rows.entries()) {
    const shown = known.get(row.key) ?? document.createElement('tr')
    known.delete(row.key)
    fill(shown, row)
    if (body.rows[i] !== shown) body.insertBefore(shown, body.rows[i] ?? null)
  }
  for (const gone of known.values()) gone.remove()
}

function headOf(columns: readonly Column[]): HTMLTableRowElement {
  const row = document.createElement('tr')
  for (const { title, kind } of columns) {
    const cell = document.createElement('th')
    cell.scope = 'col'
    cell.textContent = title
    if (kind !== undefined) cell.className = kind
    row.append(cell)
  }
  return row
}

function fill(row: HTMLTableRowElement, { key, cells }: Row): void {
  row.dataset.key = key
  for (const [i, cell] of cells.entries()) {
    const shown = row.cells[i] ?? row.insertCell()
    const wanted = [cell.kind, cell.tone].filter(Boolean).join(' ')
    if (shown.className !== wanted) shown.className = wanted
    if (cell.opens === undefined) setText(shown, cell.text)
    else fillButton(shown, cell, cell.opens)
  }
}

function fillButton(shown: HTMLTableCellElement, { text }: Cell, service: string): void {
  let button = shown.querySelector('button')
  if (button === null) {
    button = document.createElement('button')
    button.type = 'button'
    shown.append(button)
  }
  setText(button, text)
  button.onclick = () => openService(service)
}

function openService(service: string | null): void {
  const before = view.open
  view = { ...view, open: service }
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
    view = { ...view, sort: sort.value as Sort }
    void look()
  }
  filter.oninput = () => {
    view = { ...view, filter: filter.value }
    void look()
  }
  part('find', HTMLFormElement).onsubmit = (event) => event.preventDefault()
  part('back', HTMLButtonElement).onclick = () => openService(null)
  part('login', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault()
    const token = part('token', HTMLInputElement)
    sessionStorage.setItem(TOKEN, token.value)
    token.value = ''
    void look()
  }
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return
    if (event.key === 'Escape') openService(null)
    else if (event.key === '/' && !(event.target instanceof HTMLInputElement)) {
      event.preventDefault()
      filter.focus()
    }
  })
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
