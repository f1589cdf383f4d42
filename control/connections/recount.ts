/**
 * Whether persistence templates control as many connections as they count (bpf/control.h): one that counts too many
 * never ends, one that counts too few ends before its connections. As with the counts of real servers, what a sweep
 * met says something only if the next ones meet the very same for longer than anybody stalls.
 */
import { PM_CONN_GENERATIONS } from '../../dataplane/layout/layout.gen.ts'
import { hasStalled } from './stall.ts'
import type { ConnectionTable } from './table.ts'

/** A template that counts other than what was met: all that must stay the same. */
interface Doubt {
  /** When it was first met so, in ticks. */
  readonly since: number
  /** Whose template it is. */
  readonly owner: number
  readonly counted: number
  readonly met: number
  /** Of the lines that were met. */
  readonly places: number
}

const NONE = new Uint32Array(0)

export class Recount {
  readonly #table: ConnectionTable
  /** Lines that the sweep under way looks at. */
  #lines = 0
  /** Connections met, and where, by the line of their template; empty until there is one. */
  #met: Uint32Array = NONE
  #places: Uint32Array = NONE
  #templates: number[] = []
  #doubts = new Map<number, Doubt>()

  constructor(table: ConnectionTable) {
    this.#table = table
  }

  /** How many templates are looked at again. */
  get doubts(): number {
    return this.#doubts.size
  }

  begin(lines: number): void {
    this.#lines = lines
    this.#templates = []
    if (this.#met.length === 0) return
    if (this.#met.length < lines) {
      this.#met = NONE
      this.#places = NONE
    } else {
      this.#met.fill(0)
      this.#places.fill(0)
    }
  }

  /** A connection that a template made. */
  meet(line: number): void {
    const template = this.#table.template(line)
    if (template < 0 || template >= this.#lines) return
    if (this.#met.length === 0) {
      this.#met = new Uint32Array(this.#lines)
      this.#places = new Uint32Array(this.#lines)
    }
    this.#met[template]!++
    this.#places[template]! += Math.imul(line, line) + line
  }

  meetTemplate(line: number): void {
    this.#templates.push(line)
  }

  /** At the end of a sweep: how many have been put right. */
  compare(now: number): number {
    const doubts = new Map<number, Doubt>()
    let repaired = 0
    for (const template of this.#templates) {
      const counted = this.#table.controlled(template)
      const met = this.#met[template] ?? 0
      if (counted === met) continue
      const owner = this.#table.word(template) & PM_CONN_GENERATIONS
      const doubt: Doubt = { since: now, owner, counted, met, places: this.#places[template] ?? 0 }
      const before = this.#doubts.get(template)
      if (before === undefined || !isSame(before, doubt)) doubts.set(template, doubt)
      else if (!hasStalled(before.since, now)) doubts.set(template, before)
      else if (this.#table.recount(template, counted, met)) repaired++
    }
    this.#doubts = doubts
    return repaired
  }
}

function isSame(one: Doubt, other: Doubt): boolean {
  return (
    one.owner === other.owner &&
    one.counted === other.counted &&
    one.met === other.met &&
    one.places === other.places
  )
}
