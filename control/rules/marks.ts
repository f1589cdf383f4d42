/** The marking rules as they are wanted: who states which, and what there is room for. */
import { PM_MARK_KINDS, PM_MARK_RULES } from '../../dataplane/layout/layout.gen.ts'
import {
  compareMatches,
  kindKey,
  kindOf,
  type MarkChange,
  type MarkListing,
  type MarkMatch,
  type MarkRule,
  markText,
  matchKey,
} from '../model/mark.ts'
import { done, type Outcome, refuse, success } from '../model/outcome.ts'
import type { Origin, SourceName, StatingSource } from '../model/source.ts'

export interface MarkDifference {
  readonly difference: 'added' | 'deleted'
  readonly rule: MarkRule
}

export interface RestatedMarks {
  readonly changes: readonly MarkDifference[]
  readonly refused: readonly { readonly rule: MarkRule; readonly message: string }[]
}

export class MarkBook {
  #rules = new Map<string, MarkListing>()
  /** How many rules there are of each kind. */
  #kinds = new Map<string, number>()
  #kindsOf = { 4: 0, 6: 0 }
  /** Another one after a change, the same in a copy. */
  #version: object = {}

  get version(): object {
    return this.#version
  }

  copy(): MarkBook {
    const book = new MarkBook()
    book.#rules = new Map(this.#rules)
    book.#kinds = new Map(this.#kinds)
    book.#kindsOf = { ...this.#kindsOf }
    book.#version = this.#version
    return book
  }

  get count(): number {
    return this.#rules.size
  }

  /** The most specific first. */
  list(): MarkListing[] {
    return [...this.#rules.values()].sort(compareMatches)
  }

  rules(): IterableIterator<MarkListing> {
    return this.#rules.values()
  }

  /** A rule that is there already may be said again. */
  add(rule: MarkRule, owner: SourceName, origins: (owner: SourceName) => Origin): Outcome {
    const key = matchKey(rule)
    const known = this.#rules.get(key)
    if (known !== undefined) {
      if (known.owner !== owner) return refuse('EBUSY', owned(known, origins(known.owner)))
      if (known.mark === rule.mark) return done
      return refuse(
        'EEXIST',
        `Cannot give mark ${rule.mark}: these packets have mark ${known.mark}; first: pointsman mark delete ${markText(known)}`,
      )
    }
    if (this.#rules.size >= PM_MARK_RULES) {
      return refuse(
        'ENOSPC',
        `Cannot add marking rule "${markText(rule)}": there are ${PM_MARK_RULES}, the most there can be`,
      )
    }
    const kind = kindKey(kindOf(rule))
    const ofKind = this.#kinds.get(kind) ?? 0
    if (ofKind === 0 && this.#kindsOf[rule.family] >= PM_MARK_KINDS) {
      return refuse(
        'ENOSPC',
        `Cannot add marking rule "${markText(rule)}": rules of IPv${rule.family} have ${PM_MARK_KINDS} combinations of prefix lengths, protocol and interface already, each of which costs a new connection a look-up; use prefix lengths that others have`,
      )
    }
    this.#put(key, { ...rule, owner }, kind)
    return done
  }

  #put(key: string, rule: MarkListing, kind: string): void {
    const ofKind = this.#kinds.get(kind) ?? 0
    if (ofKind === 0) this.#kindsOf[rule.family]++
    this.#kinds.set(kind, ofKind + 1)
    this.#rules.set(key, rule)
    this.#version = {}
  }

  #remove(key: string, rule: MarkMatch): void {
    const kind = kindKey(kindOf(rule))
    const left = (this.#kinds.get(kind) ?? 1) - 1
    if (left === 0) {
      this.#kinds.delete(kind)
      this.#kindsOf[rule.family]--
    } else {
      this.#kinds.set(kind, left)
    }
    this.#rules.delete(key)
    this.#version = {}
  }

  delete(rule: MarkRule, owner: SourceName, origins: (owner: SourceName) => Origin): Outcome {
    const key = matchKey(rule)
    const known = this.#rules.get(key)
    if (known === undefined || known.mark !== rule.mark) {
      return refuse('ENOENT', `No marking rule "${markText(rule)}", see: pointsman mark list`)
    }
    if (known.owner !== owner) return refuse('EBUSY', owned(known, origins(known.owner)))
    this.#remove(key, known)
    return done
  }

  /** Those of one owner, of one mark if that is said; how many. */
  flush(owner: SourceName, mark: number | null): number {
    let count = 0
    for (const [key, rule] of [...this.#rules]) {
      if (rule.owner !== owner || (mark !== null && rule.mark !== mark)) continue
      this.#remove(key, rule)
      count++
    }
    return count
  }

  /** Removals first: what they free may be what the others need. The first refusal ends it, half done. */
  change(change: MarkChange, owner: SourceName, origins: (owner: SourceName) => Origin): Outcome {
    if (change.flush !== false) this.flush(owner, change.flush === true ? null : change.flush)
    for (const rule of change.delete) {
      const outcome = this.delete(rule, owner, origins)
      if (!outcome.ok) return outcome
    }
    for (const rule of change.add) {
      const outcome = this.add(rule, owner, origins)
      if (!outcome.ok) return outcome
    }
    return success(undefined)
  }

  /**
   * A source says anew all that it wants; half done where something is refused.
   * @param takeOver rules that commands state otherwise become the source's, instead of being refused
   */
  restate(
    wanted: readonly MarkRule[],
    owner: StatingSource,
    takeOver: boolean,
    origins: (owner: SourceName) => Origin,
  ): RestatedMarks {
    const changes: MarkDifference[] = []
    const refused: { readonly rule: MarkRule; readonly message: string }[] = []
    const byKey = new Map(wanted.map((rule) => [matchKey(rule), rule]))
    for (const [key, rule] of [...this.#rules]) {
      if (rule.owner !== owner || byKey.get(key)?.mark === rule.mark) continue
      changes.push({ difference: 'deleted', rule })
      this.#remove(key, rule)
    }
    for (const [key, rule] of byKey) {
      const known = this.#rules.get(key)
      if (known?.owner === owner) continue
      const same = known?.mark === rule.mark
      if (known?.owner === 'manual' && (takeOver || same)) {
        if (!same) changes.push({ difference: 'deleted', rule: known })
        this.#remove(key, known)
      }
      const outcome = this.add(rule, owner, origins)
      if (!outcome.ok) refused.push({ rule, message: outcome.message })
      else if (!same) changes.push({ difference: 'added', rule })
    }
    return { changes, refused }
  }

  /** As an earlier daemon has left them, known to fit. */
  static of(rules: Iterable<MarkListing>): MarkBook {
    const book = new MarkBook()
    for (const rule of rules) book.#put(matchKey(rule), rule, kindKey(kindOf(rule)))
    return book
  }
}

function owned(rule: MarkListing, origin: Origin): string {
  const instead =
    rule.owner === 'manual'
      ? `delete it there: pointsman mark delete ${markText(rule)}, or take it over: pointsman apply --take-over`
      : origin.instead
  return `Marking rule "${markText(rule)}" belongs to ${origin.title}: ${instead}`
}
