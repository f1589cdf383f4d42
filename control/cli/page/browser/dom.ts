/** From what is to be shown to elements. What says the same is left alone: a screen reader, and a selection, stay. */
import type { Cell, Column, Row, Table } from '../content.ts'

export const SVG = 'http://www.w3.org/2000/svg'

export function part<T extends Element>(id: string, type: new () => T): T {
  const found = document.getElementById(id)
  if (!(found instanceof type)) throw new Error(`No ${id} in the page`)
  return found
}

export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text
}

/** @param open called with what a cell opens */
export function showTable(
  id: string,
  { columns, rows, words }: Table,
  open: (what: string) => void = () => {},
): void {
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
    fill(shown, row, open)
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

function fill(row: HTMLTableRowElement, { key, cells }: Row, open: (what: string) => void): void {
  row.dataset.key = key
  for (const [i, cell] of cells.entries()) {
    const shown = row.cells[i] ?? row.insertCell()
    const wanted = [cell.kind, cell.tone].filter(Boolean).join(' ')
    if (shown.className !== wanted) shown.className = wanted
    if (cell.opens === undefined) setText(shown, cell.text)
    else fillButton(shown, cell, cell.opens, open)
  }
}

function fillButton(
  shown: HTMLTableCellElement,
  { text }: Cell,
  what: string,
  open: (what: string) => void,
): void {
  let button = shown.querySelector('button')
  if (button === null) {
    button = document.createElement('button')
    button.type = 'button'
    shown.append(button)
  }
  setText(button, text)
  button.onclick = () => open(what)
}
