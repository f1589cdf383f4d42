/** Drawings: arrows, plots, strips. Each says the same in words, for those who do not see it. */
import { type Drawing, HIGH, type Strip, type Way, type Ways, WIDE } from '../drawn.ts'
import { SVG, setText } from './dom.ts'

function svg(name: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
  const element = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value))
  return element
}

function setAttribute(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value)
}

/** Children by key: those that are there already stay. */
function keyed<T extends { readonly key: string }>(
  list: Element,
  wanted: readonly T[],
  make: (one: T) => Element,
  show: (element: Element, one: T) => void,
): void {
  const known = new Map([...list.children].map((child) => [child.getAttribute('data-key'), child]))
  for (const [i, one] of wanted.entries()) {
    const element = known.get(one.key) ?? make(one)
    known.delete(one.key)
    element.setAttribute('data-key', one.key)
    show(element, one)
    if (list.children[i] !== element) list.insertBefore(element, list.children[i] ?? null)
  }
  for (const gone of known.values()) gone.remove()
}

function arrow(): Element {
  const picture = svg('svg', { viewBox: '0 0 100 12', class: 'arrow', 'aria-hidden': 'true' })
  picture.setAttribute('preserveAspectRatio', 'none')
  picture.append(
    svg('line', { x1: 0, y1: 6, x2: 92, y2: 6, stroke: 'currentColor' }),
    svg('path', { d: 'M92 0 L100 6 L92 12 Z', fill: 'currentColor' }),
  )
  return picture
}

function widen(element: Element, width: number): void {
  const line = element.querySelector('line')
  if (line !== null) setAttribute(line, 'stroke-width', String(width))
}

export function showWays(into: HTMLElement, ways: Ways, open: (service: string) => void): void {
  if (into.children.length === 0) {
    const from = document.createElement('p')
    from.append(...['clients', 'director'].map(box))
    from.firstElementChild!.after(along())
    into.append(from, document.createElement('ul'), document.createElement('p'))
  }
  const [from, list, more] = [...into.children]
  widen(from!, ways.all.width)
  setText(from!.querySelector('.rate')!, ways.all.rate)
  setAttribute(list!, 'aria-label', ways.title)
  keyed(list!, ways.to, () => wayOf(open), showWay)
  setText(more!, ways.more)
}

function box(text: string): HTMLElement {
  const shown = document.createElement('b')
  shown.textContent = text
  return shown
}

function along(): HTMLElement {
  const shown = document.createElement('span')
  shown.className = 'along'
  const rate = document.createElement('span')
  rate.className = 'rate'
  shown.append(rate, arrow())
  return shown
}

function wayOf(open: (service: string) => void): Element {
  const row = document.createElement('li')
  const to = document.createElement('span')
  to.append(document.createElement('button'), document.createElement('b'), document.createElement('small'))
  const button = to.querySelector('button')!
  button.type = 'button'
  button.onclick = () => open(row.dataset.key ?? '')
  row.append(along(), to)
  return row
}

function showWay(row: Element, { to, rate, width, about, tone, opens }: Way): void {
  widen(row, width)
  setText(row.querySelector('.rate')!, rate)
  const [button, name, small] = [...row.lastElementChild!.children] as HTMLElement[]
  button!.hidden = opens === null
  name!.hidden = opens !== null
  setText(opens === null ? name! : button!, to)
  setText(small!, about)
  setAttribute(row, 'class', tone ?? '')
}

export function showPlots(into: HTMLElement, drawings: readonly Drawing[]): void {
  const wanted = drawings.map((drawing) => ({ ...drawing, key: drawing.title }))
  keyed(into, wanted, plotOf, (figure, { lines, top, words }) => {
    for (const [i, { points }] of lines.entries())
      setAttribute(figure.querySelectorAll('polyline')[i]!, 'points', points)
    setText(figure.querySelector('.top')!, top)
    setText(figure.querySelector('.words')!, words)
  })
}

function plotOf({ title, lines }: Drawing): Element {
  const figure = document.createElement('figure')
  const caption = document.createElement('figcaption')
  const words = document.createElement('span')
  words.className = 'words quiet'
  caption.append(`${title} `, words)
  const picture = svg('svg', { viewBox: `0 0 ${WIDE} ${HIGH}`, class: 'plot', 'aria-hidden': 'true' })
  picture.setAttribute('preserveAspectRatio', 'none')
  for (const i of [0, 0.5, 1])
    picture.append(svg('line', { x1: 0, x2: WIDE, y1: i * HIGH, y2: i * HIGH, class: 'grid' }))
  for (const [i] of lines.entries()) picture.append(svg('polyline', { class: `line${i}`, points: '' }))
  const top = document.createElement('span')
  top.className = 'top quiet'
  const axis = document.createElement('p')
  axis.className = 'axis quiet'
  for (const text of ['an hour ago', '30 min', 'now']) {
    const mark = document.createElement('span')
    mark.textContent = text
    axis.append(mark)
  }
  figure.append(caption, top, picture, axis)
  return figure
}

export function showStrips(into: HTMLElement, strips: readonly Strip[]): void {
  keyed(into, strips, stripOf, (row, { parts, words }) => {
    setText(row.querySelector('.words')!, words)
    const picture = row.querySelector('svg')!
    picture.replaceChildren(
      ...parts.map(({ from, to, state }) =>
        svg('rect', { x: from, width: to - from, y: 0, height: 12, class: state }),
      ),
    )
  })
}

function stripOf({ name }: Strip): Element {
  const row = document.createElement('li')
  const words = document.createElement('span')
  words.className = 'words quiet'
  const picture = svg('svg', { viewBox: `0 0 ${WIDE} 12`, class: 'strip', 'aria-hidden': 'true' })
  picture.setAttribute('preserveAspectRatio', 'none')
  row.append(box(name), ' ', words, picture)
  return row
}
