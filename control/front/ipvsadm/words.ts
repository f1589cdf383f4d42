/**
 * Reads options from the words of a command line, with the habits of popt 1.19, which ipvsadm uses.
 *
 * - `-abc` is a cluster; an option with an argument takes the rest of its word (`-srr`, `-s=rr`) or,
 *   if there is none, the next word, even one that starts with `-`.
 * - `--long value` and `--long=value`; long names are never abbreviated.
 * - An optional argument is taken from the next word only if that does not start with `-`.
 * - `--` ends the options; words without `-` and a lone `-` are left over for the end.
 * - `!#:+` within an argument stands for the next word that is no option, which is then used up.
 */
import { SPELLINGS, type Spelling } from './grammar.ts'

/** popt's errors, in its words. */
export type WordError = 'unknown option' | 'missing argument' | 'option does not take an argument'

const LONG: ReadonlyMap<string, Spelling> = new Map([...SPELLINGS].reverse().map((row) => [row.long, row]))
const SHORT: ReadonlyMap<string, Spelling> = new Map(
  SPELLINGS.flatMap((row) => (row.short === undefined ? [] : [[row.short, row] as const])),
)

const NEXT_WORD = '!#:+'

export class WordReader {
  /** The argument of the option read last, null if it has none. */
  argument: string | null = null
  /** Words that belong to no option, in order. */
  readonly leftOver: string[] = []
  readonly #words: readonly string[]
  #next: number
  /** What is left of a cluster; empty if none is open. */
  #cluster = ''
  #optionsEnded = false
  /** Indices of words used up by `!#:+`. */
  #used: Set<number> | null = null

  /** @param first index of the first word to read: 1 where the words begin with the program's name. */
  constructor(words: readonly string[], first: number) {
    this.#words = words
    this.#next = first
  }

  /** The word read last, which is the one popt quotes in errors: an option's argument included. */
  get lastWord(): string {
    return this.#words[this.#next - 1] ?? ''
  }

  /** Returns the next option; null at the end. */
  next(): Spelling | WordError | null {
    this.argument = null
    let spelling: Spelling | undefined
    /** What follows `=` in a long option, or is glued to a short one. */
    let glued: string | null = null

    if (this.#cluster === '') {
      const word = this.#nextOptionWord()
      if (word === null) return null
      if (word.startsWith('--')) {
        const equals = word.indexOf('=')
        spelling = LONG.get(equals < 0 ? word.slice(2) : word.slice(2, equals))
        if (spelling === undefined) return 'unknown option'
        if (equals >= 0) glued = word.slice(equals + 1)
        if (spelling.argument === 'none' && glued !== null) return 'option does not take an argument'
      } else {
        this.#cluster = word.slice(1)
      }
    }
    if (spelling === undefined) {
      const rest = this.#cluster
      this.#cluster = ''
      spelling = SHORT.get(rest[0] ?? '')
      if (spelling === undefined) return 'unknown option'
      const after = rest.slice(1)
      if (spelling.argument === 'none') {
        if (after.startsWith('=')) return 'option does not take an argument'
        this.#cluster = after
      } else if (after !== '') {
        glued = after.startsWith('=') ? after.slice(1) : after
      }
    }
    if (spelling.argument !== 'none') {
      if (glued === null) {
        const word = this.#words[this.#next]
        if (word === undefined) return spelling.argument === 'optional' ? spelling : 'missing argument'
        if (spelling.argument === 'optional' && word.startsWith('-')) return spelling
        this.#next++
        glued = word
      }
      this.argument = glued.includes(NEXT_WORD) ? this.#substitute(glued) : glued
    }
    return spelling
  }

  /** The next word that holds options; sets aside those that do not. */
  #nextOptionWord(): string | null {
    while (this.#next < this.#words.length) {
      const index = this.#next++
      if (this.#used?.has(index)) continue
      const word = this.#words[index]!
      if (this.#optionsEnded || word.length < 2 || !word.startsWith('-')) this.leftOver.push(word)
      else if (word === '--') this.#optionsEnded = true
      else return word
    }
    return null
  }

  #substitute(argument: string): string {
    let found = this.#next
    while (found < this.#words.length && (this.#used?.has(found) || this.#words[found]!.startsWith('-')))
      found++
    const word = this.#words[found]
    if (word === undefined) return argument
    this.#used ??= new Set()
    this.#used.add(found)
    return argument.replaceAll(NEXT_WORD, () => word)
  }
}
