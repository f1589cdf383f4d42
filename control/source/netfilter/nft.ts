/** nftables: what `nft list ruleset` prints, and `add rule` lines of scripts. */
import type { Family } from '../../../net/address.ts'
import {
  Gathered,
  type Match,
  markOf,
  NotTakenError,
  noMatch,
  portsOf,
  prefixOf,
  protocolOf,
  type ReadLines,
  type Said,
} from './match.ts'

/** Hooks that packets pass before IPVS sees them. */
const HOOKS = ['prerouting', 'input', 'ingress']

/** Verdicts after which the next rule is not asked, or not at once. */
const LEAVES = /\b(accept|drop|reject|return|queue|jump|goto|vmap)\b/

interface Chain {
  hook: string | null
}

export function readNft(text: string): ReadLines {
  const gathered = new Gathered()
  const chains = new Map<string, Chain>()
  let table: { readonly family: string; readonly name: string } | null = null
  let chain: string | null = null
  for (const [i, raw] of text.split('\n').entries()) {
    const said = raw.trim()
    const declared = /^(?:add |create )?table (?:(ip6?|inet|arp|bridge|netdev) )?(\S+)/.exec(said)
    const opened = /^chain (\S+) \{/.exec(said)
    const added =
      /^(?:nft )?(add|create) (chain|rule) (?:(ip6?|inet|arp|bridge|netdev) )?(\S+) (\S+)\s*(.*)$/.exec(said)
    if (declared !== null && said.endsWith('{')) {
      table = { family: declared[1] ?? 'ip', name: declared[2]! }
    } else if (opened !== null && table !== null) {
      chain = `${table.family} ${table.name} ${opened[1]}`
      chains.set(chain, { hook: null })
    } else if (said === '}') {
      if (chain === null) table = null
      chain = null
    } else if (added !== null) {
      const [, , what, family = 'ip', tableName = '', chainName = '', rest = ''] = added
      const name = `${family} ${tableName} ${chainName}`
      if (what === 'chain') chains.set(name, { hook: hookOf(rest) })
      else take(rest, { line: i + 1, text: said }, family, name)
    } else if (chain !== null && table !== null) {
      const hook = hookOf(said)
      if (hook !== null) chains.set(chain, { hook })
      else take(said, { line: i + 1, text: said }, table.family, chain)
    }
  }
  return gathered

  function take(rule: string, said: Said, family: string, name: string): void {
    if (/^#/.test(rule)) return
    if (!/\bmark set\b/.test(rule)) {
      if (LEAVES.test(rule)) gathered.leaves(name, said)
      return
    }
    gathered.marks(name, said, () => {
      const of = chains.get(name)
      if (of?.hook == null) throw new NotTakenError('its chain hangs on no hook; jumps are not followed')
      if (!HOOKS.includes(of.hook)) throw new NotTakenError(`hook ${of.hook} comes after virtual services`)
      return matchOf(tokens(rule), familyOf(family))
    })
  }
}

function hookOf(text: string): string | null {
  return /\btype \w+ hook (\w+)/.exec(text)?.[1] ?? null
}

function familyOf(name: string): Family | null {
  if (name === 'ip') return 4
  if (name === 'ip6') return 6
  if (name === 'inet' || name === 'netdev') return null
  throw new NotTakenError(`family ${name} has no virtual services`)
}

function tokens(text: string): string[] {
  return Array.from(text.matchAll(/"([^"]*)"|[{},]|[^\s{},]+/g), ([whole, quoted]) => quoted ?? whole)
}

/** Reads on from a place in the words of a rule. */
class Reader {
  readonly #words: readonly string[]
  #at = 0

  constructor(words: readonly string[]) {
    this.#words = words
  }

  get ended(): boolean {
    return this.#at >= this.#words.length
  }

  next(): string {
    return this.#words[this.#at++] ?? ''
  }

  /** The word, if it comes next. */
  take(word: string): boolean {
    if (this.#words[this.#at] !== word) return false
    this.#at++
    return true
  }

  /** One value, or those in braces. */
  values(): string[] {
    this.take('==')
    const first = this.next()
    if (first === '!=') throw new NotTakenError('a negation has no counterpart')
    if (first.startsWith('@')) throw new NotTakenError(`set ${first} is not looked up`)
    if (first !== '{') return [first]
    const values: string[] = []
    while (!this.ended) {
      const word = this.next()
      if (word === '}') break
      if (word !== ',') values.push(word)
    }
    return values
  }
}

function matchOf(words: readonly string[], family: Family | null): Match {
  const match = noMatch(family)
  const reader = new Reader(words)
  while (!reader.ended) {
    let word = reader.next()
    if (word === 'meta') word = reader.next()
    switch (word) {
      case 'ip':
      case 'ip6':
        ofAddresses(match, reader, word === 'ip' ? 4 : 6)
        break
      case 'tcp':
      case 'udp':
      case 'sctp':
        if (!reader.take('dport')) throw new NotTakenError(`${word} ${reader.next()} has no counterpart`)
        match.protocols = [word]
        match.ports = reader.values().map((text) => portsOf(text, '-'))
        break
      case 'th':
        if (!reader.take('dport')) throw new NotTakenError(`th ${reader.next()} has no counterpart`)
        match.ports = reader.values().map((text) => portsOf(text, '-'))
        break
      case 'l4proto':
        match.protocols = reader.values().map(protocolOf)
        break
      case 'nfproto': {
        const value = reader.next()
        if (value !== 'ipv4' && value !== 'ipv6')
          throw new NotTakenError(`nfproto ${value} has no counterpart`)
        match.family = value === 'ipv4' ? 4 : 6
        break
      }
      case 'iif':
      case 'iifname':
        match.interfaces = reader.values()
        if (match.interfaces.some((name) => name.endsWith('*'))) {
          throw new NotTakenError('a pattern of interfaces stands for several')
        }
        break
      case 'mark':
        if (!reader.take('set'))
          throw new NotTakenError('a mark that packets have already has no counterpart')
        match.mark = markOf(reader.next())
        break
      case 'counter':
        if (reader.take('packets')) {
          reader.next()
          reader.take('bytes')
          reader.next()
        }
        break
      case 'comment':
        reader.next()
        break
      case 'accept':
      case 'return':
        match.last = true
        break
      default:
        throw new NotTakenError(`"${word}" has no counterpart`)
    }
  }
  return match
}

function ofAddresses(match: Match, reader: Reader, family: Family): void {
  match.family ??= family
  const field = reader.next()
  switch (field) {
    case 'saddr':
      match.sources = reader.values().map(prefixOf)
      break
    case 'daddr':
      match.destinations = reader.values().map(prefixOf)
      break
    case 'protocol':
    case 'nexthdr':
      match.protocols = reader.values().map(protocolOf)
      break
    default:
      throw new NotTakenError(`ip ${field} has no counterpart`)
  }
}
