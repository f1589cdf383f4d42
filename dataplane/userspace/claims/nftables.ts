/**
 * The kernel keeps its hands off: a table of ours drops, at the ingress of our interfaces, what the
 * packet program takes. Packet sockets have their copy by then; the stack, connection tracking and
 * forwarding never see the packet.
 *
 * Fragments and packets of VLANs are the kernel's. So are packets for other hosts, which a promiscuous
 * interface shows.
 */
import { spawn } from 'node:child_process'
import { DataplaneError } from '../../dataplane.ts'
import type { Claim, ClaimChange, FlowClaim } from './tracker.ts'

const TABLE = 'netdev pointsman'
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

function flowSet(side: FlowClaim['side'], family: Claim['family'], anyPort: boolean): string {
  return `${side}${family}${anyPort ? '_any' : ''}`
}

function errorSet(family: Claim['family']): string {
  return `errors${family}`
}

/** All sets with the types of their elements. */
const SETS: readonly (readonly [name: string, type: string])[] = FAMILIES.flatMap((family) => {
  const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr'
  return [
    ...SIDES.flatMap((side) => [
      [flowSet(side, family, false), `inet_proto . ${address} . inet_service`] as const,
      [flowSet(side, family, true), `inet_proto . ${address}`] as const,
    ]),
    [errorSet(family), family === 4 ? 'icmp_type' : 'icmpv6_type'] as const,
  ]
})

function setOf(claim: Claim): string {
  if (claim.side === 'error') return errorSet(claim.family)
  return flowSet(claim.side, claim.family, claim.port === 0)
}

function element(claim: Claim): string {
  if (claim.side === 'error') return String(claim.type)
  const key = `${claim.protocol} . ${claim.address}`
  return claim.port === 0 ? key : `${key} . ${claim.port}`
}

/** Frames with a priority tag, which is no VLAN: the kernel takes it off, and so does the program. */
const PRIORITY_CHAIN = 'priority_tagged'

/**
 * What one interface's chain does. Every packet comes by here: a jump costs as much as four rules, a counter
 * as one, and what seldom decides comes last. The type in the Ethernet header keeps VLANs out, whose frames
 * still have their tag there. Most packets are a client's: their set is asked first. The protocol is part
 * of every key, so that the "ports" of other protocols match nothing.
 */
function chainRules(more: readonly Uint8Array[]): string[] {
  const others =
    more.length === 0 ? [] : rulesOf('ether type', `ether daddr { ${more.map(macText).join(', ')} }`)
  return [...rulesOf('ether type'), ...others, `vlan id 0 jump ${PRIORITY_CHAIN}`]
}

function macText(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/**
 * `what` says which family a frame is, `ours` that it is for this host. What is for a macvlan on top is
 * another station's yet when the hook sees it.
 */
function rulesOf(what: 'ether type' | 'meta protocol', ours = 'meta pkttype host'): string[] {
  return FAMILIES.flatMap((family) => {
    const ip = family === 4 ? 'ip' : 'ip6'
    const whole = family === 4 ? 'ip frag-off & 0x3fff == 0' : 'exthdr frag missing'
    return [
      `meta l4proto . ${ip} daddr . th dport @to${family}`,
      `meta l4proto . ${ip} saddr . th sport @from${family}`,
      `meta l4proto . ${ip} daddr @to${family}_any`,
      `meta l4proto . ${ip} saddr @from${family}_any`,
      `${family === 4 ? 'icmp' : 'icmpv6'} type @errors${family}`,
    ].map((matches) => `${what} ${ip} ${matches} ${ours} ${whole} drop`)
  })
}

/** Commands that make the table anew in one transaction, with the sets empty or filled. */
export function tableScript(interfaces: readonly TakenInterface[], claims: readonly Claim[]): string {
  const sets = SETS.map(([name, type]) => `  set ${name} { type ${type}; flags timeout; }`)
  return [
    deleteScript(),
    `table ${TABLE} {`,
    ...sets,
    `  chain ${PRIORITY_CHAIN} {`,
    ...rulesOf('meta protocol').map((rule) => `    ${rule}`),
    '  }',
    '}',
    ...interfaces.map(chainScript),
    elementScript('add', claims),
  ].join('\n')
}

function chainName(ifindex: number): string {
  return `ingress_${ifindex}`
}

/** Commands that start taking at one more interface. */
export function chainScript({ name, ifindex, more = [] }: TakenInterface): string {
  return [
    `add chain ${TABLE} ${chainName(ifindex)} { type filter hook ingress device "${name}" priority ${PRIORITY}; policy accept; }`,
    ...chainRules(more).map((rule) => `add rule ${TABLE} ${chainName(ifindex)} ${rule}`),
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

/**
 * Commands that let the claims end by themselves after `seconds`: a daemon that starts again within
 * that time finds the kernel's hands still off, and without one the kernel gets its packets back.
 */
export function expireScript(claims: readonly Claim[], seconds: number): string {
  const flushes = SETS.map(([name]) => `flush set ${TABLE} ${name}`)
  return [...flushes, elementScript('add', claims, ` timeout ${seconds}s`)].join('\n')
}

function elementScript(verb: 'add' | 'delete', claims: readonly Claim[], suffix = ''): string {
  const bySet = new Map<string, string[]>()
  for (const claim of claims) {
    const elements = bySet.get(setOf(claim)) ?? []
    elements.push(element(claim) + suffix)
    bySet.set(setOf(claim), elements)
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
