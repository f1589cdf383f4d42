/**
 * The plain part of YAML 1.2 that programs write and people mostly do, some fifty times as fast as a reader of
 * all of it: block lists and mappings, flow ones on one line, plain words, JSON's strings. Whatever is not
 * surely in it is left to the other one (text.ts), and so is everything that is wrong.
 */
/** From 1. */
export interface QuickPosition {
  readonly line: number
  readonly column: number
}

export interface QuickDocument {
  readonly value: unknown
  readonly items: Items
  /** Where the items of a list stand that is the value of a key of the whole text. */
  place(key: string, index: number): QuickPosition | null
}

/** Not to be read in this way. */
class Unsure extends Error {}

interface Line {
  readonly indent: number
  readonly text: string
  /** From 1. */
  readonly number: number
  /** Where it begins in the text. */
  readonly start: number
}

/**
 * Items of the list `services` by their text, as they were read the last time: of a large file that has
 * changed in one place all others are the same values.
 */
export type Items = Map<string, unknown>

const REMEMBERED = 'services'

const WORD = /^[A-Za-z/][A-Za-z0-9_./-]*$/
const NUMBER = /^(?:0|[1-9][0-9]{0,9})$/
/** Addresses, times, ranges: nothing that YAML takes for a number. */
const TEXT = /^\d+\.\d+\.\d+\.\d+(?::\d+)?$|^\d+(?:ms|s|m|h|d)$|^\d{3}-\d{3}$/
const MEANING = /^(?:null|true|false)$/i
/** Of flow values, from where the reader stands. */
const QUOTED = /"(?:[^"\\]|\\.)*"/y
/** A quoted string that says what it says without being read as JSON. */
const PLAINLY_QUOTED = /"[ !#-[\]-~]*"/y
const FLOW_WORD = /[A-Za-z0-9/][A-Za-z0-9_./:-]*/y
const KEY = /^([A-Za-z][A-Za-z0-9_.-]*):(?: +(.*))?$/
/** White space that some take for a blank or the end of a line, and others do not. */
const STRANGE = /[\r\t\v\f\u0085\u00a0\u2028\u2029\ufeff]/
const DEPTH_MAX = 32

function plain(text: string): unknown {
  if (NUMBER.test(text)) return Number(text)
  if (TEXT.test(text)) return text
  if (!WORD.test(text)) throw new Unsure()
  if (!MEANING.test(text)) return text
  if (text === 'true') return true
  if (text === 'false') return false
  throw new Unsure()
}

/** One value on a line, and nothing behind it. */
class Flow {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  whole(): unknown {
    const value = this.#value(0)
    this.#blanks()
    if (this.#at < this.#text.length) throw new Unsure()
    return value
  }

  #blanks(): void {
    while (this.#text[this.#at] === ' ') this.#at++
  }

  #value(depth: number): unknown {
    if (depth > DEPTH_MAX) throw new Unsure()
    this.#blanks()
    const first = this.#text[this.#at]
    if (first === '[') return this.#list(depth)
    if (first === '{') return this.#mapping(depth)
    return this.#scalar()
  }

  #scalar(): unknown {
    if (this.#text[this.#at] === '"') return this.#string()
    let text = this.#take(FLOW_WORD) ?? ''
    if (text.endsWith(':')) {
      text = text.slice(0, -1)
      this.#at--
    }
    return plain(text)
  }

  #string(): string {
    const plainly = this.#take(PLAINLY_QUOTED)
    if (plainly !== null) return plainly.slice(1, -1)
    const quoted = this.#take(QUOTED)
    if (quoted === null) throw new Unsure()
    try {
      return JSON.parse(quoted)
    } catch {
      throw new Unsure()
    }
  }

  /** What matches here, and goes past it. */
  #take(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at
    if (!pattern.test(this.#text)) return null
    const text = this.#text.slice(this.#at, pattern.lastIndex)
    this.#at = pattern.lastIndex
    return text
  }

  #list(depth: number): unknown[] {
    const items: unknown[] = []
    this.#at++
    this.#blanks()
    while (this.#text[this.#at] !== ']') {
      items.push(this.#value(depth + 1))
      this.#blanks()
      // A key here would make the item a mapping.
      if (this.#text[this.#at] === ',') this.#at++
      else if (this.#text[this.#at] !== ']') throw new Unsure()
      this.#blanks()
    }
    this.#at++
    return items
  }

  #mapping(depth: number): Record<string, unknown> {
    const mapping: Record<string, unknown> = {}
    this.#at++
    this.#blanks()
    while (this.#text[this.#at] !== '}') {
      const key = this.#scalar()
      if (typeof key !== 'string' || key === '__proto__' || Object.hasOwn(mapping, key)) throw new Unsure()
      if (this.#text[this.#at] !== ':' || this.#text[this.#at + 1] !== ' ') throw new Unsure()
      this.#at++
      mapping[key] = this.#value(depth + 1)
      this.#blanks()
      if (this.#text[this.#at] === ',') this.#at++
      else if (this.#text[this.#at] !== '}') throw new Unsure()
      this.#blanks()
    }
    this.#at++
    return mapping
  }
}

function inline(text: string): unknown {
  const first = text[0]
  return first === '[' || first === '{' || first === '"' ? new Flow(text).whole() : plain(text)
}

/** Lines that say something, one at a time: most of a large text is passed over, and none of it kept. */
class Lines {
  readonly #text: string
  /** Where the line behind the present one begins, and its number. */
  #next = 0
  #number = 0
  /** undefined: behind the last one. */
  current: Line | undefined

  constructor(text: string) {
    this.#text = text
    this.advance()
  }

  advance(): void {
    this.#seek(Number.POSITIVE_INFINITY)
  }

  /** To the next line that is no further to the right than this. */
  pass(indent: number): void {
    this.#seek(indent)
  }

  #seek(indentMax: number): void {
    const text = this.#text
    while (this.#next < text.length) {
      const at = this.#next
      let end = text.indexOf('\n', at)
      if (end < 0) end = text.length
      this.#next = end + 1
      this.#number++
      let start = at
      while (text.charCodeAt(start) === 32) start++
      if (start >= end || text.charCodeAt(start) === 35 || start - at > indentMax) continue
      let stop = end
      while (text.charCodeAt(stop - 1) === 32) stop--
      this.current = {
        indent: start - at,
        text: text.slice(start, stop),
        number: this.#number,
        start: at,
      }
      return
    }
    this.current = undefined
  }

  /** Where it stands, to come back to. */
  mark(): () => void {
    const [next, number, current] = [this.#next, this.#number, this.current]
    return () => {
      this.#next = next
      this.#number = number
      this.current = current
    }
  }
}

class Block {
  readonly #lines: Lines
  readonly places = new Map<string, QuickPosition[]>()
  readonly #source: string
  readonly #known: Items
  readonly items: Items = new Map()

  constructor(source: string, known: Items) {
    this.#source = source
    this.#lines = new Lines(source)
    this.#known = known
  }

  whole(): unknown {
    if (this.#lines.current === undefined) return null
    const value = this.#value(0, 0, null)
    if (this.#lines.current !== undefined) throw new Unsure()
    return value
  }

  #value(indent: number, depth: number, key: string | null): unknown {
    const line = this.#lines.current
    if (line === undefined || line.indent !== indent || depth > DEPTH_MAX) throw new Unsure()
    return line.text.startsWith('- ') || line.text === '-'
      ? this.#list(indent, depth, key)
      : this.#mapping(indent, depth)
  }

  #list(indent: number, depth: number, key: string | null): unknown[] {
    const items: unknown[] = []
    const places: QuickPosition[] = []
    for (;;) {
      const line = this.#lines.current
      if (line === undefined || line.indent < indent || !line.text.startsWith('- ')) break
      if (line.indent !== indent) throw new Unsure()
      const rest = line.text.slice(2).replace(/^ +/, '')
      const inner = line.indent + line.text.length - rest.length
      places.push({ line: line.number, column: inner + 1 })
      if (rest.startsWith('- ')) throw new Unsure()
      if (KEY.test(rest)) {
        const remembered = key === REMEMBERED && depth === 1
        items.push(remembered ? this.#item(line, inner, rest) : this.#keyed(line, inner, rest, depth))
      } else {
        this.#lines.advance()
        items.push(inline(rest))
      }
    }
    if (key !== null && depth === 1) this.places.set(key, places)
    return items
  }

  /** An item that begins with a key is a mapping, as far to the right as that. */
  #keyed(line: Line, indent: number, text: string, depth: number): unknown {
    this.#lines.current = { ...line, indent, text }
    return this.#mapping(indent, depth + 1)
  }

  #item(line: Line, indent: number, text: string): unknown {
    const back = this.#lines.mark()
    this.#lines.pass(line.indent)
    const end = this.#lines.current?.start ?? this.#source.length
    const source = this.#source.slice(line.start, end)
    const known = this.#known.get(source)
    if (known !== undefined) {
      this.items.set(source, known)
      return known
    }
    back()
    const value = this.#keyed(line, indent, text, 1)
    if ((this.#lines.current?.start ?? this.#source.length) !== end) throw new Unsure()
    this.items.set(source, value)
    return value
  }

  #mapping(indent: number, depth: number): Record<string, unknown> {
    const mapping: Record<string, unknown> = {}
    for (;;) {
      const line = this.#lines.current
      if (line === undefined || line.indent < indent) break
      const match = line.indent === indent ? KEY.exec(line.text) : null
      const key = match?.[1]
      // Words that mean something else than themselves, as keys or twice, are for the other reader.
      if (key === undefined || MEANING.test(key) || key === '__proto__' || Object.hasOwn(mapping, key)) {
        // The items of a list may stand as far to the left as its key.
        if (line.indent === indent && line.text.startsWith('- ')) break
        throw new Unsure()
      }
      this.#lines.advance()
      const rest = match?.[2] ?? ''
      mapping[key] = rest === '' ? this.#nested(indent, depth, key) : inline(rest)
    }
    return mapping
  }

  #nested(indent: number, depth: number, key: string): unknown {
    const next = this.#lines.current
    if (next === undefined || next.indent < indent) return null
    if (next.indent === indent) {
      return next.text.startsWith('- ') ? this.#list(indent, depth + 1, key) : null
    }
    return this.#value(next.indent, depth + 1, key)
  }
}

/**
 * @param known what the last reading of this file remembered; its items are handed out again
 * @returns null: not surely plain enough
 */
export function parseQuick(text: string, known: Items = new Map()): QuickDocument | null {
  if (STRANGE.test(text)) return null
  try {
    const block = new Block(text, known)
    const value = block.whole()
    return { value, items: block.items, place: (key, index) => block.places.get(key)?.[index] ?? null }
  } catch (error) {
    if (error instanceof Unsure) return null
    throw error
  }
}
