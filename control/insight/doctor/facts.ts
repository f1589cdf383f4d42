/** What the doctor judges: of the daemon, the rules and the host, at one moment. */
import type { Merging } from '../../../dataplane/kernel/traps.ts'
import type { Offloads } from '../../../linux/ethtool.ts'
import type { Status } from '../status.ts'
import type { Chain } from './firewall.ts'

/** The other end of a veth pair. */
export interface NeighbourDevice {
  readonly name: string
  /** Name of its network namespace (ip netns), null for the director's own. */
  readonly namespace: string | null
  readonly offloads: Offloads
  readonly hasXdp: boolean
}

export interface InterfaceFacts {
  readonly name: string
  readonly driver: string
  /** `veth`, `vlan`, `bond`, ...; '' for a driver of hardware. */
  readonly kind: string
  readonly up: boolean
  readonly mtu: number
  readonly mode: string
  readonly note: string | null
  readonly offloads: Offloads
  /** veth only: the other end, null while it cannot be found. */
  readonly peer: NeighbourDevice | null
  /** What a stacked device receives through: the device below, the members of a bond or bridge. */
  readonly below: readonly string[]
  /** What makes one packet of several before they come to it. */
  readonly mergingBelow: readonly Merging[]
  /** macvlan only: the device below, when it answers ARP for addresses that are not its own and nothing is taken there. */
  readonly answersBelow: string | null
  /** VLAN devices on top of it. */
  readonly vlans: readonly string[]
  /** xdp: the kernel has the program there that the status names; null where it cannot be seen. */
  readonly hasProgram: boolean | null
  /** Addresses of this host on it that the packet program does not know. */
  readonly unknownMacs: readonly string[]
  /** Forwarding on this interface alone; null where it cannot be read. */
  readonly forwarding: { readonly ipv4: boolean | null; readonly ipv6: boolean | null }
}

export interface ServerFacts {
  readonly address: string
  readonly methods: readonly string[]
  readonly route: 'ok' | 'none' | 'local' | 'unresolved'
  /** The interface it is reached by; null while there is none. */
  readonly wayOut: string | null
  /** Bytes of IP packet on the way there; null while unknown. */
  readonly mtu: number | null
}

/** An interface that packets leave by: to real servers, or by the default route. */
export interface WayOut {
  readonly name: string
  readonly kind: string
  readonly families: readonly ('ipv4' | 'ipv6')[]
  /** Clients are reached by it, as far as the default route says. */
  readonly towardsClients: boolean
  /** What keeps frames of XDP from leaving there; null where nothing does. */
  readonly limit: 'takes no frames' | 'no Ethernet' | null
  readonly peer: NeighbourDevice | null
}

export interface DoctorFacts {
  /** null: no daemon answers. */
  readonly status: Status | null
  /** Why not. */
  readonly unreachable: string | null
  /** One may be there: it does not talk to this user. */
  readonly forbidden: boolean
  readonly verdicts: Readonly<Record<string, number>>
  readonly sysctls: Readonly<Record<string, number>>
  readonly kernel: string
  /** CPUs that run now; the kernel may have room for more to come. */
  readonly onlineCpus: number
  readonly root: boolean
  /** pointsmand is a service of this host's systemd. */
  readonly service: boolean
  /** An interface that a director of this host would take packets from; null where none can be guessed. */
  readonly candidate: string | null
  /** What forwards goes on without a daemon, on the interfaces that it has. */
  readonly orphaned: boolean
  /** Folder of the daemon that was asked for; null for the usual one. */
  readonly runDirectory: string | null
  /** Whether all of this was seen from the daemon's network namespace. */
  readonly together: boolean
  readonly interfaces: readonly InterfaceFacts[]
  readonly servers: readonly ServerFacts[]
  /** How many real servers there are: `servers` has the first. */
  readonly serverCount: number
  readonly waysOut: readonly WayOut[]
  /** Virtual addresses, and whether this host owns them. */
  readonly virtual: readonly {
    readonly address: string
    readonly ports: readonly number[]
    readonly local: boolean
  }[]
  readonly ownAddresses: number
  /** What real servers by full NAT see as their clients. */
  readonly fullNat: readonly {
    readonly address: string
    /** One of this host's. */
    readonly local: boolean
    /** Ports that the host gives to its own sockets, too: `5000-5100,6000-6000`. */
    readonly shared: string | null
    /** A real server has it for its own. */
    readonly realServer: boolean
    /** Own sockets that talk to such a real server from one of the ports. */
    readonly sockets: readonly string[]
  }[]
  readonly forwarding: { readonly ipv4: boolean | null; readonly ipv6: boolean | null }
  /** Userspace: the nftables table that keeps the kernel's hands off is there; null where it cannot be seen. */
  readonly claims: boolean | null
  /** Chains of the host's packet filter in front of local delivery; null where they cannot be read. */
  readonly firewall: readonly Chain[] | null
}
