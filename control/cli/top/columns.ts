/** Columns of numbers in a terminal: what is counted, as many as there is room for. */
import { type Numbers, SHOWN, type ShownColumn, shownNumber } from '../../counting/measures.ts'
import { bits, right, short } from './figures.ts'

interface Column {
  readonly brief: string
  readonly sum: readonly ShownColumn[]
}

/** Those of one title are one. */
export const COLUMNS: readonly Column[] = [...new Set(SHOWN.map(({ brief }) => brief))].map((brief) => ({
  brief,
  sum: SHOWN.filter((one) => one.brief === brief),
}))

/** Numbers have at most five characters. */
const widthOf = ({ brief }: Column): number => Math.max(5, brief.length) + 2

/** As many as fit, from this one on. */
export function columnsIn(width: number, from: number): readonly Column[] {
  let used = 0
  return COLUMNS.slice(from).filter((column) => {
    used += widthOf(column)
    return used <= width
  })
}

export function widthOfAll(columns: readonly Column[]): number {
  return columns.reduce((sum, column) => sum + widthOf(column), 0)
}

export function titles(columns: readonly Column[]): string {
  return columns.map((column) => right(column.brief, widthOf(column))).join('')
}

export function numbersText(columns: readonly Column[], of: Numbers): string {
  return columns
    .map((column) => {
      const value = column.sum.reduce((sum, one) => sum + shownNumber(of, one), 0)
      return right(column.sum[0]!.unit === 'bits' ? bits(value) : short(value), widthOf(column))
    })
    .join('')
}
