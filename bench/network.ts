/** Private network namespaces for one section; gone when it ends, and at the next start if it was killed. */
import { readdirSync } from 'node:fs'
import { must } from '../lab/command.ts'
import {
  createNamespace,
  destroyNamespace,
  inNamespace,
  ipBatch,
  namespacePath,
  setParameters,
} from '../lab/namespace.ts'
import { Skip } from './section.ts'
import { MAC } from './traffic.ts'

const PREFIX = 'pmbench'

export class Namespaces {
  readonly #made: string[] = []

  /** Makes a namespace; its name is unique to this process. */
  async make(label: string): Promise<string> {
    if (process.getuid?.() !== 0) throw new Skip('network namespaces take root')
    if (this.#made.length === 0) await removeLeftovers()
    const name = `${PREFIX}-${process.pid}-${label}`
    await createNamespace(name)
    this.#made.push(name)
    await setParameters(name, {
      'ipv6/conf/default/accept_dad': 0,
      'ipv6/conf/all/accept_dad': 0,
      'ipv6/conf/default/accept_ra': 0,
      'ipv6/conf/default/router_solicitations': 0,
    })
    await ipBatch(name, ['link set lo up'])
    return name
  }

  async remove(): Promise<void> {
    for (const name of this.#made.splice(0).reverse()) await destroyNamespace(name)
  }
}

/** Namespaces of bench processes that are no more. */
export async function removeLeftovers(): Promise<void> {
  let names: string[] = []
  try {
    names = readdirSync('/run/netns')
  } catch {
    return
  }
  for (const name of names) {
    const pid = new RegExp(`^${PREFIX}-(\\d+)-`).exec(name)?.[1]
    if (pid !== undefined && !alive(Number(pid))) await destroyNamespace(name)
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

export const FORWARDING = {
  'ipv4/conf/all/forwarding': 1,
  'ipv4/conf/default/forwarding': 1,
  'ipv6/conf/all/forwarding': 1,
  'ipv6/conf/default/forwarding': 1,
  'ipv4/conf/all/rp_filter': 0,
  'ipv4/conf/default/rp_filter': 0,
  'ipv4/conf/all/send_redirects': 0,
  'ipv4/conf/default/send_redirects': 0,
} as const

/** A director with clients behind `c0` and real servers behind `r0`; nobody at the other ends. */
export const DIRECTOR = {
  client: { device: 'c0', 4: '10.81.0.1', 6: 'fd00:81::1' },
  server: { device: 'r0', 4: '10.82.0.1', 6: 'fd00:82::1' },
  /** The neighbours that the routes lead to. */
  gateway: { 4: '10.81.0.2', 6: 'fd00:81::2' },
  real: { 4: '10.82.0.2', 6: 'fd00:82::2' },
} as const

export async function makeDirector(namespaces: Namespaces, label: string): Promise<string> {
  const name = await namespaces.make(label)
  await setParameters(name, FORWARDING)
  const { client, server, gateway, real } = DIRECTOR
  await ipBatch(name, [
    ...[client, server].flatMap((side) => [
      `link add ${side.device} address ${MAC.director} type veth peer name ${side.device}x`,
      `link set ${side.device} up`,
      `link set ${side.device}x up`,
      `addr add ${side[4]}/24 dev ${side.device}`,
      `addr add ${side[6]}/64 dev ${side.device} nodad`,
    ]),
    `neigh add ${gateway[4]} lladdr ${MAC.client} dev ${client.device}`,
    `neigh add ${gateway[6]} lladdr ${MAC.client} dev ${client.device}`,
    `neigh add ${real[4]} lladdr ${MAC.server} dev ${server.device}`,
    `neigh add ${real[6]} lladdr ${MAC.server} dev ${server.device}`,
    `route add default via ${gateway[4]}`,
    `route add ::/0 via ${gateway[6]}`,
  ])
  // A veth takes redirected frames when its other end receives by NAPI.
  for (const side of [client, server]) {
    await must(inNamespace(name, ['ethtool', '-K', `${side.device}x`, 'gro', 'on']))
  }
  return name
}

export { namespacePath }
