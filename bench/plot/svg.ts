/** As much of SVG as a plot takes. Plots are read as files and in browsers, in light and in dark. */

export type Attributes = Readonly<Record<string, string | number>>

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign]!)

/** Tenths of a pixel are as much as anybody sees. */
const attribute = (value: string | number): string =>
  typeof value === 'number' ? String(Math.round(value * 10) / 10) : escaped(value)

export function element(name: string, attributes: Attributes, ...children: readonly string[]): string {
  const words = Object.entries(attributes).map(([key, value]) => ` ${key}="${attribute(value)}"`)
  return children.length === 0
    ? `<${name}${words.join('')}/>`
    : `<${name}${words.join('')}>${children.join('')}</${name}>`
}

export function text(at: { readonly x: number; readonly y: number }, words: string, more: Attributes = {}) {
  return element('text', { ...at, ...more }, escaped(words))
}

export const line = (x1: number, y1: number, x2: number, y2: number, more: Attributes = {}): string =>
  element('line', { x1, y1, x2, y2, ...more })

const STYLE = [
  ':root{color-scheme:light dark;--ink:#222;--faint:#bbb;--paper:#fff;--bar:#4878a8;--good:#2e8b57;--bad:#c0392b}',
  '@media(prefers-color-scheme:dark){:root{--ink:#ddd;--faint:#555;--paper:#181818;--bar:#6f9fcf;--good:#5fbf8f;--bad:#e57368}}',
  'text{font:12px system-ui,sans-serif;fill:var(--ink)}',
  '.title{font-weight:600}.small{font-size:11px;opacity:.75}.end{text-anchor:end}.middle{text-anchor:middle}',
  '.bar{fill:var(--bar)}.faint{stroke:var(--faint);fill:none}.ink{stroke:var(--ink);fill:var(--ink)}',
  '.better{stroke:var(--good);fill:var(--good)}.worse{stroke:var(--bad);fill:var(--bad)}',
].join('')

export function document(width: number, height: number, children: readonly string[]): string {
  const frame = { xmlns: 'http://www.w3.org/2000/svg', viewBox: `0 0 ${width} ${height}`, width, height }
  const paper = element('rect', { width, height, fill: 'var(--paper)' })
  return `${element('svg', frame, element('style', {}, STYLE), paper, ...children)}\n`
}

/** Steps of 1, 2 or 5 times a power of ten from 0 to at least `most`: at most seven. */
export function ticks(most: number): number[] {
  if (!(most > 0) || !Number.isFinite(most)) return [0, 1]
  const rough = most / 5
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough)!
  const count = Math.ceil(most / step - 1e-9)
  return Array.from({ length: count + 1 }, (_, at) => Number((at * step).toPrecision(12)))
}
