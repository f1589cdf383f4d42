/**
 * The host's own packet filter, as far as it used to see packets for virtual addresses: kernel IPVS sits
 * behind PREROUTING and INPUT, the packet program in front of both. Pure: text of nft or iptables in, chains out.
 */
import { z } from 'zod'
import { addressToBytes, familyOf, parseAddress } from '../../../net/address.ts'

export interface Chain {
  /** As `nft list chain` wants it (`inet filter input`), or iptables' table and chain. */
  readonly name: string
  /** Shows it. */
  readonly command: string
  /** Drops what no rule takes. */
  readonly closed: boolean
  /** Rules that can end, limit, mark or redirect a packet, in chains that this one jumps to as well. */
  readonly rules: readonly Rule[]
}

export interface Rule {
  readonly text: string
  /** Conditions that tell packets for one address, port or interface from others; null: any. */
  readonly to: readonly string[] | null
  readonly ports: readonly (readonly [number, number])[] | null
  readonly interfaces: readonly string[] | null
}

export interface Destination {
  readonly address: string
  readonly ports: readonly number[]
}

/** Whether a packet for a virtual service that arrives at one of these interfaces could meet the rule. */
export function concerns(
  rule: Rule,
  destinations: readonly Destination[],
  interfaces: readonly string[],
): boolean {
  if (rule.interfaces !== null && !rule.interfaces.some((name) => interfaces.some(matchesName(name)))) {
    return false
  }
  return destinations.some(({ address, ports }) => {
    if (rule.to !== null && !rule.to.some((prefix) => contains(prefix, address))) return false
    if (rule.ports === null || ports.includes(0)) return true
    return rule.ports.some(([first, last]) => ports.some((port) => port >= first && port <= last))
  })
}

/** `eth*` (nft) and `eth+` (iptables) are any that begin so. */
function matchesName(pattern: string): (name: string) => boolean {
  return (name) => (/[*+]$/.test(pattern) ? name.startsWith(pattern.slice(0, -1)) : name === pattern)
}

/** `198.51.100.0/24`, `198.51.100.7` or `198.51.100.7-198.51.100.9`. */
function contains(range: string, text: string): boolean {
  const address = parseAddress(text)
  if (address === null) return false
  const [first = '', last] = range.split('-')
  const [base = '', length] = first.split('/')
  const low = parseAddress(base)
  // What cannot be read may be anything.
  if (low === null) return true
  if (familyOf(low) !== familyOf(address)) return false
  const number = (bytes: Uint8Array) => BigInt(`0x${Buffer.from(bytes).toString('hex')}`)
  const at = number(addressToBytes(address))
  const from = number(addressToBytes(low))
  if (last !== undefined) {
    const high = parseAddress(last)
    return high === null || (at >= from && at <= number(addressToBytes(high)))
  }
  const bits = familyOf(low) === 4 ? 32 : 128
  const shift = BigInt(bits - (length === undefined ? bits : Number(length)))
  return at >> shift === from >> shift
}

// ---- nft --json list ruleset

const FAMILIES: ReadonlySet<string> = new Set(['ip', 'ip6', 'inet', 'netdev'])
const HOOKS: ReadonlySet<string> = new Set(['ingress', 'prerouting', 'input'])
/** Statements that change what becomes of a packet. `accept` alone does not, in an open chain. */
const EFFECTS: ReadonlySet<string> = new Set([
  ...[
    'drop',
    'reject',
    'queue',
    'limit',
    'mangle',
    'dnat',
    'redirect',
    'tproxy',
    'quota',
    'ct count',
    'synproxy',
  ],
])

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }
const ruleset = z.object({ nftables: z.array(z.record(z.string(), z.json())) })
const located = z.object({ family: z.string(), table: z.string() })
const chainObject = located.extend({
  name: z.string(),
  hook: z.string().optional(),
  policy: z.string().optional(),
  dev: z.union([z.string(), z.array(z.string())]).optional(),
})
const ruleObject = located.extend({
  chain: z.string(),
  handle: z.number().optional(),
  expr: z.array(z.json()),
})
const setObject = located.extend({ name: z.string(), elem: z.array(z.json()).optional() })

/** The chains of `nft --json list ruleset` that count here, without tables of ours; null if it is no such text. */
export function nftChains(text: string, ours: (table: string) => boolean): readonly Chain[] | null {
  const parsed = attemptJson(text)
  if (parsed === null) return null
  const chains: z.infer<typeof chainObject>[] = []
  const rules = new Map<string, z.infer<typeof ruleObject>[]>()
  const sets = new Map<string, readonly Json[]>()
  for (const entry of parsed.nftables) {
    const chain = chainObject.safeParse(entry.chain)
    if (chain.success) chains.push(chain.data)
    const rule = ruleObject.safeParse(entry.rule)
    if (rule.success) {
      const key = keyOf(rule.data, rule.data.chain)
      rules.set(key, [...(rules.get(key) ?? []), rule.data])
    }
    const set = setObject.safeParse(entry.set ?? entry.map)
    if (set.success) sets.set(keyOf(set.data, `@${set.data.name}`), (set.data.elem ?? []) as Json[])
  }
  return chains
    .filter(({ family, hook = '', table }) => FAMILIES.has(family) && HOOKS.has(hook) && !ours(table))
    .map((chain) => {
      const name = `${chain.family} ${chain.table} ${chain.name}`
      return {
        name,
        command: `nft -a list chain ${name}`,
        closed: chain.policy === 'drop',
        rules: rulesFrom(chain, chain.name, rules, sets, []),
      }
    })
}

function attemptJson(text: string): z.infer<typeof ruleset> | null {
  try {
    const parsed = ruleset.safeParse(JSON.parse(text))
    return parsed.success ? parsed.data : null
  } catch {
    return null
  }
}

function keyOf(where: { readonly family: string; readonly table: string }, name: string): string {
  return `${where.family} ${where.table} ${name}`
}

function rulesFrom(
  base: z.infer<typeof chainObject>,
  chain: string,
  rules: ReadonlyMap<string, readonly z.infer<typeof ruleObject>[]>,
  sets: ReadonlyMap<string, readonly Json[]>,
  path: readonly string[],
): Rule[] {
  if (path.includes(chain)) return []
  const found: Rule[] = []
  for (const { expr, handle } of rules.get(keyOf(base, chain)) ?? []) {
    const statements = expr as Json[]
    const jump = statements.map(targetOf).find((target) => target !== null)
    if (jump !== undefined && jump !== null) {
      const conditions = conditionsOf(statements, base, sets)
      for (const rule of rulesFrom(base, jump, rules, sets, [...path, chain]))
        found.push(narrowed(rule, conditions))
      continue
    }
    if (!statements.some(hasEffect)) continue
    const text = `${chain}${handle === undefined ? '' : ` handle ${handle}`}`
    found.push({ text, ...conditionsOf(statements, base, sets) })
  }
  return found
}

/** What both the rule that jumps and the rule there ask for; of two conditions of a kind the nearer. */
function narrowed(rule: Rule, by: Omit<Rule, 'text'>): Rule {
  const anywhere = rule.to === null || Object.values(ANY).some((any) => any[0] === rule.to?.[0])
  return {
    text: rule.text,
    to: anywhere ? by.to : rule.to,
    ports: rule.ports ?? by.ports,
    interfaces: rule.interfaces ?? by.interfaces,
  }
}

function isObject(value: Json | undefined): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function targetOf(statement: Json): string | null {
  if (!isObject(statement)) return null
  const target = statement.jump ?? statement.goto
  return isObject(target) && typeof target.target === 'string' ? target.target : null
}

/** Also inside a verdict map: `ip saddr vmap { ... : drop }`. */
function hasEffect(statement: Json): boolean {
  if (!isObject(statement)) return false
  return (
    Object.keys(statement).some((key) => EFFECTS.has(key)) ||
    /"(drop|reject)":/.test(JSON.stringify(statement.vmap ?? null))
  )
}

/** Rules of a table for one family are about addresses of that family. */
const ANY: Readonly<Record<string, string[]>> = { ip: ['0.0.0.0/0'], ip6: ['::/0'] }

function conditionsOf(
  statements: readonly Json[],
  base: z.infer<typeof chainObject>,
  sets: ReadonlyMap<string, readonly Json[]>,
): Omit<Rule, 'text'> {
  let to: string[] | null = ANY[base.family] ?? null
  let ports: (readonly [number, number])[] | null = null
  let interfaces: string[] | null = base.dev === undefined ? null : [base.dev].flat()
  for (const statement of statements) {
    const match = isObject(statement) ? statement.match : undefined
    if (!isObject(match) || (match.op !== '==' && match.op !== 'in')) continue
    const left = isObject(match.left) ? match.left : {}
    const values = valuesOf(match.right ?? null, base, sets)
    const payload = isObject(left.payload) ? left.payload : {}
    const meta = isObject(left.meta) ? left.meta : {}
    if (payload.field === 'daddr') to = values.map(String)
    else if (payload.field === 'dport') ports = values.map(portRange).filter((range) => range !== null)
    else if (meta.key === 'iifname' || meta.key === 'iif') interfaces = values.map(String)
  }
  return { to, ports, interfaces }
}

/** Single values of an expression: sets, prefixes (`a/n`) and ranges (`a-b`) written as one word each. */
function valuesOf(
  right: Json,
  base: z.infer<typeof chainObject>,
  sets: ReadonlyMap<string, readonly Json[]>,
): (string | number)[] {
  if (typeof right === 'string' && right.startsWith('@')) {
    return (sets.get(keyOf(base, right)) ?? []).flatMap((value) => valuesOf(value, base, sets))
  }
  if (typeof right === 'string' || typeof right === 'number') return [right]
  if (Array.isArray(right)) return right.flatMap((value: Json) => valuesOf(value, base, sets))
  if (!isObject(right)) return []
  if (right.set !== undefined) return valuesOf(right.set, base, sets)
  if (isObject(right.elem)) return valuesOf(right.elem.val ?? null, base, sets)
  if (isObject(right.prefix)) return [`${String(right.prefix.addr)}/${String(right.prefix.len)}`]
  if (Array.isArray(right.range)) return [right.range.map(String).join('-')]
  return []
}

function portRange(value: string | number): readonly [number, number] | null {
  const [first = Number.NaN, last = first] = String(value).split('-').map(Number)
  return Number.isInteger(first) && Number.isInteger(last) ? [first, last] : null
}

// ---- iptables-save

const TABLES: ReadonlySet<string> = new Set(['raw', 'mangle', 'nat', 'filter'])
const ENTRANCES: ReadonlySet<string> = new Set(['PREROUTING', 'INPUT'])
const QUIET: ReadonlySet<string> = new Set(['ACCEPT', 'RETURN', 'LOG', 'NFLOG'])

/** The same of `iptables-save` and `ip6tables-save`; `program` is the one that shows a chain. */
export function iptablesChains(text: string, program: 'iptables' | 'ip6tables'): readonly Chain[] {
  const chains: Chain[] = []
  const any = ANY[program === 'iptables' ? 'ip' : 'ip6'] ?? null
  let table = ''
  let policies = new Map<string, string>()
  let rules = new Map<string, string[]>()
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      table = line.slice(1).trim()
      policies = new Map()
      rules = new Map()
    } else if (line.startsWith(':')) {
      const [chain = '', policy = ''] = line.slice(1).split(' ')
      policies.set(chain, policy)
    } else if (line.startsWith('-A ')) {
      const chain = line.split(' ')[1] ?? ''
      rules.set(chain, [...(rules.get(chain) ?? []), line])
    } else if (line === 'COMMIT' && TABLES.has(table)) {
      for (const [chain, policy] of policies) {
        if (!ENTRANCES.has(chain)) continue
        chains.push({
          name: `${table} ${chain}`,
          command: `${program} -t ${table} -nvL ${chain} --line-numbers`,
          closed: policy === 'DROP',
          rules: iptablesRules(chain, rules, any, []),
        })
      }
    }
  }
  return chains
}

function iptablesRules(
  chain: string,
  rules: ReadonlyMap<string, string[]>,
  any: readonly string[] | null,
  path: readonly string[],
): Rule[] {
  if (path.includes(chain)) return []
  return (rules.get(chain) ?? []).flatMap((line): Rule[] => {
    const target = option(line, '-j') ?? option(line, '-g')
    const conditions = iptablesConditions(line, any)
    if (target !== null && rules.has(target)) {
      return iptablesRules(target, rules, any, [...path, chain]).map((rule) => narrowed(rule, conditions))
    }
    return target === null || QUIET.has(target) ? [] : [{ text: line, ...conditions }]
  })
}

/** The word behind an option that is not negated. */
function option(line: string, name: string): string | null {
  const words = line.split(' ')
  const index = words.indexOf(name)
  return index < 1 || words[index - 1] === '!' ? null : (words[index + 1] ?? null)
}

function iptablesConditions(line: string, any: readonly string[] | null): Omit<Rule, 'text'> {
  const to = option(line, '-d')
  const nic = option(line, '-i')
  const ports = option(line, '--dport') ?? option(line, '--dports')
  return {
    to: to === null ? any : [to],
    interfaces: nic === null ? null : [nic],
    ports:
      ports === null
        ? null
        : ports
            .split(',')
            .map((range) => portRange(range.replace(':', '-')))
            .filter((range) => range !== null),
  }
}
