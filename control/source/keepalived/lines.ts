/**
 * Lines of keepalived.conf, as its blocks see them: files that are included stand in the place of their
 * include, comments and conditions are done with, definitions are put in, repetitions are written out, and
 * braces begin and end lines.
 *
 * The order is keepalived's: includes are found first, so that neither conditions nor definitions work on
 * them; comments go next; a condition may stand before a definition; a definition is put in where it is
 * used, with what it means there.
 */
import { dirname, isAbsolute, join } from 'node:path'
import type { Complaint, Place } from '../../model/site.ts'
import type { Files } from '../file/read.ts'
import { matching } from './glob.ts'
import { isOpenEnded, withoutComment, wordsOf } from './words.ts'

export interface Line {
  readonly words: readonly string[]
  readonly at: Place
  /** An opening brace stands at its end. */
  readonly opens: boolean
}

export interface LinesOptions {
  /** What `@id` lines are for: option -i of keepalived, the host's name by default. */
  readonly configId: string
}

/** Deeper than any file includes another, unless they include each other. */
const DEPTH_MAX = 20
/** A definition that holds itself would be put in for ever. */
const REPLACEMENTS_MAX = 1000
const LINES_MAX = 1_000_000

const INCLUDE = /^\s*include(?<variant>[rmwba]?)\s+(?<pattern>.+?)\s*$/
const CONDITION = /^@(?<not>\^?)(?<id>[^\s]+)\s+(?<rest>.*)$/
const DEFINITION = /^\$(?<name>[A-Za-z_][A-Za-z0-9_]*)=(?<value>.*)$/s
const USE = /\$\{(?<braced>[A-Za-z_][A-Za-z0-9_]*)\}|\$(?<bare>[A-Za-z_][A-Za-z0-9_]*)(?=\s|$)/
const RANDOM = /\$\{_RANDOM(?:\s+(\d+))?(?:\s+(\d+))?\}/
const SEQUENCE = /^(?<before>.*?)~SEQ(?<hex>x?)\((?<list>[^)]*)\)\s*(?<rest>.*)$/s

/** Characters that would begin a comment; put in when comments are gone. */
const LETTERS: Readonly<Record<string, string>> = { _HASH: '#', _BANG: '!' }

export class LineReader {
  readonly lines: Line[] = []
  readonly files: string[] = []
  readonly complaints: Complaint[] = []
  readonly #from: Files
  readonly #options: LinesOptions
  readonly #definitions = new Map<string, string>()

  constructor(from: Files, options: LinesOptions) {
    this.#from = from
    this.#options = options
  }

  /** @returns false if the first file cannot be read */
  read(file: string): boolean {
    return this.#file(file, 0)
  }

  #remark(at: Place, message: string): void {
    this.complaints.push({ at, message, severity: 'remark' })
  }

  #file(file: string, depth: number): boolean {
    let text: string
    try {
      text = this.#from.read(file)
    } catch (error) {
      const message = `Cannot read "${file}": ${error instanceof Error ? error.message : error}`
      this.complaints.push({
        at: { file, line: 1, column: 1 },
        message,
        severity: depth === 0 ? 'error' : 'remark',
      })
      return false
    }
    this.files.push(file)
    const raw = text.split('\n')
    for (let i = 0; i < raw.length; i++) {
      const at = { file, line: i + 1, column: 1 }
      const include = INCLUDE.exec(withoutComment(raw[i]!))
      if (include !== null) {
        this.#include(include.groups!, at, depth)
        continue
      }
      let line = withoutComment(raw[i]!).trim()
      const definition = DEFINITION.exec(this.#conditional(line) ?? '')
      // A definition of many lines: each but the last ends in a backslash.
      const value = definition?.groups?.value?.trimEnd() ?? ''
      if (definition !== null && value.endsWith('\\')) {
        const parts = [value.slice(0, -1)]
        while (++i < raw.length) {
          const next = withoutComment(raw[i]!).trim()
          parts.push(next.endsWith('\\') ? next.slice(0, -1) : next)
          if (!next.endsWith('\\')) break
        }
        this.#definitions.set(
          definition.groups!.name!,
          parts
            .map((part) => part.trim())
            .filter(Boolean)
            .join('\n'),
        )
        continue
      }
      line = this.#conditional(line) ?? ''
      this.#logical(line, at)
    }
    return true
  }

  #include({ variant, pattern }: Record<string, string>, at: Place, depth: number): void {
    if (depth >= DEPTH_MAX) {
      this.#remark(at, `"${pattern}" is included by files that it includes: passed over`)
      return
    }
    const bare = pattern!.replace(/^(["'])(.*)\1$/, '$2')
    const path = isAbsolute(bare) ? bare : join(dirname(at.file), bare)
    const found = matching(path, this.#from)
    if (found.length === 0 && variant !== '') {
      this.#remark(at, `include${variant} "${pattern}" matches no file`)
    }
    for (const file of found) this.#file(file, depth + 1)
  }

  /** The line if it is for us; null if a condition says it is not. */
  #conditional(line: string): string | null {
    const condition = CONDITION.exec(line)
    if (condition === null) return line.startsWith('@') ? null : line
    const { not, id, rest } = condition.groups!
    return (id === this.#options.configId) === (not === '') ? rest!.trim() : null
  }

  /** A line without comment and condition: a definition, or what is left when all is put in. */
  #logical(line: string, at: Place): void {
    if (line === '' || this.lines.length > LINES_MAX) return
    const definition = DEFINITION.exec(line)
    if (definition !== null) {
      this.#definitions.set(definition.groups!.name!, definition.groups!.value!.trim())
      return
    }
    const sequence = SEQUENCE.exec(line)
    if (sequence !== null) {
      this.#sequence(sequence.groups!, at)
      return
    }
    const replaced = this.#replaced(line, at)
    const parts = replaced.split('\n')
    if (parts.length === 1 && !SEQUENCE.test(replaced)) this.#braces(replaced, at)
    else for (const part of parts) this.#logical(this.#conditional(part.trim()) ?? '', at)
  }

  /** `~SEQ(name, start, step, end)`: without step it is 1 or -1, without start it begins at 1. */
  #sequence({ before, hex, list, rest }: Record<string, string>, at: Place): void {
    const [name = '', ...texts] = list!.split(',').map((part) => part.trim())
    const numbers = texts.map((text) => Number(this.#replaced(text, at)))
    const end = numbers.at(-1) ?? Number.NaN
    const start = numbers.length > 1 ? numbers[0]! : 1
    const step = numbers.length > 2 ? numbers[1]! : end >= start ? 1 : -1
    if (
      !/^\w+$/.test(name) ||
      numbers.length < 1 ||
      numbers.length > 3 ||
      ![start, step, end].every(Number.isInteger)
    ) {
      this.#remark(at, `Cannot repeat by "~SEQ${hex}(${list})": expected ~SEQ(name, start, step, end)`)
      return
    }
    if (step === 0 || (end - start) / step > LINES_MAX) {
      this.#remark(at, `"~SEQ${hex}(${list})" has no end`)
      return
    }
    for (let value = start; step > 0 ? value <= end : value >= end; value += step) {
      this.#definitions.set(name, hex === '' ? String(value) : value.toString(16))
      this.#logical(`${before}${rest}`.trim(), at)
    }
  }

  #replaced(line: string, at: Place): string {
    let text = line
    let from = 0
    for (let count = 0; ; count++) {
      const random = RANDOM.exec(text)
      if (random !== null) {
        const low = Number(random[1] ?? 0)
        const high = Number(random[2] ?? 32767)
        const value = low + Math.floor(Math.random() * (high - low + 1))
        text = text.slice(0, random.index) + value + text.slice(random.index + random[0].length)
        continue
      }
      const use = USE.exec(text.slice(from))
      if (use === null) return text
      const index = from + use.index
      const value = this.#value(use.groups!.braced ?? use.groups!.bare!, at)
      // What is not defined stays as it is.
      if (value === null) from = index + use[0].length
      else text = text.slice(0, index) + value + text.slice(index + use[0].length)
      if (count > REPLACEMENTS_MAX) {
        this.#remark(at, `"${use[0]}" holds itself`)
        return text
      }
    }
  }

  #value(name: string, at: Place): string | null {
    if (name === '_PWD') return dirname(at.file)
    if (name === '_INSTANCE') return this.#options.configId
    return LETTERS[name] ?? this.#definitions.get(name) ?? null
  }

  /** Braces that are words of their own begin and end lines. */
  #braces(line: string, at: Place): void {
    if (isOpenEnded(line)) this.#remark(at, `A quote is not closed: ${line}`)
    let words: string[] = []
    const flush = (opens: boolean): void => {
      if (words.length > 0 || opens) this.lines.push({ words, at, opens })
      words = []
    }
    for (const { word, brace } of markedWords(line)) {
      if (!brace) words.push(word)
      else if (word === '{') flush(true)
      else {
        flush(false)
        this.lines.push({ words: ['}'], at, opens: false })
      }
    }
    flush(false)
  }
}

/** Words, and which of them are braces that no quotes hold. */
function markedWords(line: string): { readonly word: string; readonly brace: boolean }[] {
  const marked: { word: string; brace: boolean }[] = []
  for (const part of line.match(/(?:"[^"]*"?|'[^']*'?|[^\s"'])+/g) ?? []) {
    if (part === '{' || part === '}') marked.push({ word: part, brace: true })
    else for (const word of wordsOf(part)) marked.push({ word, brace: false })
  }
  return marked
}
