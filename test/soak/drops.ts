/** Explains lost datagrams by what the director and the lab's sockets say they dropped. */
import type { Lab } from '../../lab/lab.ts'
import { realServers } from '../../lab/topology.ts'
import type { DatagramCount } from './traffic.ts'

export type Verdicts = Readonly<Record<string, number>>

/** Anything else during a soak is a fault, of pointsman or of the soak. */
const EXPECTED: ReadonlySet<string> = new Set([
  'pass_not_ip',
  'pass_not_for_host',
  'pass_vlan',
  'pass_malformed',
  'pass_protocol',
  'pass_icmp',
  'pass_fragment',
  'pass_no_service',
  'pass_not_first',
  'pass_martian_source',
  'pass_reply_mtu',
  'forward_nat',
  'forward_nat_reply',
  'forward_dr',
  'forward_tun',
  'forward_icmp',
  'forward_icmp_reply',
  'answer_too_big',
  'drop_answer_limit',
  'drop_real_server_gone',
  'drop_next_hop_unresolved',
  'drop_tx',
  'drop_ring',
  // Of connections, while the daemon is away longer than they last.
  'expired_by_packet',
])

export function unexpected(verdicts: Verdicts): string[] {
  return Object.entries(verdicts)
    .filter(([name, packets]) => packets > 0 && !EXPECTED.has(name))
    .map(([name, packets]) => `${packets} × ${name}`)
}

export async function readVerdicts(lab: Lab): Promise<Verdicts> {
  return Object.fromEntries(
    Object.entries(await lab.director.verdicts()).map(([name, packets]) => [name, Number(packets)]),
  )
}

/** What came between two readings. */
export function since(before: Verdicts, now: Verdicts): Verdicts {
  return Object.fromEntries(
    Object.entries(now)
      .map(([name, packets]) => [name, packets - (before[name] ?? 0)] as const)
      .filter(([, packets]) => packets !== 0),
  )
}

export function dropsIn(verdicts: Verdicts): Verdicts {
  return Object.fromEntries(Object.entries(verdicts).filter(([name]) => name.startsWith('drop_')))
}

export function total(verdicts: Verdicts): number {
  return Object.values(verdicts).reduce((sum, packets) => sum + packets, 0)
}

/** Datagrams that arrived at the client or a real server and were refused there: full or failing sockets. */
export async function readSocketDrops(lab: Lab): Promise<number> {
  const texts = await Promise.all(
    ['client', ...realServers().map(({ name }) => name)].map(async (host) => {
      const result = await lab.exec(host, ['cat', '/proc/net/snmp', '/proc/net/snmp6'])
      if (result.status !== 0) throw new Error(`Cannot read the counters of ${host}: ${result.stderr}`)
      return result.stdout
    }),
  )
  return texts.reduce((sum, text) => sum + socketDrops(text), 0)
}

/** Receive errors: these contain RcvbufErrors. */
function socketDrops(text: string): number {
  const rows = text.split('\n').filter((line) => line.startsWith('Udp: '))
  const [titles = [], values = []] = rows.map((row) => row.split(' '))
  const ipv4 = Number(values[titles.indexOf('InErrors')] ?? 0)
  const ipv6 = Number(/^Udp6InErrors\s+(\d+)/m.exec(text)?.[1] ?? 0)
  return ipv4 + ipv6
}

/** A stretch of the soak in which the director met one thing. */
export interface PhaseResult {
  readonly name: string
  readonly datagrams: DatagramCount
  /** Every verdict of the phase. */
  readonly verdicts: Verdicts
  readonly socketDrops: number
  /** Frames that came while no packet program looked at the interfaces. */
  readonly unseen: number
}

/** What of a phase cannot be explained, in words. */
export function unexplained(phase: PhaseResult): string[] {
  const { name, datagrams, verdicts, socketDrops, unseen } = phase
  const problems = unexpected(verdicts).map((what) => `${name}: unexpected verdict: ${what}`)
  const drops = dropsIn(verdicts)
  const explained = total(drops) + socketDrops + unseen
  const tell = `${datagrams.lost} of ${datagrams.sent + datagrams.sinkSent} datagrams were lost`
  if (datagrams.lost > explained)
    problems.push(
      `${name}: ${tell}, but only ${explained} drops are known: ${JSON.stringify({ ...drops, socketDrops, unseen })}`,
    )
  if (datagrams.lost < 0) problems.push(`${name}: ${tell}: more came than were sent`)
  if (datagrams.changed > 0) problems.push(`${name}: ${datagrams.changed} answers arrived changed`)
  if (datagrams.sent === 0 || datagrams.sinkSent === 0) problems.push(`${name}: no datagrams were sent`)
  return problems
}

/**
 * The same from the other side: what the director says it dropped of the datagrams was lost indeed.
 * @param verdict of which only datagrams can have been the subject in this phase.
 */
export function overcounted(phase: PhaseResult, verdict: string): string[] {
  const dropped = phase.verdicts[verdict] ?? 0
  if (dropped === 0) return [`${phase.name}: ${verdict} was to be met and was not`]
  return dropped > phase.datagrams.lost
    ? [`${phase.name}: ${dropped} × ${verdict}, but only ${phase.datagrams.lost} datagrams were lost`]
    : []
}
