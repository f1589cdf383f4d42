/** What befalls a director on a bad day. Each ends with things as they were before. */
import { mkdirSync, rmSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { must as mustRun, until } from '../../lab/command.ts'
import { executable } from '../../lab/director.ts'
import type { Lab } from '../../lab/lab.ts'
import { plugIn, remakeLink } from '../../lab/network.ts'
import { hostNamed, realServers, topology } from '../../lab/topology.ts'
import type { Plane } from '../e2e/scene.ts'
import { Clock } from './clock.ts'
import { addServer, addService, SERVICES } from './services.ts'

export interface Accident {
  readonly name: string
  readonly planes: readonly Plane[]
  /** New connections may be told that there is no way for a moment, as any router would tell them. */
  readonly unreachable?: true
  /** In a long day only every so many turns: processes have to grow old for it to show whether they grow. */
  readonly every?: number
  run(lab: Lab, turn: number): Promise<void>
}

/** Room for a few more real servers than the lab's rules take, so that what comes must replace what goes. */
export const REAL_SERVERS = SERVICES.length * realServers().length + 10
const ROUTES = 4000
const NEW_MACS = ['02:00:00:00:0f:01', '02:00:00:00:0f:02'] as const
const BOTH: readonly Plane[] = ['xdp', 'userspace']

export const ACCIDENTS: readonly Accident[] = [
  { name: 'the daemon is killed', planes: BOTH, every: 3, run: killDaemon },
  // Until the daemon has heard of it (some ten milliseconds) the stack answers frames to the new address (XDP).
  { name: 'another MAC address', planes: BOTH, unreachable: true, run: changeMac },
  { name: 'rules are replaced near capacity', planes: BOTH, run: replaceNearCapacity },
  { name: 'the firewall is reloaded', planes: BOTH, run: flushFirewall },
  { name: 'the forwarder is killed', planes: ['userspace'], every: 3, run: killForwarder },
  { name: 'an interface is renamed and named back', planes: BOTH, run: rename },
  { name: 'routes storm', planes: BOTH, run: stormRoutes },
  { name: 'a second daemon', planes: BOTH, run: startAnother },
  { name: 'the disk is full', planes: BOTH, run: fillDisk },
  { name: 'an interface flaps', planes: BOTH, unreachable: true, run: flap },
  { name: 'the clock jumps', planes: BOTH, run: jumpClock },
  { name: 'an interface is deleted and made again', planes: BOTH, unreachable: true, run: remake },
  { name: 'the other plane, and back', planes: BOTH, run: changePlanes },
]

/** What the accidents need of the machine. */
export async function prepare(lab: Lab): Promise<void> {
  // A link that goes down would take its IPv6 addresses along, and wait for duplicates when it is back.
  for (const setting of ['keep_addr_on_down=1', 'accept_dad=0'])
    for (const where of ['all', 'default', ...Object.values(topology.wires).map((wire) => wire.interface)])
      await must(lab, ['sysctl', '-qw', `net.ipv6.conf.${where}.${setting}`])
}

async function killDaemon(lab: Lab): Promise<void> {
  await lab.director.end('SIGKILL')
  await pause(1500)
  await restart(lab)
}

async function restart(lab: Lab): Promise<void> {
  const { plane, clock } = dayOf(lab)
  const environment = clock.environment()
  await lab.director.start({ dataplane: plane, realServers: REAL_SERVERS, environment })
}

interface Day {
  readonly plane: Plane
  readonly clock: Clock
}

const days = new WeakMap<Lab, Day>()

function dayOf(lab: Lab): Day {
  const day = days.get(lab)
  if (day === undefined) throw new Error('No director was started in this lab')
  return day
}

export async function startDirector(lab: Lab, plane: Plane): Promise<void> {
  days.set(lab, { plane, clock: await Clock.make(lab.director.runDir) })
  await restart(lab)
}

/** The others learn of the address once the program has: docs/traffic-control.md says what becomes of earlier frames. */
async function changeMac(lab: Lab, turn: number): Promise<void> {
  const wire = turn % 2 === 0 ? topology.wires.clients : topology.wires.servers
  const { clients, servers } = hostNamed('director')
  const own = turn % 2 === 0 ? clients?.mac : servers?.mac
  for (const mac of [NEW_MACS[turn % 2], own]) {
    await must(lab, ['ip', 'link', 'set', wire.interface, 'address', String(mac)])
    await until('the program to know the address', 60_000, async () =>
      (await lab.director.pointsman(['doctor', '--json'])).stdout.includes(String(mac)) ? undefined : true,
    )
    await forgetNeighbours(lab)
    await pause(1500)
  }
}

/** The others on the wires ask again who has an address. */
async function forgetNeighbours(lab: Lab): Promise<void> {
  for (const host of ['client', ...realServers().map(({ name }) => name)]) {
    for (const wire of Object.values(topology.wires))
      await lab.exec(host, ['ip', 'neigh', 'flush', 'dev', wire.interface])
  }
}

/** A service with all the room there is, given other real servers again and again. */
async function replaceNearCapacity(lab: Lab, turn: number): Promise<void> {
  const service = '-t 192.0.2.100:9999'
  const servers = (from: number): string[] =>
    Array.from({ length: 9 }, (_, i) => `-a ${service} -r 10.0.2.${100 + ((from + i) % 50)}:9999 -m`)
  await lab.director.restore([`-A ${service} -s rr`, ...servers(turn)])
  try {
    for (let i = 1; i <= 4; i++) {
      const other = lab.director.rule(`--set 300 10 ${8 + (i % 2)}`)
      await lab.director.restore([`-D ${service}`, `-A ${service} -s rr`, ...servers(turn + i * 9)])
      await other
      const listed = await lab.director.rule(`-Ln ${service}`)
      const count = listed.split('\n').filter((line) => line.includes(':9999 ') && line.includes('->')).length
      if (count !== 9) throw new Error(`${count} real servers are listed, not 9:\n${listed}`)
    }
    const status = JSON.parse((await lab.director.pointsman(['status', '--json'])).stdout)
    if (status.notInForce?.length > 0)
      throw new Error(`not in force: ${JSON.stringify(status.notInForce).slice(0, 300)}`)
  } finally {
    await lab.director.rule(`-D ${service}`)
  }
}

async function flushFirewall(lab: Lab): Promise<void> {
  await must(lab, ['nft', 'flush', 'ruleset'])
  await pause(2000)
}

async function killForwarder(lab: Lab): Promise<void> {
  const pid = lab.director.forwarder()
  if (pid === null) throw new Error('No forwarder to kill')
  process.kill(pid, 'SIGKILL')
  await until('another forwarder', 60_000, async () => {
    const now = lab.director.forwarder()
    return now !== null && now !== pid ? true : undefined
  })
}

async function rename(lab: Lab): Promise<void> {
  const { interface: name } = topology.wires.servers
  await must(lab, ['ip', 'link', 'set', name, 'name', 'elsewhere'])
  await pause(1500)
  await must(lab, ['ip', 'link', 'set', 'elsewhere', 'name', name])
  await pause(500)
}

/** Prefixes that concern nobody. */
async function stormRoutes(lab: Lab): Promise<void> {
  const routes = (verb: string): string =>
    Array.from(
      { length: ROUTES },
      (_, i) => `route ${verb} 198.18.${i >> 6}.${(i & 63) << 2}/30 via 10.0.2.11\n`,
    ).join('')
  const began = performance.now()
  for (const verb of ['add', 'del']) {
    const done = await lab.director.command(['ip', '-batch', '-'], routes(verb))
    if (done.status !== 0) throw new Error(`ip -batch: ${done.stderr.trim()}`)
  }
  await lab.director.rule('-Ln')
  const ms = performance.now() - began
  if (ms > 60_000) throw new Error(`${2 * ROUTES} route changes and a listing took ${Math.round(ms)} ms`)
}

async function startAnother(lab: Lab): Promise<void> {
  const { plane } = dayOf(lab)
  const elsewhere = `${lab.director.runDir}-second`
  try {
    for (const dataplane of [plane, plane === 'xdp' ? 'userspace' : 'xdp']) {
      const result = await lab.director.command([
        'timeout',
        '60',
        executable('pointsmand'),
        ...['--interface', topology.wires.clients.interface],
        ...['--run-dir', elsewhere, '--dataplane', dataplane],
      ])
      if (result.status === 0 || result.status === 124)
        throw new Error(`a second daemon (${dataplane}) ended with ${result.status}: ${result.stderr}`)
    }
  } finally {
    rmSync(elsewhere, { recursive: true, force: true })
  }
}

/** Everything in the run directory is on a file system without a byte left. */
async function fillDisk(lab: Lab): Promise<void> {
  const ballast = join(lab.director.runDir, 'ballast')
  const { bavail, bsize } = statfsSync(lab.director.runDir)
  try {
    const filled = await lab.director.command(['fallocate', '-l', String(bavail * bsize), ballast])
    if (filled.status !== 0) throw new Error(`fallocate: ${filled.stderr.trim()}`)
    await lab.director.rule('-Z')
    await lab.director.rule('--set 300 10 8')
    await pause(2500)
  } finally {
    rmSync(ballast, { force: true })
  }
}

async function flap(lab: Lab, turn: number): Promise<void> {
  const { interface: name } = turn % 2 === 0 ? topology.wires.servers : topology.wires.clients
  for (let i = 0; i < 3; i++) {
    await must(lab, ['ip', 'link', 'set', name, 'down'])
    await pause(200)
    await must(lab, ['ip', 'link', 'set', name, 'up'])
    await pause(800)
  }
}

const YEAR_S = 365 * 86_400

/** Somebody sets the clock, or a bad server of time does: years ahead, years back, and right again. */
async function jumpClock(lab: Lab): Promise<void> {
  const { clock } = dayOf(lab)
  const since = async (): Promise<number> => {
    const { stdout } = await lab.director.pointsman(['status', '--json'])
    return Date.parse(JSON.parse(stdout).startedAt)
  }
  const before = await since()
  const connections = async (): Promise<number> => (await lab.director.rule('-Lnc')).split('\n').length
  const listed = await connections()
  try {
    for (const seconds of [9 * YEAR_S, -11 * YEAR_S]) {
      clock.shift(seconds)
      await pause(2000)
      await lab.director.rule('--set 300 10 8')
      const now = await connections()
      if (now < listed / 2) throw new Error(`of ${listed} connections ${now} are left`)
      if ((await since()) !== before) throw new Error(`the daemon runs since ${await since()}, not ${before}`)
    }
  } finally {
    clock.shift(0)
  }
}

/** As when a driver is loaded again: the link is another, and its cable is in when the director has it. */
async function remake(lab: Lab, turn: number): Promise<void> {
  const wire = turn % 2 === 0 ? 'servers' : 'clients'
  await remakeLink(lab.prefix, 'director', wire)
  await prepare(lab)
  const { interface: name } = topology.wires[wire]
  const { stdout: link } = await lab.exec('director', ['ip', '-json', 'link', 'show', 'dev', name])
  const [{ ifindex }] = JSON.parse(link)
  // Status may speak of the one that was there before: this one has to be taken.
  await until('the interface that was made again to be taken', 60_000, async () => {
    const { status, stdout } = await lab.director.pointsman(['status', '--json'])
    const { dataplane } = JSON.parse(stdout === '' ? '{}' : stdout)
    const isTaken = dataplane?.interfaces.some((one: { ifindex: number }) => one.ifindex === ifindex)
    return status === 0 && isTaken ? true : undefined
  })
  await plugIn(lab.prefix, 'director', wire)
  await pause(1000)
}

async function changePlanes(lab: Lab): Promise<void> {
  const { plane } = dayOf(lab)
  for (const to of [plane === 'xdp' ? 'userspace' : 'xdp', plane]) {
    const changed = await lab.director.pointsman(['dataplane', to])
    if (changed.status !== 0) throw new Error(`pointsman dataplane ${to}: ${changed.stderr}`)
    await pause(2500)
  }
}

/** The rules of the day, in the words of ipvsadm. */
export function rulesOfTheDay(): string[] {
  return SERVICES.flatMap((service) => [
    addService(service),
    ...realServers().map((server) => addServer(service, server)),
  ])
}

/** A file system of its own for the run directory, which an accident may fill. Returns the way to take it off. */
export async function ownFileSystem(lab: Lab, megabytes: number): Promise<() => Promise<void>> {
  const { runDir } = lab.director
  mkdirSync(runDir, { recursive: true, mode: 0o755 })
  const options = ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=755`]
  await mustRun(['mount', ...options, 'tmpfs', runDir])
  return async () => {
    await mustRun(['umount', '--lazy', runDir])
  }
}

async function must(lab: Lab, argv: readonly string[]): Promise<void> {
  const result = await lab.exec('director', argv)
  if (result.status !== 0) throw new Error(`\`${argv.join(' ')}\` failed: ${result.stderr.trim()}`)
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
