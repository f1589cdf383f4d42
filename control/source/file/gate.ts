/** What of a file stands in front of scheduling: sources that are denied or allowed, and marking rules. */
import type { Family } from '../../../net/address.ts'
import { bitsOf, parsePrefix, prefixText } from '../../../net/prefix.ts'
import { FILTER_ACTIONS } from '../../model/filter.ts'
import { type LimitSettings, SOURCE_LENGTH } from '../../model/limit.ts'
import { ALL_PORTS, type MarkRule, markText, matchKey } from '../../model/mark.ts'
import type { SiteFilter } from '../../model/site.ts'
import type { Complain } from './issues.ts'
import { type MarkDocument, parsePorts, type ServiceDocument } from './schema.ts'

type Path = readonly PropertyKey[]

interface AccessDocument {
  readonly deny?: readonly string[] | undefined
  readonly allow?: readonly string[] | undefined
}

/**
 * Each prefix once.
 * @param family of the service; null: of all services
 * @param seen prefixes that stand elsewhere in what is read
 */
export function resolveFilters(
  document: AccessDocument,
  family: Family | null,
  complain: Complain,
  seen = new Set<string>(),
): readonly { readonly filter: SiteFilter; readonly path: Path }[] {
  return FILTER_ACTIONS.flatMap((action) =>
    (document[action] ?? []).flatMap((text, index) => {
      const path = [action, index]
      const prefix = parsePrefix(text)
      if (typeof prefix === 'string') return []
      if (family !== null && prefix.family !== family) {
        complain(path, `Source "${text}" never reaches this service: expected an IPv${family} prefix`)
      }
      const name = prefixText(prefix)
      if (seen.has(name)) complain(path, `Source "${name}" is denied or allowed twice`)
      seen.add(name)
      return [{ filter: { prefix, action }, path }]
    }),
  )
}

export function resolveLimit(
  document: ServiceDocument['limit'],
  family: Family,
  complain: Complain,
): LimitSettings | null {
  if (document === undefined) return null
  const length = document.prefix ?? SOURCE_LENGTH[family]
  if (length > bitsOf(family)) {
    complain(['limit', 'prefix'], `Addresses of IPv${family} have ${bitsOf(family)} bits, not ${length}`)
  }
  const { rate = 0, connections = 0 } = document
  if (rate === 0 && connections === 0)
    complain(['limit'], 'A limit without a number: expected rate, connections or both')
  return { rate, connections, length }
}

/** The rules that a mark of the file stands for: one for each family and range of ports that is meant. */
export function resolveMark(document: MarkDocument, complain: Complain): readonly MarkRule[] {
  const [destination, source] = [document.to, document.from].map((text) => {
    const prefix = text === undefined ? null : parsePrefix(text)
    return typeof prefix === 'string' ? null : prefix
  })
  const said: Family | undefined =
    document.family === undefined ? undefined : document.family === 'ipv6' ? 6 : 4
  const families = new Set(
    [destination?.family, source?.family, said].filter((one): one is Family => one !== undefined),
  )
  if (families.size > 1) complain([], 'A marking rule is of one family: expected prefixes of one')
  const { ports = '0-65535', protocol = null, interface: name = null } = document
  const ranges = (Array.isArray(ports) ? ports : [ports]).map((one) => parsePorts(one) ?? ALL_PORTS)
  const all = families.size === 0 ? ([4, 6] as const) : [...families]
  return all.flatMap((family) =>
    ranges.map((range) => ({
      mark: document.mark,
      family,
      destination: destination ?? null,
      source: source ?? null,
      protocol,
      ports: document.ports === undefined ? null : range,
      interface: name,
    })),
  )
}

/** Which packets have which mark is said once. */
export class MarkedOnce {
  readonly #marks = new Map<string, MarkRule>()

  add(rule: MarkRule, complain: Complain): void {
    const key = matchKey(rule)
    const before = this.#marks.get(key)
    if (before !== undefined) complain([], `These packets have a mark already: "${markText(before)}"`)
    this.#marks.set(key, rule)
  }
}
