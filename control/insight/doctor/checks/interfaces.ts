/** Interfaces that packets are taken from: what arrives there, and in what shape. */
import { mergingOff } from '../../../../dataplane/kernel/traps.ts'
import type { InterfaceFacts, NeighbourDevice } from '../facts.ts'
import { at, type Check, type Finding, startDaemon } from '../finding.ts'

function each(judge: (nic: InterfaceFacts) => readonly Finding[]): Check {
  return ({ interfaces }) => interfaces.flatMap(judge)
}

export const attachment: Check = each((nic) => {
  const findings: Finding[] = []
  if (!nic.up) {
    findings.push({
      severity: 'failure',
      cause: `${nic.name} is down`,
      consequence: 'no packet arrives',
      remedy: `ip link set dev ${nic.name} up`,
    })
  }
  if (nic.mode === 'generic') {
    findings.push({
      severity: 'warning',
      cause: nic.note ?? `XDP runs in generic mode on ${nic.name}`,
      consequence: 'forwarding works, at a fraction of the speed',
      remedy: `pointsmand --xdp-mode native --interface ${nic.name}`,
    })
  }
  if (nic.mode === 'tc' && nic.note !== null) {
    findings.push({
      severity: 'note',
      cause: nic.note,
      consequence: 'all is forwarded, at a part of the speed that native XDP has',
      remedy: `pointsmand --xdp-mode native --interface ${nic.name}`,
    })
  }
  return findings
})

/** The kernel’s word against the status’s, and against the program’s table of interfaces. */
export const reality: Check = (facts) =>
  facts.interfaces.flatMap((nic): Finding[] => {
    const findings: Finding[] = []
    if (nic.hasProgram === false) {
      findings.push({
        severity: 'failure',
        cause: `${nic.name} does not run the packet program that the daemon speaks of`,
        consequence: 'its packets go to the local stack, or to another program',
        remedy: startDaemon(facts),
      })
    }
    for (const mac of nic.unknownMacs) {
      findings.push({
        severity: 'failure',
        cause: `${nic.name} receives for ${mac}, which the packet program does not know`,
        consequence: 'frames for that address go to the local stack (verdict pass_not_for_host)',
        remedy: startDaemon(facts),
      })
    }
    return findings
  })

export const largeReceive: Check = each(({ name, offloads }) =>
  offloads.lro !== true
    ? []
    : [
        {
          severity: 'failure',
          cause: `LRO is on at ${name}`,
          consequence: 'received packets are merged beyond the MTU and cannot be forwarded',
          remedy: `ethtool -K ${name} lro off`,
        },
      ],
)

/** Super-packets that come to a generic program, from below or from the other end of a veth pair. */
export const merging: Check = each((nic) => {
  if (nic.mode !== 'generic') return []
  const findings = nic.mergingBelow.map(
    (merging): Finding => ({
      severity: 'failure',
      cause: `${merging.name}, below ${nic.name}, merges received packets (${merging.by.join(', ')}), and XDP on ${nic.name} is generic`,
      consequence: 'packets longer than the MTU arrive and are answered as too big: uploads crawl',
      remedy: mergingOff(merging),
    }),
  )
  const { peer } = nic
  if (peer?.offloads.segmentation === true) {
    findings.push({
      severity: 'failure',
      cause: `${peer.name}, the other end of ${nic.name} (veth), leaves segmentation to an offload, and XDP on ${nic.name} is generic`,
      consequence: 'packets longer than the MTU arrive and are answered as too big: uploads crawl',
      remedy: at(peer.namespace, `ethtool -K ${peer.name} tso off gso off`),
    })
  }
  return findings
})

/** A tag that the NIC takes off stands beside the frame, where an XDP program does not see it. */
export const vlanTags: Check = ({ interfaces, status }) =>
  interfaces.flatMap(({ name, mode, offloads, vlans }): Finding[] => {
    if (mode === 'tc') return []
    if (status?.dataplane.kind !== 'xdp' || offloads.receiveVlan !== true || vlans.length === 0) return []
    return [
      {
        severity: 'failure',
        cause: `${name} takes VLAN tags off in hardware, and ${vlans.join(', ')} on top of it need${vlans.length === 1 ? 's' : ''} them`,
        consequence:
          'packets of a VLAN look untagged, are balanced, and leave untagged: into another network',
        remedy: `ethtool -K ${name} rxvlan off`,
      },
    ]
  })

/** What the other end of a veth sends is not finished: nothing behind it was going to look. */
export const veth: Check = ({ interfaces, status }) =>
  interfaces.flatMap((nic): Finding[] => {
    if (nic.kind !== 'veth' || nic.mode === 'tc' || status?.dataplane.kind !== 'xdp') return []
    const { peer } = nic
    if (peer === null) {
      return [
        {
          severity: 'note',
          cause: `The other end of ${nic.name} (veth) is in a network namespace that cannot be found`,
          consequence:
            'with transmit checksum offload there, TCP and UDP checksums are unfinished and NAT keeps them so: there, ethtool -K with tx off',
          remedy: 'lsns --type net',
        },
      ]
    }
    return unfinished(nic, peer)
  })

function unfinished(nic: InterfaceFacts, peer: NeighbourDevice): Finding[] {
  if (peer.offloads.transmitChecksum !== true) return []
  return [
    {
      severity: 'failure',
      cause: `${peer.name}, the other end of ${nic.name} (veth), leaves checksums to an offload that does not exist`,
      consequence: 'packets through NAT carry wrong checksums: ping works, TCP does not',
      remedy: at(peer.namespace, `ethtool -K ${peer.name} tx off`),
    },
  ]
}

export const virtio: Check = ({ interfaces, status }) =>
  interfaces.flatMap(({ name, driver, mode, offloads }): Finding[] => {
    if (mode === 'tc') return []
    if (driver !== 'virtio_net' || status?.dataplane.kind !== 'xdp') return []
    if (offloads.receiveChecksum !== true) return []
    return [
      {
        severity: 'warning',
        cause: `${name} (virtio) may receive unfinished checksums from its host`,
        consequence:
          'packets from guests on the same host pass NAT with wrong checksums; where the switch is fixed, set guest_csum=off in the definition of the VM',
        remedy: `ethtool -K ${name} rx off`,
      },
    ]
  })

/** Clients that are given the address of the device below send there, where no program is. */
export const answersBelow: Check = ({ interfaces, virtual }) => {
  const address = virtual.find(({ local, address }) => local && !address.includes(':'))?.address
  if (address === undefined) return []
  return interfaces.flatMap(({ name, answersBelow: below }): Finding[] =>
    below === null
      ? []
      : [
          {
            severity: 'warning',
            cause: `${below}, below ${name} (macvlan), answers ARP for ${address}, too`,
            consequence: `clients that believe ${below} send past the packet program, to the local stack, which refuses their connections`,
            remedy: `sysctl -w net.ipv4.conf.${below.replaceAll('.', '/')}.arp_ignore=1`,
          },
        ],
  )
}

const STACKED: ReadonlySet<string> = new Set(['bridge', 'team', 'vlan', 'macvlan', 'ipvlan'])

export const stacked: Check = ({ interfaces, status }) =>
  interfaces.flatMap(({ name, kind, below, mode }): Finding[] => {
    if (mode === 'tc') return []
    if (!STACKED.has(kind) || status?.dataplane.kind !== 'xdp') return []
    return [
      {
        severity: 'warning',
        cause: `${name} is a ${kind === 'vlan' ? 'VLAN device' : kind}${below.length === 0 ? '' : ` over ${below.join(', ')}`}, which has no XDP of its own`,
        consequence: 'only generic XDP works on it',
        remedy:
          kind === 'vlan' || below.length === 0
            ? 'pointsman dataplane userspace'
            : `pointsmand ${below.map((device) => `--interface ${device}`).join(' ')}`,
      },
    ]
  })
