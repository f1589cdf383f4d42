/**
 * The bench with two wires: a director in a network namespace of its own, its two links ending in packet
 * sockets of the test.
 *
 *     wire c                 namespace of the director                wire r
 *     clients ── wire-c ═══ c0                    r0 ═══ wire-r ── real servers
 *
 * The wire ends lie in a second namespace, have no addresses and answer nothing. Neighbours are permanent,
 * so that no frame waits for an answer.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { awaitLocal } from '../dataplane/private-network.ts'
import { be16, unhex } from './bytes.ts'
import type { Captured } from './compare.ts'
import { inNamespace, PacketSocket } from './libc.ts'
import { attachPassProgram } from './pass-program.ts'
import { isFragment, isInPieces } from './reassembly.ts'
import type { PartialChecksum, Wire, WireFrame } from './vectors.ts'

export const MAC = {
  c0: '02:00:00:00:01:01',
  clientRouter: '02:00:00:00:01:02',
  client: '02:00:00:00:01:50',
  r0: '02:00:00:00:02:01',
  rs1: '02:00:00:00:02:11',
  rs2: '02:00:00:00:02:12',
  rs3: '02:00:00:00:02:13',
  rs4: '02:00:00:00:02:14',
  serverRouter: '02:00:00:00:02:fe',
} as const

export interface Neighbour {
  readonly device: 'c0' | 'r0'
  readonly mac: string
  readonly addresses: readonly string[]
}

export const NEIGHBOURS: readonly Neighbour[] = [
  { device: 'c0', mac: MAC.clientRouter, addresses: ['192.0.2.2', '2001:db8:1::2'] },
  { device: 'c0', mac: MAC.client, addresses: ['192.0.2.50', '2001:db8:1::50'] },
  ...([11, 12, 13, 14] as const).map((n) => ({
    device: 'r0' as const,
    mac: `02:00:00:00:02:${n}`,
    addresses: [`10.0.2.${n}`, `2001:db8:2::${n}`],
  })),
  { device: 'r0', mac: MAC.serverRouter, addresses: ['10.0.2.254', '2001:db8:2::fe'] },
]

/** Addresses of the director with their prefix lengths. */
export const ADDRESSES: readonly {
  readonly device: 'c0' | 'r0'
  readonly address: string
  readonly prefix: number
}[] = [
  { device: 'c0', address: '192.0.2.1', prefix: 24 },
  { device: 'c0', address: '192.0.2.100', prefix: 32 },
  { device: 'c0', address: '192.0.2.101', prefix: 32 },
  { device: 'c0', address: '2001:db8:1::1', prefix: 64 },
  { device: 'c0', address: '2001:db8:1::100', prefix: 128 },
  { device: 'c0', address: '2001:db8:1::101', prefix: 128 },
  { device: 'r0', address: '10.0.2.1', prefix: 24 },
  { device: 'r0', address: '2001:db8:2::1', prefix: 64 },
]

export const ROUTES: readonly {
  readonly prefix: string
  readonly via: string
  readonly device: 'c0' | 'r0'
}[] = [
  { prefix: '0.0.0.0/0', via: '192.0.2.2', device: 'c0' },
  { prefix: '::/0', via: '2001:db8:1::2', device: 'c0' },
  { prefix: '10.0.3.0/24', via: '10.0.2.254', device: 'r0' },
  { prefix: '2001:db8:3::/64', via: '2001:db8:2::fe', device: 'r0' },
]

/** How long to listen, in milliseconds. */
export interface Patience {
  /** For the first of the frames that are expected. */
  readonly missingMs: number
  /** For the rest of them: what comes of one packet comes together. */
  readonly restMs: number
  /** For more, when all that was expected has come. */
  readonly quietMs: number
}

export class Bench {
  readonly director: string
  readonly #wires: string
  readonly #sockets = new Map<Wire, PacketSocket>()
  readonly #vnet = new Map<Wire, PacketSocket>()
  readonly #passPrograms: { close(): void }[] = []

  /** @param name prefix of the two namespaces, unique among benches that run at the same time */
  constructor(name: string) {
    this.director = `${name}-d`
    this.#wires = `${name}-w`
    this.remove()
    try {
      this.#build()
    } catch (error) {
      this.remove()
      throw error
    }
  }

  #build(): void {
    ip('netns', 'add', this.director)
    ip('netns', 'add', this.#wires)
    this.#sysctls(this.#wires, ['net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1'])
    this.#sysctls(this.director, SYSCTLS)
    for (const [device, wire] of [
      ['c0', 'wire-c'],
      ['r0', 'wire-r'],
    ] as const) {
      ip(
        'link',
        'add',
        device,
        'address',
        MAC[device],
        'netns',
        this.director,
        'type',
        'veth',
        'peer',
        'name',
        wire,
        'netns',
        this.#wires,
      )
      for (const [namespace, end] of [
        [this.director, device],
        [this.#wires, wire],
      ] as const) {
        run(
          'nsenter',
          `--net=/run/netns/${namespace}`,
          'ethtool',
          '-K',
          end,
          ...OFFLOADS.flatMap((name) => [name, 'off']),
        )
        ip('-n', namespace, 'link', 'set', end, 'up')
      }
    }
    ip('-n', this.director, 'link', 'set', 'lo', 'up')
    this.restoreAddresses()
    inNamespace(this.#wires, () => {
      this.#sockets.set('c', new PacketSocket('wire-c'))
      this.#sockets.set('r', new PacketSocket('wire-r'))
      this.#passPrograms.push(attachPassProgram('wire-c'), attachPassProgram('wire-r'))
    })
  }

  /** Addresses, neighbours and routes again: a link whose MTU was below 1280 has lost those of IPv6. */
  restoreAddresses(): void {
    const lines = [
      'link set c0 mtu 1500',
      'link set r0 mtu 1500',
      ...ADDRESSES.map(
        ({ device, address, prefix }) =>
          `address replace ${address}/${prefix} dev ${device}${address.includes(':') ? ' nodad' : ''}`,
      ),
      ...NEIGHBOURS.flatMap(({ device, mac, addresses }) =>
        addresses.map((address) => `neighbour replace ${address} lladdr ${mac} dev ${device} nud permanent`),
      ),
      ...ROUTES.map(
        ({ prefix, via, device }) =>
          `${via.includes(':') ? '-6 ' : ''}route replace ${prefix} via ${via} dev ${device}`,
      ),
    ]
    // One call per family: the family option is not allowed inside a batch.
    const batch = (family: string, chosen: readonly string[]) =>
      execFileSync('ip', ['-n', this.director, family, '-batch', '-'], {
        input: `${chosen.join('\n')}\n`,
        stdio: ['pipe', 'ignore', 'inherit'],
      })
    batch(
      '-4',
      lines.filter(
        (line) => !line.includes(':') || line.startsWith('link') || /neighbour replace \d+\./.test(line),
      ),
    )
    batch(
      '-6',
      lines
        .filter((line) => /(address|neighbour) replace 2001/.test(line) || line.startsWith('-6 '))
        .map((line) => line.replace(/^-6 /, '')),
    )
    const six = ADDRESSES.filter(({ address }) => address.includes(':')).map(({ address }) => address)
    awaitLocal(six, ['-n', this.director])
  }

  /** Runs a command in the namespace of the director; throws with its words if it fails. */
  command(argv: readonly string[]): void {
    run('nsenter', `--net=/run/netns/${this.director}`, ...argv)
  }

  /** Sets `net.*` values in the namespace of the director. */
  sysctl(assignment: string): void {
    this.#sysctls(this.director, [assignment])
  }

  #sysctls(namespace: string, assignments: readonly string[]): void {
    inNamespace(namespace, () => {
      for (const assignment of assignments) {
        const [name = '', value = ''] = assignment.split('=')
        try {
          writeFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, value)
        } catch (error) {
          if (!OPTIONAL_SYSCTLS.has(name)) throw error
        }
      }
    })
  }

  /** Forgets what came before. */
  drain(): void {
    for (const socket of this.#sockets.values()) while (socket.receive() !== null) {}
  }

  /**
   * Sends a frame on a wire and returns what the director sent until nothing more came; `handled` waits until it
   * has decided on the frame.
   */
  async exchange(
    wire: Wire,
    frame: Uint8Array,
    expected: readonly WireFrame[],
    patience: Patience,
    partial?: PartialChecksum,
    handled: () => Promise<void> = async () => {},
  ): Promise<Captured[]> {
    this.drain()
    if (partial === undefined) this.#sockets.get(wire)?.send(frame)
    else this.#vnetSocket(wire).sendPartial(frame, partial.start, partial.offset)
    await handled()
    const got: Captured[] = []
    // What is expected whole may come in fragments: of those the others are yet to come.
    const areWhole = !expected.some((one) => isFragment(unhex(one.frame)))
    let until = performance.now() + (expected.length === 0 ? patience.quietMs : patience.missingMs)
    for (;;) {
      // Who was not let run for longer than that looks once more: what has come meanwhile came in time.
      const late = performance.now() >= until
      const before = got.length
      for (const [from, socket] of this.#sockets)
        for (let next = socket.receive(); next !== null; next = socket.receive())
          if (!isBackground(next)) got.push({ wire: from, frame: next })
      if (got.length > before) {
        const isMore = got.length < expected.length || (areWhole && isInPieces(got))
        until = performance.now() + (isMore ? patience.restMs : patience.quietMs)
      } else if (late) break
      await sleep(1)
    }
    return got
  }

  /** Frames with unfinished checksums need an end that is allowed to leave them unfinished. */
  #vnetSocket(wire: Wire): PacketSocket {
    let socket = this.#vnet.get(wire)
    if (socket === undefined) {
      run('nsenter', `--net=/run/netns/${this.#wires}`, 'ethtool', '-K', `wire-${wire}`, 'tx', 'on')
      socket = inNamespace(this.#wires, () => new PacketSocket(`wire-${wire}`, { vnet: true }))
      this.#vnet.set(wire, socket)
    }
    return socket
  }

  close(): void {
    for (const socket of [...this.#sockets.values(), ...this.#vnet.values()]) socket.close()
    for (const program of this.#passPrograms) program.close()
    this.remove()
  }

  /** Deletes both namespaces, also those a killed run left behind. */
  remove(): void {
    for (const namespace of [this.director, this.#wires]) {
      try {
        execFileSync('ip', ['netns', 'delete', namespace], { stdio: 'ignore' })
      } catch {
        // It was not there.
      }
    }
  }
}

const OFFLOADS = ['tso', 'gso', 'gro', 'rx', 'tx'] as const

/** Not in every kernel, or not per namespace; harmless without. */
const OPTIONAL_SYSCTLS = new Set(['net.ipv4.icmp_msgs_per_sec', 'net.ipv6.icmp.ratelimit'])

const SYSCTLS: readonly string[] = [
  'net.ipv4.ip_forward=1',
  'net.ipv6.conf.all.forwarding=1',
  'net.ipv6.conf.default.forwarding=1',
  ...['all', 'default'].flatMap((scope) => [
    `net.ipv4.conf.${scope}.rp_filter=0`,
    `net.ipv4.conf.${scope}.send_redirects=0`,
    `net.ipv6.conf.${scope}.accept_dad=0`,
    `net.ipv6.conf.${scope}.dad_transmits=0`,
    `net.ipv6.conf.${scope}.autoconf=0`,
    `net.ipv6.conf.${scope}.accept_ra=0`,
    `net.ipv6.conf.${scope}.router_solicitations=0`,
    `net.ipv6.conf.${scope}.addr_gen_mode=1`,
  ]),
  'net.ipv4.icmp_ratelimit=0',
  'net.ipv6.icmp.ratelimit=0',
  'net.ipv4.icmp_msgs_per_sec=100000000',
  'net.ipv6.auto_flowlabels=0',
  // Half a datagram of one vector must not be reported (after 30 s) in the middle of another.
  'net.ipv4.ipfrag_time=86400',
  'net.ipv6.ip6frag_time=86400',
]

/** ARP, neighbour discovery and multicast listener reports, which belong to no vector. */
function isBackground(frame: Uint8Array): boolean {
  const type = be16(frame, 12)
  if (type === 0x0806) return true
  if (type !== 0x86dd) return false
  // Listener reports carry a hop-by-hop router alert before ICMPv6.
  const hopByHop = frame[20] === 0
  const protocol = hopByHop ? frame[54] : frame[20]
  const kind = frame[hopByHop ? 54 + ((frame[55] ?? 0) + 1) * 8 : 54] ?? 0
  return protocol === 58 && ((kind >= 130 && kind <= 137) || kind === 143)
}

function run(command: string, ...args: readonly string[]): void {
  try {
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' })
  } catch (error) {
    const words = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : ''
    throw new Error(`Cannot run ${[command, ...args].join(' ')}: ${words}`, { cause: error })
  }
}

const ip = (...args: readonly string[]): void => run('ip', ...args)
