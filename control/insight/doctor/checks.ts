/**
 * What is known to go wrong around a director, checked one by one. Every finding says the cause, what it
 * leads to and the command that mends it. Pure: facts in, findings out.
 */
import { counterMemory, daemon, kernel, lifetime, namespace, privileges } from './checks/daemon.ts'
import { bypassed, claims, renamedArrival } from './checks/firewall.ts'
import {
  answersBelow,
  attachment,
  largeReceive,
  merging,
  reality,
  stacked,
  veth,
  virtio,
  vlanTags,
} from './checks/interfaces.ts'
import { localAddresses, localServers, settings, unsupportedRules } from './checks/rules.ts'
import { verdicts } from './checks/verdicts.ts'
import {
  egress,
  forwarding,
  fullNat,
  neighbours,
  routes,
  sendFailures,
  tunnels,
  virtualAddresses,
} from './checks/ways-out.ts'
import type { DoctorFacts } from './facts.ts'
import type { Check, Finding } from './finding.ts'

/** In the order they are shown. */
export const CHECKS: Readonly<Record<string, Check>> = {
  daemon,
  kernel,
  privileges,
  'network namespace': namespace,
  'memory of counters': counterMemory,
  'state that outlives the daemon': lifetime,
  'interfaces taken': attachment,
  'what the kernel has attached': reality,
  'received packets merged (LRO)': largeReceive,
  'packets merged below generic XDP': merging,
  'VLAN tags in hardware': vlanTags,
  'veth pairs': veth,
  virtio,
  'stacked devices': stacked,
  'devices below macvlans': answersBelow,
  forwarding,
  'virtual addresses': virtualAddresses,
  'addresses of full NAT': fullNat,
  'routes to real servers': routes,
  'ways out': egress,
  'frames that were lost behind the program': sendFailures,
  'tunnel MTU': tunnels,
  neighbours,
  'addresses of this host': localAddresses,
  'rules in force': unsupportedRules,
  'real servers on this host': localServers,
  'settings in force': settings,
  'claims of the userspace plane': claims,
  'the host’s packet filter': bypassed,
  'rules by interface': renamedArrival,
  verdicts,
}

export interface Diagnosis {
  readonly checks: readonly { readonly name: string; readonly findings: readonly Finding[] }[]
  /** No failures and no warnings. */
  readonly healthy: boolean
}

export function diagnose(facts: DoctorFacts): Diagnosis {
  const checks = Object.entries(CHECKS).map(([name, check]) => ({ name, findings: check(facts) }))
  const healthy = checks.every(({ findings }) => findings.every(({ severity }) => severity === 'note'))
  return { checks, healthy }
}
