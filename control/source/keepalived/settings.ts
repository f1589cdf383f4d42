/** The values of a block, checked where they are asked for. */
import { type Complaint, type Place, placeText } from '../../model/site.ts'
import type { Statement } from './blocks.ts'

const FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']

/** What was wrong with a text, and what of it is right but not taken here. */
export class Remarks {
  /** keepalived -t says something about these, too. */
  readonly remarks: Complaint[] = []
  /** Right in keepalived.conf, without effect here. */
  readonly notes: Complaint[] = []
  readonly #once = new Set<string>()
  /** What stands in several blocks is looked at for each of them. */
  readonly #said = new Set<string>()
  /** Some script that is there is run. */
  scripts = false
  readonly #exists: (path: string) => boolean

  constructor(exists: (path: string) => boolean = () => false) {
    this.#exists = exists
  }

  /** keepalived looks for a script where a shell would. */
  script(command: readonly string[]): void {
    const [program = ''] = command
    const paths = program.includes('/') ? [program] : FOLDERS.map((folder) => `${folder}/${program}`)
    if (paths.some(this.#exists)) this.scripts = true
  }

  remark(at: Place, message: string): void {
    if (this.#isNew(at, message)) this.remarks.push({ at, message, severity: 'remark' })
  }

  note(at: Place, message: string): void {
    if (this.#isNew(at, message)) this.notes.push({ at, message, severity: 'remark' })
  }

  #isNew(at: Place, message: string): boolean {
    const key = `${placeText(at)} ${message}`
    const isNew = !this.#said.has(key)
    this.#said.add(key)
    return isNew
  }

  /** Said of the first place only. */
  noteOnce(at: Place, message: string): void {
    if (this.#once.has(message)) return
    this.#once.add(message)
    this.note(at, message)
  }
}

/** Of values that stand in several blocks the innermost counts: checker, real server, virtual server. */
export class Settings {
  readonly at: Place
  readonly end: Place
  readonly remarks: Remarks
  readonly #inside: readonly Statement[]
  readonly #above: Settings | null

  constructor({ inside, at, end }: Statement, remarks: Remarks, above: Settings | null = null) {
    this.at = at
    this.end = end
    this.remarks = remarks
    this.#inside = inside
    this.#above = above
  }

  /** What stands in this block; the last one counts. */
  own(...names: readonly string[]): Statement | null {
    return this.#inside.findLast(({ words }) => names.includes(words[0]!)) ?? null
  }

  all(...names: readonly string[]): readonly Statement[] {
    return this.#inside.filter(({ words }) => names.includes(words[0]!))
  }

  /** Here, or in a block around. */
  find(...names: readonly string[]): Statement | null {
    return this.own(...names) ?? this.#above?.find(...names) ?? null
  }

  text(name: string): string | null {
    const statement = this.own(name)
    if (statement !== null && statement.words[1] === undefined) {
      this.remarks.remark(statement.at, `"${name}" wants a value`)
    }
    return statement?.words[1] ?? null
  }

  number(statement: Statement | null, min: number, max: number): number | null {
    if (statement === null) return null
    const [name, text] = statement.words
    const value = /^\d+$/.test(text ?? '') ? Number(text) : Number.NaN
    if (value >= min && value <= max) return value
    this.remarks.remark(statement.at, `${name}: expected ${min} to ${max}, got "${text ?? ''}"`)
    return null
  }

  /** Seconds, decimals allowed. */
  timerMs(statement: Statement | null, min = 0): number | null {
    if (statement === null) return null
    const [name, text] = statement.words
    const seconds = /^\d+(\.\d*)?$|^\.\d+$/.test(text ?? '') ? Number(text) : Number.NaN
    if (seconds >= min && seconds < 1e9) return Math.round(seconds * 1000)
    this.remarks.remark(statement.at, `${name}: expected seconds, got "${text ?? ''}"`)
    return null
  }

  /** A word alone is a yes. */
  flag(statement: Statement | null): boolean | null {
    if (statement === null) return null
    const [name, text] = statement.words
    if (text === undefined || ['true', 'on', 'yes'].includes(text)) return true
    if (['false', 'off', 'no'].includes(text)) return false
    this.remarks.remark(statement.at, `${name}: expected true or false, got "${text}"`)
    return null
  }

  /** Words that keepalived acts on, and we do not. */
  ignore(names: readonly string[], why: string): void {
    for (const { words, at } of this.all(...names))
      this.remarks.note(at, `"${words[0]}" is not taken: ${why}`)
  }
}
