/** Verdicts that should not occur, and what is behind them. */
import { availableParallelism } from 'node:os'
import type { DoctorFacts } from '../facts.ts'
import type { Check, Finding } from '../finding.ts'

interface Trouble {
  readonly consequence: string
  /** So many at most are in the order of things, of so many packets that were forwarded. */
  readonly ordinary?: (forwarded: number) => number
  readonly remedy: string | ((facts: DoctorFacts) => string)
}

const TROUBLE: Readonly<Record<string, Trouble>> = {
  drop_table_full: {
    consequence: 'new connections are refused while the table has no room',
    remedy: ({ status }) =>
      `pointsman detach && pointsmand --connections ${2 * (status?.capacity.connections4 ?? 2 ** 20)}`,
  },
  drop_next_hop_unresolved: {
    // The first packet to a neighbour that the kernel does not know yet asks for it, and is sent again by its sender.
    // Real servers that do not answer are told by their addresses (`neighbours`).
    ordinary: (forwarded) => Math.max(10, forwarded / 1000),
    consequence: 'packets to a neighbour that does not answer are lost',
    remedy: 'ip neigh show nud failed nud incomplete',
  },
  drop_forwarding_off: {
    consequence: 'packets are not forwarded from an interface on which forwarding is off',
    remedy: 'sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1',
  },
  drop_egress: {
    consequence: 'packets towards an interface that takes no frames of XDP are lost',
    remedy: 'pointsman dataplane userspace',
  },
  drop_headroom: {
    consequence: 'tunnel headers find no room in the frames of this driver',
    remedy: 'pointsman dataplane userspace',
  },
  drop_no_tunnel_source: {
    consequence: 'packets into a tunnel are lost while there is no address of this host to send them from',
    remedy: 'ip -br addr',
  },
  drop_fragmentation: {
    consequence:
      'packets larger than the path are lost: the path to the real servers is narrower than the clients’',
    remedy: 'ip -br link',
  },
  drop_answer_limit: {
    consequence: 'clients are not told why they get no answer, and wait for it: ICMP errors are left out',
    remedy: 'sysctl -w net.ipv4.icmp_ratelimit=100 net.ipv4.icmp_msgs_per_sec=10000',
  },
  drop_checksum_limit: {
    consequence: 'packets whose checksum would cover more than 65,000 bytes are lost',
    remedy: 'ip -br link',
  },
  drop_map: {
    consequence: 'an inconsistency of the maps: a bug, please report it with this',
    remedy: 'pointsman status --json',
  },
  drop_tx: { consequence: 'the kernel refused frames of the userspace plane', remedy: 'ip -s link' },
  drop_ring: {
    consequence: 'the userspace plane is too slow for what arrives',
    remedy: () => `pointsmand --dataplane userspace --workers ${availableParallelism()}`,
  },
}

export const verdicts: Check = (facts) =>
  Object.entries(TROUBLE).flatMap(([name, { consequence, remedy, ordinary }]): Finding[] => {
    const count = facts.verdicts[name] ?? 0
    if (count <= (ordinary?.(forwarded(facts)) ?? 0)) return []
    return [
      {
        severity: 'warning',
        cause: `Verdict ${name}: ${count} packets`,
        consequence,
        remedy: typeof remedy === 'string' ? remedy : remedy(facts),
      },
    ]
  })

function forwarded({ verdicts }: DoctorFacts): number {
  return Object.entries(verdicts).reduce(
    (sum, [name, count]) => sum + (name.startsWith('forward_') ? count : 0),
    0,
  )
}
