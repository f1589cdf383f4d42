/** Gathers what `pointsman doctor` judges: from the daemon, and from its network namespace. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { dirname } from 'node:path'
import { TABLE_NAME } from '../../../dataplane/userspace/claims/nftables.ts'
import { defaultPinDirectory } from '../../../linux/bpffs.ts'
import { inetSockets } from '../../../linux/inet-sockets.ts'
import type { Links } from '../../../linux/links.ts'
import { localPorts } from '../../../linux/local-ports.ts'
import { Network } from '../../../linux/netlink/network.ts'
import { enterNetns } from '../../../linux/netns.ts'
import { netnsHolder } from '../../../linux/netns-lock.ts'
import { parseAddress } from '../../../net/address.ts'
import { ClientError, ForbiddenError, get } from '../../front/api/client.ts'
import { type FullNatShown, fullNatAnswer } from '../../front/api/schema/full-nat.ts'
import { servicesAnswer } from '../../front/api/schema/service.ts'
import { sysctlsAnswer, verdictsAnswer } from '../../front/api/schema/settings.ts'
import { statusAnswer } from '../../front/api/schema/status.ts'
import { DEFAULT_RUN_DIRECTORY } from '../../front/api/socket.ts'
import { attempt, interfaceFacts, isOn, waysOut } from './devices.ts'
import type { DoctorFacts, ServerFacts } from './facts.ts'
import { type Chain, iptablesChains, nftChains } from './firewall.ts'
import { type FullNatServer, fullNatFacts } from './full-nat.ts'

/** Real servers looked at: each costs a few questions to the kernel. */
const SERVERS_MAX = 256
/** Nothing is there: where a route leads to these, it is the default route (RFC 1112 §4, RFC 3849). */
const NOWHERE = ['240.0.0.1', '2001:db8:ffff:ffff::1'] as const
/** A ruleset of any size that a host can bear. */
const RULESET_BYTES = 256 << 20

type Asked = Pick<DoctorFacts, 'status' | 'unreachable' | 'forbidden' | 'verdicts' | 'sysctls'> & {
  readonly addresses: FullNatShown
}

async function askDaemon(socket: string): Promise<Asked> {
  try {
    const { value: status } = await get(socket, '/v1/status', statusAnswer)
    const { value: verdicts } = await get(socket, '/v1/verdicts', verdictsAnswer)
    const { value: sysctls } = await get(socket, '/v1/sysctls', sysctlsAnswer)
    const { value: addresses } = await get(socket, '/v1/full-nat', fullNatAnswer)
    return { status, unreachable: null, forbidden: false, verdicts, sysctls, addresses }
  } catch (error) {
    if (!(error instanceof ClientError)) throw error
    const [unreachable = ''] = error.message.split('\n')
    const forbidden = error instanceof ForbiddenError
    return { status: null, unreachable, forbidden, verdicts: {}, sysctls: {}, addresses: [] }
  }
}

type Listed = readonly {
  readonly protocol?: string | undefined
  readonly address?: string | undefined
  readonly port?: number | undefined
  readonly servers: readonly {
    readonly address: string
    readonly port: number
    readonly method: string
  }[]
}[]

function serverFacts(network: Network, list: Listed): { found: ServerFacts[]; count: number } {
  const methods = new Map<string, Set<string>>()
  for (const { servers } of list) {
    for (const { address, method } of servers) {
      methods.set(address, (methods.get(address) ?? new Set()).add(method))
    }
  }
  const found = [...methods].slice(0, SERVERS_MAX).map(([text, used]): ServerFacts => {
    const address = parseAddress(text)
    const hop = address === null ? null : attempt(() => network.nextHop(address), null)
    const lookup = address === null ? null : attempt(() => network.lookup(address), null)
    let route: ServerFacts['route'] = 'ok'
    if (hop?.result === 'no-route') route = 'none'
    else if (hop?.result === 'local') route = 'local'
    else if (hop?.result === 'no-neighbour') route = 'unresolved'
    return {
      address: text,
      methods: [...used],
      route,
      wayOut: lookup?.kind === 'unicast' ? (network.links().at(lookup.ifindex)?.name ?? null) : null,
      mtu: hop?.result === 'ok' ? hop.mtu : null,
    }
  })
  return { found, count: methods.size }
}

/** Interfaces of the default routes, by family. */
function defaultWays(network: Network): { readonly ipv4: string | null; readonly ipv6: string | null } {
  const [ipv4, ipv6] = NOWHERE.map((text) => {
    const address = parseAddress(text)
    const answer = address === null ? null : attempt(() => network.lookup(address), null)
    return answer?.kind === 'unicast' ? (network.links().at(answer.ifindex)?.name ?? null) : null
  })
  return { ipv4: ipv4 ?? null, ipv6: ipv6 ?? null }
}

/** What a director would take packets from, should nobody have said: the way to the clients. */
function candidateOf(links: Links, way: string | null): string | null {
  const usable = links
    .all()
    .filter((link) => !link.loopback && link.up && link.mac.some((byte) => byte !== 0))
  return usable.some(({ name }) => name === way) ? way : (usable[0]?.name ?? null)
}

/**
 * Looks from where the daemon is: interfaces, routes and addresses are those of its network namespace.
 * False where that cannot be entered.
 */
function joinDaemon(pid: number): boolean {
  const theirs = `/proc/${pid}/ns/net`
  return attempt(() => {
    if (readlinkSync(theirs) === readlinkSync('/proc/thread-self/ns/net')) return true
    // The number may mean another process here, if the daemon is in a PID namespace of its own.
    if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('pointsmand')) return false
    enterNetns(theirs)
    return true
  }, false)
}

/** What a program says; null where it is not there or fails. */
function output(command: string, words: readonly string[]): string | null {
  const { status, stdout } = spawnSync(command, words, { encoding: 'utf8', maxBuffer: RULESET_BYTES })
  return status === 0 ? stdout : null
}

function firewallFacts(): Pick<DoctorFacts, 'claims' | 'firewall'> {
  const ruleset = output('nft', ['--json', '--numeric', 'list', 'ruleset'])
  const nft = ruleset === null ? null : nftChains(ruleset, (table) => table === TABLE_NAME)
  const claims = ruleset === null ? null : output('nft', ['list', 'table', 'netdev', TABLE_NAME]) !== null
  // Rules of iptables-nft are in the ruleset above; the legacy ones are only seen by their own program.
  const saved = (['iptables', 'ip6tables'] as const).map((program): readonly Chain[] | null => {
    const legacy =
      output(`${program}-legacy-save`, []) ?? (nft === null ? output(`${program}-save`, []) : null)
    return legacy === null ? null : iptablesChains(legacy, program)
  })
  const known = [nft, ...saved].filter((chains) => chains !== null)
  return { claims, firewall: known.length === 0 ? null : known.flat() }
}

export async function gatherFacts(socket: string): Promise<DoctorFacts> {
  const { addresses, ...asked } = await askDaemon(socket)
  const { status } = asked
  const list = status === null ? [] : (await get(socket, '/v1/services', servicesAnswer)).value
  const together = status === null || joinDaemon(status.pid)
  const network = new Network()
  try {
    // Asking for an unresolved neighbour starts its resolution: give it a moment, then look again.
    if (serverFacts(network, list).found.some(({ route }) => route === 'unresolved')) {
      await new Promise((resolve) => setTimeout(resolve, 1200))
    }
    const links = network.links()
    const { found: servers, count } = serverFacts(network, list)
    const defaults = defaultWays(network)
    const own = new Set<string>(network.localAddresses())
    const ports = new Map<string, number[]>()
    for (const { address, port = 0 } of list as Listed) {
      if (address !== undefined) ports.set(address, [...(ports.get(address) ?? []), port])
    }
    return {
      ...asked,
      kernel: release(),
      onlineCpus: cpus().length,
      root: process.geteuid?.() === 0,
      service: existsSync('/run/systemd/system') && isUnit(),
      candidate: candidateOf(links, defaults.ipv4 ?? defaults.ipv6),
      orphaned: status === null && attempt(goesOn, false),
      runDirectory: dirname(socket) === DEFAULT_RUN_DIRECTORY ? null : dirname(socket),
      together,
      interfaces: status === null ? [] : interfaceFacts(status, links),
      servers,
      serverCount: count,
      waysOut: status === null ? [] : waysOut(status, links, servers, defaults),
      virtual: [...ports].map(([address, numbers]) => ({ address, ports: numbers, local: own.has(address) })),
      ownAddresses: own.size,
      fullNat:
        addresses.length === 0
          ? []
          : fullNatFacts(addresses, fullNatServers(list), {
              own,
              localPorts: localPorts(),
              sockets: inetSockets(),
            }),
      forwarding: { ipv4: isOn('ipv4/ip_forward'), ipv6: isOn('ipv6/conf/all/forwarding') },
      ...firewallFacts(),
    }
  } finally {
    network.close()
  }
}

function fullNatServers(list: Listed): readonly FullNatServer[] {
  return list.flatMap(({ protocol, port: own = 0, servers }) =>
    servers
      .filter(({ method }) => method === 'full-nat')
      .map(({ address, port }) => ({ protocol: protocol ?? '', address, port: port || own })),
  )
}

function goesOn(): boolean {
  return existsSync(defaultPinDirectory()) || netnsHolder('plane') !== null
}

function isUnit(): boolean {
  return ['/etc/systemd/system', '/lib/systemd/system', '/usr/lib/systemd/system'].some((folder) =>
    existsSync(`${folder}/pointsmand.service`),
  )
}
