/** The packet filters: ours on the userspace plane, and the host's, which no longer sees what we take. */
import type { Check, Finding } from '../finding.ts'
import { startDaemon } from '../finding.ts'
import { concerns } from '../firewall.ts'

export const claims: Check = (facts) =>
  facts.status?.dataplane.kind !== 'userspace' || facts.claims !== false
    ? []
    : [
        {
          severity: 'failure',
          cause: 'The nftables table of the userspace plane (netdev pointsman) is missing',
          consequence: 'the kernel answers packets of virtual services as well: clients are reset',
          remedy: startDaemon(facts),
        },
      ]

/** Kernel IPVS is asked behind PREROUTING and INPUT, the packet program before both. */
export const bypassed: Check = ({ firewall, interfaces, virtual, root, status }) => {
  if (status === null || virtual.length === 0) return []
  if (firewall === null) {
    return root
      ? [
          {
            severity: 'note',
            cause: 'The host’s packet filter cannot be read: neither nft nor iptables-save answers',
            consequence:
              'rules that are meant to protect virtual services go unseen here, and without effect',
            remedy: 'apt-get install nftables',
          },
        ]
      : []
  }
  const names = interfaces.map(({ name }) => name)
  return firewall.flatMap(({ name, command, closed, rules }): Finding[] => {
    const without = rules.filter((rule) => concerns(rule, virtual, names))
    const [first] = without
    if (first === undefined && !closed) return []
    return [
      {
        severity: first === undefined ? 'note' : 'warning',
        cause:
          first === undefined
            ? `Chain ${name} drops what it does not accept, and never sees packets for virtual services`
            : `Chain ${name} has ${without.length === 1 ? 'a rule' : `${without.length} rules`} for packets that it never sees, those for virtual services: ${first.text}`,
        consequence:
          'block lists and limits for clients have no effect on virtual services: filter at the real servers, or in front of the director',
        remedy: command,
      },
    ]
  })
}

/** What the kernel hands on by way of the userspace plane arrives at another interface. */
export const renamedArrival: Check = ({ firewall, interfaces, status }) => {
  if (status?.dataplane.kind !== 'userspace' || firewall === null) return []
  return firewall.flatMap(({ name, command, rules }): Finding[] => {
    const taken = interfaces.map((nic) => nic.name)
    const rule = rules.find((one) => one.interfaces?.some((nic) => taken.includes(nic)))
    if (rule === undefined || name.startsWith('netdev')) return []
    return [
      {
        severity: 'note',
        cause: `Chain ${name} has rules for packets that arrive at ${rule.interfaces?.join(', ')}: ${rule.text}`,
        consequence:
          'packets that the userspace plane has looked at and passed on may arrive at an interface of its own (ip link, pm-stack...), and miss such rules',
        remedy: command,
      },
    ]
  })
}
