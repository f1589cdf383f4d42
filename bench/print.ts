/** Rows for people. */
import type { Judgement } from './against/verdict.ts'
import type { ComparedRow } from './report.ts'
import { belowNoise, type Goal, met, type Row } from './section.ts'

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
  const below = belowNoise(row)
  if (below === 'value') {
    parts.push(`below the wrapper's own noise (${number(row.noise!)} ${row.unit})`)
  } else if (row.reference !== undefined && row.ratio !== undefined) {
    const { name, value } = row.reference
    parts.push(
      below === null
        ? `= ${ratioText(row.ratio)} × ${name} (${number(value)})`
        : `beside ${name} (${number(value)}), which is below the wrapper's own noise (${number(row.noise!)})`,
    )
  }
  const ok = met(row)
  if (row.goal !== undefined && ok !== null) {
    const said = { meets: 'meets', misses: 'misses', 'too-noisy': 'too noisy to judge' }[ok]
    parts.push(`[${said} ${goalText(row.goal, row.unit)}]`)
  }
  if (row.note !== undefined) parts.push(`(${row.note})`)
  return parts.join(' ').trimEnd()
}

const JUDGED: Readonly<Record<Judgement, string>> = {
  less: 'less',
  more: 'more',
  same: 'as before',
  'too-noisy': 'too noisy to judge',
  'below-noise': "below the wrapper's own noise",
  lacking: 'not compared',
}

/** One line of a comparison: what it is now, what it was, the ratio with its interval, and what that says. */
export function comparedLine(row: ComparedRow): string {
  const name = `  ${row.name.padEnd(48)}`
  const { ours, theirs, ratio, interval, why } = row
  if (ours === undefined || theirs === undefined || ratio === undefined) {
    return `${name} ${JUDGED[row.judgement]}: ${why ?? 'no reason was given'}`
  }
  const between = interval === undefined ? '' : ` (${interval.low.toFixed(3)} to ${interval.high.toFixed(3)})`
  const moved = row.better === null ? '' : row.better ? ', better' : ', WORSE'
  const values = `${number(ours).padStart(11)} ${row.unit.padEnd(9)} was ${number(theirs).padStart(11)}`
  return `${name} ${values} = ${ratio.toFixed(3)}${between}: ${JUDGED[row.judgement]}${moved}`
}
