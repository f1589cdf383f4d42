/** What a metric is, and how its lines are written. */
import type { MetricsFormat } from '../../front/api/route.ts'

export interface Named {
  /** In base units (seconds, bytes); counters end in `_total`. */
  readonly name: string
  readonly type: 'counter' | 'gauge'
  readonly help: string
}

export type Labels = Readonly<Record<string, string>>
export type Sample = readonly [labels: Labels, value: number]

/** A label's value between its quotes. */
export function escaped(text: string): string {
  return /["\\\n]/.test(text)
    ? text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
    : text
}

function escapedHelp(text: string, format: MetricsFormat): string {
  const line = text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
  return format === 'text' ? line : line.replaceAll('"', '\\"')
}

/** The lines that stand above a metric's samples. OpenMetrics names a counter without its `_total` there. */
export function heading({ name, type, help }: Named, format: MetricsFormat): string {
  const family = format === 'openmetrics' && type === 'counter' ? name.replace(/_total$/, '') : name
  return `# HELP ${family} ${escapedHelp(help, format)}\n# TYPE ${family} ${type}\n`
}

export function sampleLine(name: string, [labels, value]: Sample): string {
  const text = Object.entries(labels)
    .map(([label, of]) => `${label}="${escaped(of)}"`)
    .join(',')
  return text === '' ? `${name} ${value}\n` : `${name}{${text}} ${value}\n`
}

export const END: Readonly<Record<MetricsFormat, string>> = { text: '', openmetrics: '# EOF\n' }
