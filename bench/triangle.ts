/** Client, director, server: three namespaces and two wires, one set for every contender. */
import { type ChildProcess, spawn } from 'node:child_process'
import { must } from '../lab/command.ts'
import { inNamespace, ipBatch, setParameters } from '../lab/namespace.ts'
import { readNetDevice } from '../linux/device.ts'
import { inNetns } from '../linux/netns.ts'
import { FORWARDING, type Namespaces, namespacePath } from './network.ts'
import { MAC } from './traffic.ts'

export const TRIANGLE = {
  vip: '10.200.1.1',
  client: { device: 'client', address: '10.81.0.2' },
  director: { client: 'c0', server: 'r0', clientAddress: '10.81.0.1', serverAddress: '10.82.0.1' },
  server: { device: 'server', address: '10.82.0.2' },
  /** A neighbour that nobody is: frames to it end at the server's interface. */
  sink: '10.82.0.9',
} as const

export interface Triangle {
  /** Paths of the namespaces. */
  readonly client: string
  readonly director: string
  readonly server: string
  /** Of the client's interface. */
  readonly ifindex: number
}

/** What the clients' wire ends in at the director: the wire itself, or a device stacked on it. */
export type Stack = 'wire' | 'macvlan' | 'vlan'

const BELOW = 'w0'
const VLAN = 7

/** The wire of the clients; where something is stacked on it, GRO is below. */
function clientsWire(stack: Stack, client: string): readonly [director: string[], client: string[]] {
  const { device } = TRIANGLE.client
  const wire = (own: string, other: string) => `link add ${own} type veth peer name ${other} netns ${client}`
  switch (stack) {
    case 'wire':
      return [[wire(`c0 address ${MAC.director}`, device)], []]
    case 'macvlan':
      return [
        [
          wire(BELOW, device),
          `link set ${BELOW} up`,
          `link add c0 link ${BELOW} address ${MAC.director} type macvlan mode bridge`,
        ],
        [],
      ]
    case 'vlan':
      return [
        [
          wire(BELOW, BELOW),
          `link set ${BELOW} up`,
          `link add c0 link ${BELOW} address ${MAC.director} type vlan id ${VLAN}`,
        ],
        [`link set ${BELOW} up`, `link add ${device} link ${BELOW} type vlan id ${VLAN}`],
      ]
  }
}

export async function makeTriangle(
  namespaces: Namespaces,
  label: string,
  stack: Stack = 'wire',
): Promise<Triangle> {
  const director = await namespaces.make(label)
  const client = await namespaces.make(`${label}-c`)
  const server = await namespaces.make(`${label}-s`)
  const { vip, sink } = TRIANGLE
  const { device, address } = TRIANGLE.client
  const [ofDirector, ofClient] = clientsWire(stack, client)
  // Else what is below answers for an address of what is on it, with a MAC address of its own.
  await setParameters(director, { ...FORWARDING, 'ipv4/conf/all/arp_ignore': 1 })
  await ipBatch(director, [
    ...ofDirector,
    `link add r0 address 02:00:00:00:00:11 type veth peer name ${TRIANGLE.server.device} netns ${server}`,
    'link set c0 up',
    'link set r0 up',
    `addr add ${TRIANGLE.director.clientAddress}/24 dev c0`,
    `addr add ${TRIANGLE.director.serverAddress}/24 dev r0`,
    `neigh add ${sink} lladdr ${MAC.server} dev r0`,
  ])
  await ipBatch(client, [
    ...ofClient,
    `link set ${device} up`,
    `addr add ${address}/24 dev ${device}`,
    `route add ${vip}/32 via ${TRIANGLE.director.clientAddress}`,
  ])
  await ipBatch(server, [
    `link set ${TRIANGLE.server.device} up`,
    `addr add ${TRIANGLE.server.address}/24 dev ${TRIANGLE.server.device}`,
    `route add default via ${TRIANGLE.director.serverAddress}`,
  ])
  // Frames of the generator are another driver's XDP frames: veth takes them only where GRO is on.
  await must(inNamespace(director, ['ethtool', '-K', stack === 'wire' ? 'c0' : BELOW, 'gro', 'on']))
  const path = namespacePath(client)
  const { ifindex } = inNetns(path, () => readNetDevice(device))
  return { client: path, director: namespacePath(director), server: namespacePath(server), ifindex }
}

/** A command inside of a namespace given by its path. */
export function within(namespace: string, argv: readonly string[]): [string, ...string[]] {
  return ['nsenter', `--net=${namespace}`, '--', ...argv]
}

/** Processes of a section; ended with it. */
export class Processes {
  readonly #running: ChildProcess[] = []

  /** Starts a command; returns when it has written a line. */
  async start(argv: readonly [string, ...string[]], ready: RegExp = /ready/): Promise<ChildProcess> {
    const [program, ...args] = argv
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#running.push(child)
    let said = ''
    await new Promise<void>((resolve, reject) => {
      const listen = (text: string): void => {
        said += text
        if (ready.test(said)) resolve()
      }
      child.stdout.setEncoding('utf8').on('data', listen)
      child.stderr.setEncoding('utf8').on('data', listen)
      child.on('error', reject)
      child.on('exit', (status) =>
        reject(new Error(`\`${argv.join(' ')}\` ended with ${status}: ${said.trim()}`)),
      )
    })
    return child
  }

  async stop(): Promise<void> {
    for (const child of this.#running.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), 3000)
      await gone
      clearTimeout(late)
    }
  }
}
