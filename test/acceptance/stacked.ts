/**
 * Bonds, VLAN devices and bridges, which this machine's kernel has: a director of its own in a network namespace, with
 * clients behind a bond and behind a bridge, and real servers behind a VLAN device. Interfaces are attached, packets
 * forwarded, and the bond fails over, in two modes, without a connection being lost. On each data plane as many
 * datagrams arrive as count as forwarded, by every method.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync, rmSync } from 'node:fs'
import { call } from '../../control/front/api/client.ts'
import type { Status } from '../../control/front/api/schema/status.ts'
import { must, run, sleep, until } from '../../lab/command.ts'
import { expect, PATIENCE_MS, sh, showWithFailures, step, Wrong } from './story.ts'
import { type Asked, inNamespace, Traffic } from './talking.ts'
import { SERVER_PORT } from './traffic.ts'

const [DIRECTOR, CLIENTS, SERVERS] = ['stacked-d', 'stacked-c', 'stacked-s'] as const
const FOLDER = '/run/pointsman-stacked'
const LOG = `${FOLDER}.log`
const VIRTUAL = { bond: '10.9.0.1', bridge: '10.9.0.2' } as const
/** Behind the bond, for tunnels: a service of direct routing has the same port. */
const TUNNELLED = '10.9.0.3'
const REALS = ['10.2.0.11', '10.2.0.12'] as const
const MODULES = ['bonding', '8021q', 'bridge', 'veth', 'ipip'] as const
const ENVIRONMENT = { ...process.env, POINTSMAN_SOCKET: `${FOLDER}/pointsman.sock` }

/** Datagrams of each kind. */
const DATAGRAMS = 6
const KINDS = [
  { address: VIRTUAL.bond, port: 53, option: '-m', verdicts: ['forward_nat', 'forward_nat_reply'] },
  { address: VIRTUAL.bridge, port: 53, option: '-m', verdicts: ['forward_nat', 'forward_nat_reply'] },
  { address: VIRTUAL.bond, port: SERVER_PORT, option: '-g', verdicts: ['forward_dr'] },
  { address: VIRTUAL.bridge, port: SERVER_PORT, option: '-g', verdicts: ['forward_dr'] },
  { address: TUNNELLED, port: SERVER_PORT, option: '-i', verdicts: ['forward_tun'] },
] as const

function rulesOf(service: string, option: string): string[] {
  return [
    `-A ${service} -s rr`,
    ...REALS.map((real) => `-a ${service} -r ${real}:${SERVER_PORT} ${option} -w 1`),
  ]
}

const RULES = [
  ...Object.values(VIRTUAL).flatMap((address) => rulesOf(`-t ${address}:80`, '-m')),
  ...KINDS.flatMap(({ address, port, option }) => rulesOf(`-u ${address}:${port}`, option)),
]

/** The bond's two wires end in a bridge: a switch that knows of no bond. */
async function layNetwork(): Promise<void> {
  await sh(`
    for name in ${DIRECTOR} ${CLIENTS} ${SERVERS}; do ip netns add $name; ip -n $name link set lo up; done
    wire() { # of the director, its name there, whose end, its name there
      ip link add $2 netns $1 type veth peer name $4 netns $3
      for end in $1:$2 $3:$4; do
        # Frames of XDP arrive where the other end takes them by NAPI, and checksums have to be finished.
        nsenter --net=/run/netns/\${end%%:*} ethtool -K \${end#*:} gro on tx off >/dev/null
      done
      ip -n $3 link set $4 up
    }
    wire ${DIRECTOR} b0 ${CLIENTS} p0
    wire ${DIRECTOR} b1 ${CLIENTS} p1
    wire ${DIRECTOR} e0 ${CLIENTS} q0
    wire ${DIRECTOR} s0 ${SERVERS} s1
    nsenter --net=/run/netns/${DIRECTOR} sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
    ip -n ${CLIENTS} link add switch type bridge forward_delay 0
    for port in p0 p1; do ip -n ${CLIENTS} link set $port master switch; done
    ip -n ${CLIENTS} link set switch up
    ip -n ${CLIENTS} addr add 10.1.0.2/24 dev switch
    ip -n ${CLIENTS} addr add 10.3.0.2/24 dev q0
    ip -n ${CLIENTS} route add ${VIRTUAL.bond} via 10.1.0.1
    ip -n ${CLIENTS} route add ${TUNNELLED} via 10.1.0.1
    ip -n ${CLIENTS} route add ${VIRTUAL.bridge} via 10.3.0.1
    ip -n ${SERVERS} link add s1.7 link s1 type vlan id 7
    ip -n ${SERVERS} link set s1.7 up
    for address in ${REALS.join(' ')}; do ip -n ${SERVERS} addr add $address/24 dev s1.7; done
    ip -n ${SERVERS} route add default via 10.2.0.1
    nsenter --net=/run/netns/${SERVERS} sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.all.arp_ignore=1
    for address in ${REALS.join(' ')}; do
      ip -n ${SERVERS} link add end\${address##*.} type ipip local $address
      ip -n ${SERVERS} link set end\${address##*.} up
    done
    for address in ${[...Object.values(VIRTUAL), TUNNELLED].join(' ')}; do ip -n ${SERVERS} addr add $address/32 dev lo; done
    ip -n ${DIRECTOR} link set s0 up
    ip -n ${DIRECTOR} link add s0.7 link s0 type vlan id 7
    ip -n ${DIRECTOR} addr add 10.2.0.1/24 dev s0.7
    ip -n ${DIRECTOR} link set s0.7 up
    ip -n ${DIRECTOR} link add br0 type bridge forward_delay 0
    ip -n ${DIRECTOR} link set e0 master br0 up
    ip -n ${DIRECTOR} addr add 10.3.0.1/24 dev br0
    ip -n ${DIRECTOR} link set br0 up`)
}

async function makeBond(mode: string): Promise<void> {
  await sh(`
    ip -n ${DIRECTOR} link show bond0 >/dev/null 2>&1 && ip -n ${DIRECTOR} link del bond0
    ip -n ${DIRECTOR} link add bond0 address 02:00:00:00:b0:0d type bond mode ${mode} miimon 100
    for slave in b0 b1; do ip -n ${DIRECTOR} link set $slave down; ip -n ${DIRECTOR} link set $slave master bond0; done
    ip -n ${DIRECTOR} addr add 10.1.0.1/24 dev bond0
    ip -n ${DIRECTOR} link set bond0 up`)
}

/** A command each time would be most of what the machine does. */
function ask(path: string): Promise<unknown> {
  return call(ENVIRONMENT.POINTSMAN_SOCKET, 'GET', path)
}

const status = async (): Promise<Status> => (await ask('/v1/status')) as Status

async function attached(): Promise<string> {
  // What sends beside XDP comes behind the program itself.
  const what = 'all interfaces to be attached, and something to send beside XDP on bond0'
  const seen = await until(what, PATIENCE_MS, async () => {
    const { interfaces } = (await status()).dataplane
    const areThere = ['bond0', 's0.7', 'br0'].every((name) => interfaces.some((nic) => nic.name === name))
    return areThere && interfaces.some((nic) => nic.name === 'bond0' && nic.relayed) ? interfaces : undefined
  }).catch(async (error: Error) => {
    const { stdout } = await run(['pointsman', 'status'], { env: ENVIRONMENT })
    throw new Wrong(`${error.message}\n${stdout}`)
  })
  const of = (name: string) => seen.find((nic) => nic.name === name)!
  expect(of('bond0').mode === 'native', `bond0 has ${JSON.stringify(of('bond0'))}`)
  for (const name of ['s0.7', 'br0']) {
    const { mode, note = '' } = of(name)
    expect(mode === 'tc' && /has no native XDP/.test(note), `${name} has ${mode}: ${note}`)
  }
  return seen.map(({ name, mode }) => `${name} ${mode}`).join(', ')
}

async function startDaemon(): Promise<ChildProcess> {
  const log = openSync(LOG, 'a')
  const words = ['bond0', 's0.7', 'br0'].flatMap((name) => ['--interface', name])
  const daemon = spawn(
    'nsenter',
    [`--net=/run/netns/${DIRECTOR}`, 'pointsmand', ...words, '--run-dir', FOLDER, '--connections', '4096'],
    { stdio: ['ignore', log, log] },
  )
  await until('the director to answer', PATIENCE_MS, async () => {
    if (daemon.exitCode !== null) throw new Wrong('it ended')
    return (await run(['ipvsadm', '-Ln'], { env: ENVIRONMENT })).status === 0 ? true : undefined
  })
  return daemon
}

async function ended(child: ChildProcess | null, signal: NodeJS.Signals): Promise<void> {
  if (child === null || child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  child.kill(signal)
  await exit
}

/** Each of the two wires is unplugged in turn, at the switch. */
async function failOver(): Promise<string> {
  const inUse: string[] = []
  for (const port of ['p0', 'p1']) {
    await sh(`ip -n ${CLIENTS} link set ${port} down`)
    await until(`the bond to do without the wire of ${port}`, PATIENCE_MS, async () => {
      const links = JSON.parse(await sh(`ip -n ${DIRECTOR} -json link show master bond0`)) as {
        readonly ifname: string
        readonly operstate: string
      }[]
      const up = links.filter(({ operstate }) => operstate === 'UP').map(({ ifname }) => ifname)
      if (up.length !== 1) return undefined
      inUse.push(up[0]!)
      return true
    })
    await talking?.flows()
    await sh(`ip -n ${CLIENTS} link set ${port} up`)
    await until('both wires to be there again', PATIENCE_MS, async () => {
      const text = await sh(`ip -n ${DIRECTOR} -brief link show master bond0`)
      return text.split('\n').every((line) => / UP /.test(line)) ? true : undefined
    })
  }
  return `over ${inUse.join(', then ')}`
}

type Counts = Readonly<Record<string, number>>

const verdicts = async (): Promise<Counts> => (await ask('/v1/verdicts')) as Counts

/** What was forwarded or lost, once connections that were ended have said all they had to say. */
async function quietVerdicts(): Promise<Counts> {
  const read = async (): Promise<string> => {
    const counts = Object.entries(await verdicts())
    return JSON.stringify(counts.filter(([name]) => /^(forward|answer|drop|redirect)_/.test(name)))
  }
  let last = await read()
  await until('a moment without traffic', PATIENCE_MS, async () => {
    await sleep(1000)
    const before = last
    last = await read()
    return last === before ? true : undefined
  })
  return Object.fromEntries(JSON.parse(last) as [string, number][])
}

/** Datagrams of each kind, one after the other: all are answered, and each is counted as forwarded, once. */
async function datagramsCount(): Promise<string> {
  const before = await quietVerdicts()
  const targets = KINDS.flatMap(({ address, port }) => [address, String(port)])
  const words = [process.execPath, process.argv[1]!, 'datagrams', String(DATAGRAMS), ...targets]
  await must(['ip', 'netns', 'exec', CLIENTS, ...words], { timeoutMs: PATIENCE_MS })
  const counted = Object.entries(await quietVerdicts())
    .map(([name, packets]) => `${name} ${packets - (before[name] ?? 0)}`)
    .filter((count) => !count.endsWith(' 0'))
  const wanted = new Map<string, number>()
  for (const { verdicts } of KINDS)
    for (const name of verdicts) wanted.set(name, (wanted.get(name) ?? 0) + DATAGRAMS)
  const [was, isWanted] = [counted, [...wanted].map(([name, packets]) => `${name} ${packets}`)].map((list) =>
    list.toSorted().join(', '),
  )
  expect(was === isWanted, `counted ${was}; wanted ${isWanted}`)
  return was!
}

/** The other plane takes the connections over. */
async function changePlane(plane: 'xdp' | 'tc' | 'userspace'): Promise<string> {
  await must(['pointsman', 'dataplane', plane], { env: ENVIRONMENT, timeoutMs: PATIENCE_MS })
  const { dataplane } = await status()
  expect(dataplane.kind === plane, `the data plane is ${dataplane.kind}`)
  return dataplane.interfaces.map(({ name, mode }) => `${name} ${mode}`).join(', ')
}

let talking: Traffic | null = null

export async function stackedDevices(): Promise<void> {
  for (const name of MODULES) await run(['modprobe', '-q', name])
  const loaded = readFileSync('/proc/modules', 'utf8')
  const missing = MODULES.filter((name) => !new RegExp(`^${name} `, 'm').test(loaded))
  if (missing.length > 0) {
    await step('bonds, VLAN devices and bridges', () => {
      throw new Wrong(`not tried: no module ${missing.join(', ')}; make the machine anew`)
    })
    return
  }
  showWithFailures(async () => readFileSync(LOG, 'utf8').slice(-2000))
  let daemon: ChildProcess | null = null
  let server: ChildProcess | null = null
  const restore = async (): Promise<void> => {
    await must(['ipvsadm', '-R'], { env: ENVIRONMENT, input: `${RULES.join('\n')}\n` })
  }
  const clients = (address: string): Asked => ({
    namespace: CLIENTS,
    address,
    environment: ENVIRONMENT,
    restore,
  })
  try {
    const begun = await step('bond, VLAN device and bridge: attached', async () => {
      await layNetwork()
      await makeBond('active-backup')
      server = inNamespace(SERVERS, 'server', ...REALS, ...Object.values(VIRTUAL), TUNNELLED)
      await new Promise((resolve) => server!.once('message', resolve))
      daemon = await startDaemon()
      await restore()
      return attached()
    })
    if (!begun) return
    talking = new Traffic(clients(VIRTUAL.bond))
    const through = (name: string, body: () => Promise<string>) => step(name, () => talking!.through(body))
    await through('active-backup bond: traffic flows, to real servers behind a VLAN device', async () => '')
    await through('active-backup bond: fails over', failOver)
    await through('bond made again under its connections, 802.3ad without a partner', async () => {
      await makeBond('802.3ad')
      return attached()
    })
    await through('802.3ad bond: fails over', failOver)
    for (const plane of ['tc', 'userspace', 'xdp'] as const) {
      await through(`bond: ${plane} takes its connections over`, () => changePlane(plane))
      if (plane === 'tc') await through('tc: the bond fails over', failOver)
      talking.end()
      await step(`${plane}: as many datagrams arrive as count as forwarded`, datagramsCount)
      talking = new Traffic(clients(plane === 'tc' ? VIRTUAL.bridge : VIRTUAL.bond))
    }
    await through('bond: traffic still flows', async () => '')
    await step('nothing had no way out', async () => {
      const counts = await verdicts()
      expect((counts.drop_egress ?? 0) === 0, `drop_egress ${counts.drop_egress}`)
      const lost = `${counts.redirect_failed ?? 0} lost with a wire that was unplugged`
      return `${counts.forward_nat} to real servers, ${counts.forward_nat_reply} to clients, ${lost}`
    })
  } finally {
    talking?.end()
    talking = null
    await run(['nsenter', `--net=/run/netns/${DIRECTOR}`, 'pointsman', 'detach'], { env: ENVIRONMENT })
    await ended(daemon, 'SIGTERM')
    await ended(server, 'SIGKILL')
    // What is left of the package is looked for later.
    for (const path of [FOLDER, LOG]) rmSync(path, { recursive: true, force: true })
    for (const name of [DIRECTOR, CLIENTS, SERVERS]) await run(['ip', 'netns', 'del', name])
  }
}
