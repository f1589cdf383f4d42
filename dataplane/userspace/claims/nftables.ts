/**
 * The kernel keeps its hands off: a table of ours drops, at the ingress of our interfaces, what the
 * packet program takes. Packet sockets have their copy by then; the stack, connection tracking and
 * forwarding never see the packet.
 *
 * Packets of VLANs are the kernel's. So are packets for other hosts, which a promiscuous interface shows.
 */
import { spawn } from 'node:child_process'
import { addressToBytes, type Family } from '../../../net/address.ts'
import { lastAddress } from '../../../net/prefix.ts'
import { PROTOCOL_NUMBERS } from '../../../net/protocol.ts'
import { DataplaneError } from '../../dataplane.ts'
import { QUOTED } from './filter.ts'
import type { SpanClaim } from './spans.ts'
import { type Claim, type ClaimChange, type EndClaim, ERROR_TYPES } from './tracker.ts'

/** In the family netdev. */
export const TABLE_NAME = 'pointsman'
const TABLE = `netdev ${TABLE_NAME}`
/**
 * All of it holds for so long after the last sign of life of the workers, then the kernel gets its packets
 * back: the kernel counts, nobody has to be alive for it.
 */
export const LEASE_S = 30
/** Before anything an administrator would put there; the kernel's own users start at -400. */
const PRIORITY = -500
/** One command of `nft` with more elements than this would be slow to parse, one with fewer to run. */
const ELEMENTS_PER_COMMAND = 1000

export interface TakenInterface {
  readonly name: string
  readonly ifindex: number
  /** Further MAC addresses under which frames that arrive there are for this host. */
  readonly more?: readonly Uint8Array[]
}

const SIDES = ['to', 'from'] as const
const FAMILIES = [4, 6] as const

function pieceSet(side: EndClaim['side'], family: EndClaim['family']): string {
  return `${side}${family}_fragments`
}

/** Intervals of addresses and ports, of packets and of fragments. */
function spanSet(family: Family, ofFragments: boolean): string {
  return `spans${family}${ofFragments ? '_fragments' : ''}`
}

function flowSet(side: EndClaim['side'], family: EndClaim['family'], anyPort: boolean): string {
  return `${side}${family}${anyPort ? '_any' : ''}`
}

/** Bits of the packet that an ICMP error quotes. */
function quoted(bytes: number, bits: number): string {
  return `@th,${bytes * 8},${bits}`
}

/** What of a quoted packet is looked up for a claim: it went the other way. */
function quotedKey(side: EndClaim['side'], family: EndClaim['family'], anyPort: boolean): string {
  const { protocol, source, destination, ports } = QUOTED[family]
  const address = quoted(side === 'to' ? source : destination, family === 4 ? 32 : 128)
  const port = anyPort ? [] : [quoted(side === 'to' ? ports : ports + 2, 16)]
  return [quoted(protocol, 8), address, ...port].join(' . ')
}

const KINDS = FAMILIES.flatMap((family) =>
  SIDES.flatMap((side) => [false, true].map((anyPort) => ({ family, side, anyPort }) as const)),
)
/** The types of Ethernet frames whose packets are dropped, as long as the lease holds. */
const ALIVE = 'alive'

/** All sets with what their elements are. */
const SETS: readonly (readonly [name: string, elements: string])[] = [
  [ALIVE, 'type ether_type; flags timeout'],
  ...KINDS.flatMap(({ family, side, anyPort }) => {
    const name = flowSet(side, family, anyPort)
    const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr'
    return [
      [name, `type inet_proto . ${address}${anyPort ? '' : ' . inet_service'}`] as const,
      [`quoted_${name}`, `typeof ${quotedKey(side, family, anyPort)}`] as const,
    ]
  }),
  ...FAMILIES.flatMap((family) =>
    SIDES.map((side) => {
      const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr'
      return [pieceSet(side, family), `type inet_proto . ${address}`] as const
    }),
  ),
  ...FAMILIES.flatMap((family) => {
    const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr'
    const name = spanSet(family, false)
    return [
      [name, `type inet_proto . ${address} . inet_service; flags interval`],
      [`quoted_${name}`, `typeof ${quotedKey('to', family, false)}; flags interval`],
      [spanSet(family, true), `type inet_proto . ${address}; flags interval`],
    ] as const
  }),
]
/** Those whose elements are claims: one each, and for packets one for errors about them. */
export const CLAIM_SETS = SETS.map(([name]) => name).filter((name) => name !== ALIVE)

function setOf(claim: Claim): string {
  if (claim.of === 'spans') return spanSet(claim.family, claim.ports === null)
  if (claim.of === 'fragments') return pieceSet(claim.side, claim.family)
  return flowSet(claim.side, claim.family, claim.port === 0)
}

function element(claim: Claim): string {
  if (claim.of === 'spans') return spanElement(claim)
  const key = `${PROTOCOL_NUMBERS[claim.protocol]} . ${claim.address}`
  return claim.port === 0 ? key : `${key} . ${claim.port}`
}

/** The same for what is read as bits. */
function quotedElement(claim: Claim): string {
  if (claim.of === 'spans') return quotedSpanElement(claim)
  const address = `0x${Buffer.from(addressToBytes(claim.address)).toString('hex')}`
  const key = `${PROTOCOL_NUMBERS[claim.protocol]} . ${address}`
  return claim.port === 0 ? key : `${key} . ${claim.port}`
}

/** nft writes ends of intervals as it reads them: also of all addresses, and all ports. */
function spanElement({ protocol, prefix, ports }: SpanClaim): string {
  const key = `${PROTOCOL_NUMBERS[protocol]} . ${prefix.address}-${lastAddress(prefix)}`
  return ports === null ? key : `${key} . ${ports.from}-${ports.to}`
}

function quotedSpanElement({ protocol, prefix, ports }: SpanClaim): string {
  const [first, last] = [prefix.address, lastAddress(prefix)].map(
    (address) => `0x${Buffer.from(addressToBytes(address)).toString('hex')}`,
  )
  return `${PROTOCOL_NUMBERS[protocol]} . ${first}-${last} . ${ports?.from}-${ports?.to}`
}

/** A claim on packets, of which errors may be about. */
function isQuoted(claim: Claim): boolean {
  return claim.of === 'packets' || (claim.of === 'spans' && claim.ports !== null)
}

/** Frames with a priority tag, which is no VLAN: the kernel takes it off, and so does the program. */
const PRIORITY_CHAIN = 'priority_tagged'

/**
 * What one interface's chain does. Every packet comes by here: a jump costs as much as four rules, a counter
 * as one, and what seldom decides comes last. The type in the Ethernet header keeps VLANs out, whose frames
 * still have their tag there. Most packets are a client's: their set is asked first. The protocol is part
 * of every key, so that the "ports" of other protocols match nothing.
 */
function chainRules(more: readonly Uint8Array[], spans: boolean): string[] {
  const others =
    more.length === 0 ? [] : rulesOf('ether type', spans, `ether daddr { ${more.map(macText).join(', ')} }`)
  return [
    `ether type != @${ALIVE} accept`,
    ...rulesOf('ether type', spans),
    ...others,
    `vlan id 0 jump ${PRIORITY_CHAIN}`,
  ]
}

function errorChain(family: EndClaim['family']): string {
  return `errors${family}`
}

function macText(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/**
 * `what` says which family a frame is, `ours` that it is for this host. What is for a macvlan on top is
 * another station's yet when the hook sees it. `spans`: there are claims of intervals, which nobody else pays for.
 */
function rulesOf(what: 'ether type' | 'meta protocol', spans: boolean, ours = 'meta pkttype host'): string[] {
  return FAMILIES.flatMap((family) => {
    const ip = family === 4 ? 'ip' : 'ip6'
    const whole = family === 4 ? 'ip frag-off & 0x3fff == 0' : 'exthdr frag missing'
    const piece = family === 4 ? 'ip frag-off & 0x3fff != 0' : 'exthdr frag exists'
    const matches = [
      ...[
        `. ${ip} daddr . th dport @to${family}`,
        `. ${ip} saddr . th sport @from${family}`,
        `. ${ip} daddr @to${family}_any`,
        `. ${ip} saddr @from${family}_any`,
        ...(spans ? [`. ${ip} daddr . th dport @${spanSet(family, false)}`] : []),
      ].map((key) => `meta l4proto ${key} ${ours} ${whole} drop`),
      // ICMP by number: nft looks its IPv6 name up in /etc/protocols, which not every system has.
      `meta l4proto ${family === 4 ? 1 : 58} ${ours} ${whole} jump ${errorChain(family)}`,
      ...[
        `${ip} daddr @${pieceSet('to', family)}`,
        `${ip} saddr @${pieceSet('from', family)}`,
        ...(spans ? [`${ip} daddr @${spanSet(family, true)}`] : []),
      ].map((key) => `${piece} meta l4proto . ${key} ${ours} drop`),
    ]
    return matches.map((match) => `${what} ${ip} ${match}`)
  })
}

/** Errors that quote a packet of a claim. */
function errorRules(family: Family, spans: boolean): string[] {
  const types = `${family === 4 ? 'icmp' : 'icmpv6'} type { ${ERROR_TYPES[family].join(', ')} }`
  const kinds = KINDS.filter((kind) => kind.family === family)
  const keys = kinds.map(
    ({ side, anyPort }) => `${quotedKey(side, family, anyPort)} @quoted_${flowSet(side, family, anyPort)}`,
  )
  if (spans) keys.push(`${quotedKey('to', family, false)} @quoted_${spanSet(family, false)}`)
  return keys.map((key) => `${types} ${key} drop`)
}

/** Chains that others jump to. */
function sharedChains(spans: boolean): readonly (readonly [name: string, rules: readonly string[]])[] {
  return [
    ...FAMILIES.map((family) => [errorChain(family), errorRules(family, spans)] as const),
    [PRIORITY_CHAIN, rulesOf('meta protocol', spans)],
  ]
}

function hasSpans(claims: readonly Claim[]): boolean {
  return claims.some((claim) => claim.of === 'spans')
}

/** Whether a change is more than elements of sets: intervals bring rules, and must not overlap. */
export function needsTable({ added, removed }: ClaimChange): boolean {
  return hasSpans(added) || hasSpans(removed)
}

/** Rules of a table that takes these at these interfaces. */
export function ruleCount(interfaces: readonly TakenInterface[], claims: readonly Claim[]): number {
  const spans = hasSpans(claims)
  const shared = sharedChains(spans).flatMap(([, rules]) => rules).length
  return interfaces.reduce((sum, { more }) => sum + chainRules(more ?? [], spans).length, shared)
}

/** How many elements each of `CLAIM_SETS` has for these claims. */
export function elementCounts(claims: readonly Claim[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>(CLAIM_SETS.map((name) => [name, 0]))
  for (const claim of claims) {
    const name = setOf(claim)
    counts.set(name, counts.get(name)! + 1)
    if (isQuoted(claim)) counts.set(`quoted_${name}`, counts.get(name)!)
  }
  return counts
}

/** Commands that make the table anew in one transaction, with the sets empty or filled. */
export function tableScript(interfaces: readonly TakenInterface[], claims: readonly Claim[]): string {
  const spans = hasSpans(claims)
  return [
    deleteScript(),
    `table ${TABLE} {`,
    ...SETS.map(([name, elements]) => `  set ${name} { ${elements}; }`),
    ...sharedChains(spans).flatMap(([name, rules]) => [
      `  chain ${name} {`,
      ...rules.map((rule) => `    ${rule}`),
      '  }',
    ]),
    '}',
    ...interfaces.map((each) => chainScript(each, spans)),
    elementScript('add', claims),
    leaseScript(),
  ].join('\n')
}

/**
 * Commands that renew the lease, as one transaction. One element for each kind of frame rather than a
 * timeout on every claim: it costs the same for any number of them, and kernels before 6.12 cannot
 * renew the timeout of an element that is there.
 */
export function leaseScript(seconds = LEASE_S): string {
  const kinds = ['ip', 'ip6', '8021q'].map((kind) => `${kind} timeout ${seconds}s`)
  return `flush set ${TABLE} ${ALIVE}\nadd element ${TABLE} ${ALIVE} { ${kinds.join(', ')} }`
}

function chainName(ifindex: number): string {
  return `ingress_${ifindex}`
}

/** Commands that take at one interface. */
function chainScript({ name, ifindex, more = [] }: TakenInterface, spans: boolean): string {
  return [
    `add chain ${TABLE} ${chainName(ifindex)} { type filter hook ingress device "${name}" priority ${PRIORITY}; policy accept; }`,
    ...chainRules(more, spans).map((rule) => `add rule ${TABLE} ${chainName(ifindex)} ${rule}`),
  ].join('\n')
}

/** Commands that stop taking at an interface that still exists. */
export function chainRemovalScript(ifindex: number): string {
  return [
    `add chain ${TABLE} ${chainName(ifindex)}`,
    `flush chain ${TABLE} ${chainName(ifindex)}`,
    `delete chain ${TABLE} ${chainName(ifindex)}`,
  ].join('\n')
}

/** Commands that remove the table, also when there is none. */
export function deleteScript(): string {
  return `add table ${TABLE}\ndelete table ${TABLE}`
}

export function changeScript(change: ClaimChange): string {
  return [elementScript('delete', change.removed), elementScript('add', change.added)].join('\n')
}

function elementScript(verb: 'add' | 'delete', claims: readonly Claim[]): string {
  const bySet = new Map<string, string[]>()
  const put = (set: string, element: string) => {
    const elements = bySet.get(set)
    if (elements === undefined) bySet.set(set, [element])
    else elements.push(element)
  }
  for (const claim of claims) {
    put(setOf(claim), element(claim))
    if (isQuoted(claim)) put(`quoted_${setOf(claim)}`, quotedElement(claim))
  }
  const commands: string[] = []
  for (const [set, elements] of bySet) {
    for (let i = 0; i < elements.length; i += ELEMENTS_PER_COMMAND) {
      commands.push(
        `${verb} element ${TABLE} ${set} { ${elements.slice(i, i + ELEMENTS_PER_COMMAND).join(', ')} }`,
      )
    }
  }
  return commands.join('\n')
}

/** Runs commands as one transaction: all of them or none. `action` completes "Cannot ...". */
export async function runNft(script: string, action: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const child = spawn('nft', ['-f', '-'], { stdio: ['pipe', 'ignore', 'pipe'] })
    let errors = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text
    })
    child.on('error', (cause) => {
      reject(
        new DataplaneError(`Cannot ${action}: nft does not run, install the package nftables`, { cause }),
      )
    })
    child.on('close', (code) => {
      if (code === 0) resolve()
      else reject(new DataplaneError(`Cannot ${action}: nft says ${firstLine(errors)}`))
    })
    // Without a reader nft has already failed, and says why.
    child.stdin.on('error', () => {})
    child.stdin.end(`${script}\n`)
  })
}

function firstLine(text: string): string {
  return text.trim().split('\n')[0] || 'nothing'
}
