/** Rows for people. */
import { type Goal, met, type Row } from './section.ts'

const number = (value: number): string => Math.round(value).toLocaleString('en')

/** Two digits where it matters, whole above ten. */
const ratioText = (ratio: number): string => (ratio < 10 ? ratio.toFixed(2) : Math.round(ratio).toString())

function goalText(goal: Goal, unit: string): string {
  const bound = goal.bound === 'most' ? '≤' : '≥'
  return goal.of === 'ratio' ? `${bound} ${goal.limit} ×` : `${bound} ${number(goal.limit)} ${unit}`
}

/** One line: name, value, best round, ratio to the reference, goal. */
export function rowLine(row: Row): string {
  const parts = [`  ${row.name.padEnd(84)} ${number(row.value).padStart(11)} ${row.unit.padEnd(10)}`]
  if (row.best !== undefined) parts.push(`best ${number(row.best)}`.padEnd(16))
  if (row.reference !== undefined && row.ratio !== undefined) {
    parts.push(`= ${ratioText(row.ratio)} × ${row.reference.name} (${number(row.reference.value)})`)
  }
  const ok = met(row)
  if (row.goal !== undefined && ok !== null) {
    parts.push(`[${ok ? 'meets' : 'misses'} ${goalText(row.goal, row.unit)}]`)
  }
  if (row.note !== undefined) parts.push(`(${row.note})`)
  return parts.join(' ').trimEnd()
}
