/** What `npm run bench --` is asked for. */
import { parseArgs } from 'node:util'

export interface Request {
  readonly json: boolean
  readonly quick: boolean
  /** Sections by name; empty: those that are usual for this kind of run. */
  readonly sections: readonly string[]
  /** A commit to compare with. */
  readonly against: string | null
  /** A file that a comparison is added to, as a line. */
  readonly record: string | null
  /** A folder for SVG files. */
  readonly plots: string | null
}

/** `program`: the packet programs of two commits under one stopwatch; only with --against. */
export const PROGRAM = 'program'

const EXAMPLE = { record: 'bench/record.jsonl', plots: '/tmp/plots' } as const

/** @returns what is asked for, or what is wrong with it */
export function readCommandLine(argv: readonly string[], known: readonly string[]): Request | string {
  let parsed: ReturnType<typeof parse>
  try {
    parsed = parse(argv)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  const { values, positionals: sections } = parsed
  const against = values.against ?? null
  const possible = against === null ? known : [PROGRAM, ...known]
  const unknown = sections.filter((name) => !possible.includes(name))
  if (unknown.length > 0) {
    const only = unknown.includes(PROGRAM) ? `; ${PROGRAM} goes with --against REVISION` : ''
    return `no section "${unknown.join('", "')}": expected ${possible.join(', ')}${only}`
  }
  if (against === '') return '--against wants a commit: --against HEAD~1'
  const empty = (['record', 'plots'] as const).find((name) => values[name] === '')
  if (empty !== undefined) return `--${empty} wants a path: --${empty} ${EXAMPLE[empty]}`
  if (values.record !== undefined && against === null) {
    return '--record keeps comparisons: it goes with --against REVISION'
  }
  return {
    json: values.json,
    quick: values.quick,
    sections,
    against,
    record: values.record ?? null,
    plots: values.plots ?? null,
  }
}

function parse(argv: readonly string[]) {
  return parseArgs({
    args: [...argv],
    options: {
      json: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      against: { type: 'string' },
      record: { type: 'string' },
      plots: { type: 'string' },
    },
    allowPositionals: true,
  })
}
