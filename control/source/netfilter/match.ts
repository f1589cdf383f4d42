/** What both languages of netfilter say of packets, gathered until a rule can be made of it. */
import type { Family } from '../../../net/address.ts'
import { type Prefix, parsePrefix } from '../../../net/prefix.ts'
import type { Protocol } from '../../../net/protocol.ts'
import type { MarkRule, PortRange } from '../../model/mark.ts'

/** Why a line is not taken; thrown by whoever reads a part of it. */
export class NotTakenError extends Error {
  override readonly name = 'NotTakenError'
}

/** A line as it stands. */
export interface Said {
  readonly line: number
  readonly text: string
}

export interface NotTaken extends Said {
  readonly why: string
}

/** A line that gives a mark: all of its alternatives (several ports, say) as rules. */
export interface MarkLine extends Said {
  readonly rules: readonly MarkRule[]
  /** No later rule is asked after it. */
  readonly last: boolean
}

export interface ReadLines {
  readonly lines: readonly MarkLine[]
  readonly notTaken: readonly NotTaken[]
}

/** Alternatives of each; null: not looked at. */
export interface Match {
  family: Family | null
  sources: readonly Prefix[] | null
  destinations: readonly Prefix[] | null
  protocols: readonly Protocol[] | null
  ports: readonly PortRange[] | null
  interfaces: readonly string[] | null
  mark: number | null
  last: boolean
}

export function noMatch(family: Family | null): Match {
  return {
    family,
    sources: null,
    destinations: null,
    protocols: null,
    ports: null,
    interfaces: null,
    mark: null,
    last: false,
  }
}

/** More alternatives than a person writes; each becomes a rule. */
const ALTERNATIVES_MAX = 1024

export function prefixOf(text: string): Prefix {
  const prefix = parsePrefix(text)
  if (typeof prefix === 'string') throw new NotTakenError(prefix)
  return prefix
}

export function protocolOf(text: string): Protocol {
  const name = { '6': 'tcp', '17': 'udp', '132': 'sctp' }[text] ?? text
  if (name === 'tcp' || name === 'udp' || name === 'sctp') return name
  throw new NotTakenError(`protocol ${text} is none that virtual services have: expected tcp, udp or sctp`)
}

/** `80`, or `1000` and `2000` with the separator between them. */
export function portsOf(text: string, separator: ':' | '-'): PortRange {
  const parts = text.split(separator)
  const [from = '', to = from] = parts
  if (parts.length > 2 || !isPort(from) || !isPort(to) || Number(from) > Number(to)) {
    throw new NotTakenError(`"${text}" is no port or range of ports by number`)
  }
  return { from: Number(from), to: Number(to) }
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65535
}

export function markOf(text: string): number {
  const mark = /^(0x[0-9a-f]{1,8}|\d{1,10})$/i.test(text) ? Number(text) : Number.NaN
  if (Number.isInteger(mark) && mark >= 1 && mark <= 0xffffffff) return mark
  throw new NotTakenError(`mark "${text}" is none: expected 1 to 4294967295`)
}

/** The rules of all alternatives. */
function rulesOf(match: Match): readonly MarkRule[] {
  const { mark } = match
  if (mark === null) throw new NotTakenError('it gives no mark')
  const rules: MarkRule[] = []
  const each = <T>(values: readonly T[] | null): readonly (T | null)[] => values ?? [null]
  for (const destination of each(match.destinations)) {
    for (const source of each(match.sources)) {
      const families = new Set([destination?.family, source?.family, match.family].filter((f) => f != null))
      if (families.size > 1) continue
      for (const protocol of each(match.protocols)) {
        for (const ports of each(match.ports)) {
          for (const name of each(match.interfaces)) {
            for (const family of families.size === 0 ? ([4, 6] as const) : (families as Set<Family>)) {
              rules.push({ family, mark, source, destination, protocol, ports, interface: name })
            }
          }
        }
      }
    }
    if (rules.length > ALTERNATIVES_MAX) {
      throw new NotTakenError(`it stands for more than ${ALTERNATIVES_MAX} rules`)
    }
  }
  if (rules.length === 0) throw new NotTakenError('it is about two families of addresses at once')
  return rules
}

/** What the lines of a text come to, whichever language they are in. */
export class Gathered implements ReadLines {
  readonly lines: MarkLine[] = []
  readonly notTaken: NotTaken[] = []
  /** Lines by which packets leave a chain, and never come to those after them. */
  readonly #leaving = new Map<string, Said[]>()

  leaves(chain: string, said: Said): void {
    const lines = this.#leaving.get(chain) ?? []
    this.#leaving.set(chain, lines)
    lines.push(said)
  }

  /** A line that gives a mark. `match` reads it, and throws `NotTakenError` where it has no counterpart. */
  marks(chain: string, said: Said, match: () => Match): void {
    // Those before it, each told once.
    for (const before of this.#leaving.get(chain) ?? []) {
      const why = 'it keeps packets from the lines after it, whose marks they have here all the same'
      this.notTaken.push({ ...before, why })
    }
    this.#leaving.delete(chain)
    try {
      const found = match()
      this.lines.push({ ...said, rules: rulesOf(found), last: found.last })
    } catch (error) {
      if (!(error instanceof NotTakenError)) throw error
      this.notTaken.push({ ...said, why: error.message })
    }
  }
}
