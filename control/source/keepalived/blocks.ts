/**
 * Lines as blocks, the way keepalived takes them: a word that is not known where it stands is remarked on
 * and passed over, and so is its brace, but not what comes behind it. A block that is not known therefore
 * ends the one around it with its own closing brace, and what follows is read as if it stood outside.
 */
import type { Complaint, Place } from '../../model/site.ts'
import { type Block, ROOT } from './grammar.ts'
import type { Line } from './lines.ts'

export interface Statement {
  readonly words: readonly string[]
  readonly at: Place
  /** What stands in its block; empty for those that have none. */
  readonly inside: readonly Statement[]
  /** Its closing brace, or its only line. */
  readonly end: Place
}

export interface Blocks {
  readonly statements: readonly Statement[]
  readonly complaints: readonly Complaint[]
  /** The first of what is left to keepalived; null: there is none. */
  readonly elsewhere: Place | null
}

export function blocksOf(lines: readonly Line[]): Blocks {
  const reader = new BlockReader(lines)
  const statements = reader.words(ROOT, 0)
  return { statements, complaints: reader.finished(), elsewhere: reader.elsewhere }
}

class BlockReader {
  elsewhere: Place | null = null
  readonly #lines: readonly Line[]
  readonly #complaints: Complaint[] = []
  #next = 0
  /** Opening braces less closing ones. */
  #open = 0

  constructor(lines: readonly Line[]) {
    this.#lines = lines
  }

  finished(): readonly Complaint[] {
    const last = this.#lines.at(-1)
    if (this.#open > 0 && last !== undefined) {
      this.#remark(last.at, `${this.#open} closing braces are missing, or opening ones are too many`)
    }
    return this.#complaints
  }

  #remark(at: Place, message: string): void {
    this.#complaints.push({ at, message, severity: 'remark' })
  }

  #take(): Line | undefined {
    const line = this.#lines[this.#next++]
    if (line?.opens) this.#open++
    else if (line !== undefined && isEnd(line)) this.#open--
    return line
  }

  /** Of the line taken last. */
  get #end(): Place {
    const line = this.#lines[Math.min(this.#next, this.#lines.length) - 1]
    if (line === undefined) throw new Error('A block was read from no lines')
    return line.at
  }

  words(known: Readonly<Record<string, Block | 'value'>>, depth: number): Statement[] {
    const statements: Statement[] = []
    for (let line = this.#take(); line !== undefined; line = this.#take()) {
      const [word] = line.words
      if (isEnd(line)) {
        if (depth > 0) return statements
        this.#remark(line.at, 'Closing brace that nothing has opened')
        this.#open = Math.max(0, this.#open)
        continue
      }
      const what = word !== undefined && Object.hasOwn(known, word) ? known[word] : undefined
      if (what === undefined) {
        if (word !== undefined) this.#remark(line.at, `Unknown word "${word}"`)
        if (line.opens) this.#remark(line.at, 'Opening brace that nothing here can have: passed over')
      } else if (what === 'value') {
        if (line.opens) this.#remark(line.at, `"${word}" has no block: its opening brace is passed over`)
        statements.push({ words: line.words, at: line.at, inside: [], end: line.at })
      } else {
        const statement = this.#block(line, what, depth)
        if (statement !== null) statements.push(statement)
      }
    }
    return statements
  }

  #block(line: Line, block: Block, depth: number): Statement | null {
    // The brace may stand on the next line.
    if (!line.opens) {
      const next = this.#lines[this.#next]
      if (next?.words.length === 0 && next.opens) this.#take()
      else {
        this.#remark(line.at, `"${line.words[0]}" wants an opening brace`)
        return null
      }
    }
    switch (block.kind) {
      case 'words':
        return { words: line.words, at: line.at, inside: this.words(block.words, depth + 1), end: this.#end }
      case 'lines':
        return { words: line.words, at: line.at, inside: this.#values(), end: this.#end }
      case 'elsewhere':
        this.elsewhere ??= line.at
        this.#skip()
        return null
      default:
        return block satisfies never
    }
  }

  #values(): Statement[] {
    const statements: Statement[] = []
    for (let line = this.#take(); line !== undefined && !isEnd(line); line = this.#take()) {
      statements.push({ words: line.words, at: line.at, inside: [], end: line.at })
    }
    return statements
  }

  #skip(): void {
    for (let depth = 1; depth > 0; ) {
      const line = this.#take()
      if (line === undefined) return
      if (line.opens) depth++
      else if (isEnd(line)) depth--
    }
  }
}

const isEnd = ({ words, opens }: Line): boolean => !opens && words.length === 1 && words[0] === '}'
