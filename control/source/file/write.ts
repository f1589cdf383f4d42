/** A document as YAML, one real server a line, as a person would write it. */
import type { SiteDocument } from './schema.ts'

/** What stays on one line. */
const LINE_MAX = 100
/** Plain in YAML 1.2, in a flow too, and nothing but a text: begins with a letter or is an IPv4 address. */
const PLAIN =
  /^[A-Za-z/][A-Za-z0-9_./-]*$|^\d+\.\d+\.\d+\.\d+(?::\d+|\/\d+)?$|^\d+(?:ms|s|m|h|d)$|^\d{3}-\d{3}$/
const WORDS = new Set(['true', 'false', 'null', 'yes', 'no', 'on', 'off', 'y', 'n'])

type Value = unknown

function scalar(value: Value): string {
  if (typeof value !== 'string') return JSON.stringify(value)
  return PLAIN.test(value) && !WORDS.has(value.toLowerCase()) ? value : JSON.stringify(value)
}

function isMapping(value: Value): value is Readonly<Record<string, Value>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function flow(value: Value): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`
  if (!isMapping(value)) return scalar(value)
  const parts = entries(value).map(([key, one]) => `${scalar(key)}: ${flow(one)}`)
  return parts.length === 0 ? '{}' : `{ ${parts.join(', ')} }`
}

function entries(value: Readonly<Record<string, Value>>): [string, Value][] {
  return Object.entries(value).filter(([, one]) => one !== undefined)
}

function fits(value: Value, indent: number): boolean {
  return typeof value !== 'object' || value === null || flow(value).length + indent <= LINE_MAX
}

function* block(value: Value, indent: number): Generator<string> {
  const blank = ' '.repeat(indent)
  if (Array.isArray(value)) {
    for (const one of value) {
      const lines = fits(one, indent + 2) && indent > 2 ? [flow(one)] : [...block(one, indent + 2)]
      yield `${blank}- ${(lines[0] ?? '').trimStart()}`
      yield* lines.slice(1)
    }
  } else if (isMapping(value)) {
    for (const [key, one] of entries(value)) {
      const list = Array.isArray(one) && one.some((item) => typeof item === 'object')
      if (fits(one, indent + key.length + 2) && !list) yield `${blank}${scalar(key)}: ${flow(one)}`
      else if (Array.isArray(one) && one.length === 0) yield `${blank}${scalar(key)}: []`
      else {
        yield `${blank}${scalar(key)}:`
        yield* block(one, indent + 2)
      }
    }
  } else {
    yield `${blank}${scalar(value)}`
  }
}

export function* documentLines(document: SiteDocument): Generator<string> {
  yield '# yaml-language-server: $schema=/usr/share/pointsman/pointsman.schema.json'
  yield* block(document, 0)
}

export function documentText(document: SiteDocument): string {
  return `${[...documentLines(document)].join('\n')}\n`
}
