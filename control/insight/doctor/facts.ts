/** Gathers what `pointsman doctor` judges: from the daemon, and from this network namespace. */
import { readFileSync, readlinkSync } from 'node:fs'
import { release } from 'node:os'
import { z } from 'zod'
import { queryXdp } from '../../../dataplane/kernel/xdp.ts'
import { netDeviceName, readNetDevice } from '../../../linux/device.ts'
import { type Offloads, readOffloads, readVethPeer } from '../../../linux/ethtool.ts'
import { Network } from '../../../linux/netlink/network.ts'
import { enterNetns } from '../../../linux/netns.ts'
import { parseAddress } from '../../../net/address.ts'
import { ClientError, call, get } from '../../front/api/client.ts'
import { verdictsAnswer } from '../../front/api/schema/settings.ts'
import { statusAnswer } from '../../front/api/schema/status.ts'
import type { Status } from '../status.ts'
import type { DoctorFacts, InterfaceFacts, ServerFacts } from './checks.ts'

/** Real servers looked at: each costs a few questions to the kernel. */
const SERVERS_MAX = 256

const services = z.array(
  z.object({
    address: z.string().optional(),
    servers: z.array(z.object({ address: z.string(), method: z.string() })),
  }),
)

const NO_OFFLOADS: Offloads = { receiveChecksum: null, transmitChecksum: null, gro: null, lro: null }

/** The answer, or `otherwise` where the system does not let one look. */
function attempt<T>(action: () => T, otherwise: T): T {
  try {
    return action()
  } catch {
    return otherwise
  }
}

function peerOf(name: string): InterfaceFacts['peer'] {
  const ifindex = attempt(() => readVethPeer(name), null)
  const peer = ifindex === null ? null : attempt(() => netDeviceName(ifindex), null)
  // An index means nothing in another namespace: the pair must agree.
  if (peer === null || ifindex === null) return null
  if (attempt(() => readVethPeer(peer), null) !== attempt(() => readNetDevice(name).ifindex, null))
    return null
  return {
    name: peer,
    offloads: attempt(() => readOffloads(peer), NO_OFFLOADS),
    hasXdp: attempt(() => queryXdp(ifindex).programId !== 0, false),
  }
}

function interfaceFacts(status: Status): InterfaceFacts[] {
  return status.dataplane.interfaces.map(({ name, mode, note }) => {
    const device = attempt(() => readNetDevice(name), null)
    const driver = device?.driver ?? ''
    return {
      name,
      driver,
      up: device?.up ?? false,
      mtu: device?.mtu ?? 0,
      mode,
      note: note ?? null,
      offloads: attempt(() => readOffloads(name), NO_OFFLOADS),
      peer: driver === 'veth' ? peerOf(name) : null,
    }
  })
}

async function askDaemon(socket: string): Promise<Pick<DoctorFacts, 'status' | 'unreachable' | 'verdicts'>> {
  try {
    const { value: status } = await get(socket, '/v1/status', statusAnswer)
    const { value: verdicts } = await get(socket, '/v1/verdicts', verdictsAnswer)
    return { status, unreachable: null, verdicts }
  } catch (error) {
    if (!(error instanceof ClientError)) throw error
    return { status: null, unreachable: error.message.split('\n')[0] ?? '', verdicts: {} }
  }
}

function serverFacts(network: Network, list: z.infer<typeof services>): ServerFacts[] {
  const methods = new Map<string, Set<string>>()
  for (const { servers } of list) {
    for (const { address, method } of servers) {
      const known = methods.get(address) ?? new Set()
      if (methods.size < SERVERS_MAX) methods.set(address, known.add(method))
    }
  }
  return [...methods].map(([text, used]) => {
    const address = parseAddress(text)
    const hop = address === null ? null : attempt(() => network.nextHop(address), null)
    let route: ServerFacts['route'] = 'ok'
    if (hop?.result === 'no-route') route = 'none'
    else if (hop?.result === 'local') route = 'local'
    else if (hop?.result === 'no-neighbour') route = 'unresolved'
    return { address: text, methods: [...used], route, mtu: hop?.result === 'ok' ? hop.mtu : null }
  })
}

function isOn(path: string): boolean | null {
  return attempt(() => readFileSync(`/proc/sys/net/${path}`, 'utf8').trim() !== '0', null)
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

export async function gatherFacts(socket: string): Promise<DoctorFacts> {
  const asked = await askDaemon(socket)
  const list = asked.status === null ? [] : services.parse(await call(socket, 'GET', '/v1/services'))
  const together = asked.status === null || joinDaemon(asked.status.pid)
  const network = attempt(() => new Network(), null)
  try {
    // Asking for an unresolved neighbour starts its resolution: give it a moment, then look again.
    if (network !== null && serverFacts(network, list).some(({ route }) => route === 'unresolved')) {
      await new Promise((resolve) => setTimeout(resolve, 1200))
    }
    const own = new Set<string>(network?.localAddresses() ?? [])
    const virtual = [...new Set(list.flatMap(({ address }) => address ?? []))]
    return {
      ...asked,
      kernel: release(),
      root: process.geteuid?.() === 0,
      together,
      interfaces: asked.status === null ? [] : interfaceFacts(asked.status),
      servers: network === null ? [] : serverFacts(network, list),
      virtual: virtual.map((address) => ({ address, local: own.has(address) })),
      forwarding: { ipv4: isOn('ipv4/ip_forward'), ipv6: isOn('ipv6/conf/all/forwarding') },
    }
  } finally {
    network?.close()
  }
}
