/** Recorded ipvsadm sessions: their format, and how an outcome is compared with a recorded one. */
import { readFileSync } from 'node:fs'

export interface CommandStep {
  readonly argv: readonly string[]
  readonly stdin?: string
  readonly rc: number
  readonly stdout: string
  readonly stderr: string
  /** One pattern per line, each matching the whole line; replaces the comparison of `stdout`. */
  readonly stdout_lines?: readonly string[]
  readonly unordered?: boolean
  /** Two recordings differed here for no reason a pattern could tell: not compared. */
  readonly differs_between_runs?: boolean
}
/** What a client sends; of TCP `syn` is answered by nobody, and `close` is opened before. */
export type Traffic = {
  readonly src: string
  readonly sport: number
  readonly dst: string
  readonly dport: number
} & (
  | {
      readonly proto: 'udp'
      /** Datagrams, 1 unless said otherwise. */
      readonly count?: number
      /** Bytes of each. */
      readonly size?: number
      readonly payload?: string
      /** Each is answered. */
      readonly reply?: boolean
    }
  | { readonly proto: 'tcp'; readonly action: 'syn' | 'establish' | 'close' }
)
export type Step = CommandStep | { readonly sleep: number } | { readonly traffic: Traffic }

export interface Scenario {
  readonly name: string
  readonly area: string
  readonly unstable?: boolean
  readonly steps: readonly Step[]
}

export interface Recording {
  readonly format: 1
  readonly environment: { readonly hosts: string; readonly interfaces: string }
  readonly scenarios: readonly Scenario[]
}

export interface Output {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export function loadRecording(path: string): Recording {
  const recording = JSON.parse(readFileSync(path, 'utf8')) as Recording
  if (recording.format !== 1) throw new Error(`Cannot read ${path}: expected recordings of format 1`)
  return recording
}

export const isCommand = (step: Step): step is CommandStep => 'argv' in step

/** Recordings were matched with Python; its patterns here differ from JavaScript's in nothing but anchors. */
function matches(pattern: string, line: string): boolean {
  // `\-` and `\ ` are escapes in Python that JavaScript allows outside of Unicode mode only.
  return new RegExp(`^(?:${pattern})$`, 's').test(line)
}

function linesMatch(patterns: readonly string[], text: string, unordered: boolean): boolean {
  const lines = text === '' ? [] : text.replace(/\n$/, '').split('\n')
  if (lines.length !== patterns.length) return false
  if (!unordered) return patterns.every((pattern, i) => matches(pattern, lines[i]!))
  const left = [...lines]
  return patterns.every((pattern) => {
    const found = left.findIndex((line) => matches(pattern, line))
    if (found < 0) return false
    left.splice(found, 1)
    return true
  })
}

/** Differences between what a step printed and what was recorded, as text; empty if there are none. */
export function differences(step: CommandStep, output: Output): string[] {
  if (step.differs_between_runs) return []
  const found: string[] = []
  if (output.status !== step.rc) found.push(`exit status: expected ${step.rc}, got ${output.status}`)
  if (step.stdout_lines !== undefined) {
    if (!linesMatch(step.stdout_lines, output.stdout, step.unordered === true)) {
      found.push(`stdout, ${step.unordered ? 'patterns in any order' : 'patterns'}:`)
      found.push(...lineDiff(step.stdout_lines.join('\n'), output.stdout.replace(/\n$/, '')))
    }
  } else if (output.stdout !== step.stdout) {
    found.push('stdout:', ...lineDiff(step.stdout, output.stdout))
  }
  if (output.stderr !== step.stderr) found.push('stderr:', ...lineDiff(step.stderr, output.stderr))
  return found
}

/** Blanks at the end of a line and missing newlines made visible. */
const show = (line: string): string => line.replace(/ +$/, (blanks) => '·'.repeat(blanks.length))

/** A line diff by longest common subsequence: ` ` same, `-` only recorded, `+` only here. */
export function lineDiff(want: string, got: string): string[] {
  const a = want.split('\n')
  const b = got.split('\n')
  if (a.length * b.length > 4_000_000) return ['- (long)', '+ (long)']
  const common = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1))
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i]![j] =
        a[i] === b[j] ? common[i + 1]![j + 1]! + 1 : Math.max(common[i + 1]![j]!, common[i]![j + 1]!)
    }
  }
  const out: string[] = []
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      out.push(`    ${show(a[i]!)}`)
      i++
      j++
    } else if (j === b.length || (i < a.length && common[i + 1]![j]! >= common[i]![j + 1]!)) {
      out.push(`  - ${show(a[i++]!)}`)
    } else {
      out.push(`  + ${show(b[j++]!)}`)
    }
  }
  return out
}
