/**
 * A rough day: everything that befalls a director in a year, in minutes, under TCP traffic of every
 * forwarding method and family. Connections that are open from begin to end must never notice; what
 * `pointsman status` says must be so; memory and descriptors stay flat.
 */
import { readFileSync } from 'node:fs'
import { until } from '../../lab/command.ts'
import { createLab, type Lab } from '../../lab/lab.ts'
import { realServers, topology } from '../../lab/topology.ts'
import type { Plane } from '../e2e/scene.ts'
import { ACCIDENTS, ownFileSystem, prepare, rulesOfTheDay, startDirector } from './accidents.ts'
import { growthOf, growthProblems, readSize, type Size } from './process-size.ts'
import { Traffic } from './traffic.ts'

export interface RoughDayOptions {
  readonly plane: Plane
  /** Goes through all accidents once, and again until then (performance.now()). */
  readonly untilMs?: number
  readonly tell: (line: string) => void
}

const LONG_PER_SERVICE = 2
/** Status may lag behind the kernel by a second; a listing and `ip` take their time, too. */
const LIE_MS = 2500
const RUN_MEGABYTES = 1024
const CALM_MS = 2000

export async function runRoughDay(options: RoughDayOptions): Promise<readonly string[]> {
  const lab = await createLab({ prefix: `pmd${process.pid}-` })
  let traffic: Traffic | null = null
  let unmount: (() => Promise<void>) | null = null
  try {
    unmount = await ownFileSystem(lab, RUN_MEGABYTES)
    await prepare(lab)
    await startDirector(lab, options.plane)
    traffic = await Traffic.open(lab)
    return await roughDay(lab, traffic, options)
  } catch (error) {
    if (error instanceof Error) error.stack += `\n--- pointsmand:\n${lab.director.logTail()}`
    throw error
  } finally {
    await traffic?.stop()
    await lab.director.pointsman(['detach']).catch(() => undefined)
    await lab.director.end('SIGTERM')
    await unmount?.()
    await lab.destroy()
  }
}

async function roughDay(lab: Lab, traffic: Traffic, options: RoughDayOptions): Promise<readonly string[]> {
  const problems: string[] = []
  await lab.director.restore(rulesOfTheDay())
  await greet(lab)
  await traffic.openLong(LONG_PER_SERVICE)
  await traffic.start()
  const sizes: Size[] = []
  const stopWatching = watch(lab, options.plane, problems)
  let known = 0
  try {
    for (let turn = 0; turn === 0 || performance.now() < (options.untilMs ?? 0); turn++) {
      for (const accident of ACCIDENTS) {
        if (!accident.planes.includes(options.plane)) continue
        options.tell(`turn ${turn + 1}: ${accident.name}`)
        try {
          await accident.run(lab, turn)
        } catch (error) {
          problems.push(`${accident.name}: ${error instanceof Error ? error.message : error}`)
        }
        await pause(CALM_MS)
        if (!lab.director.running()) throw new Error(`The daemon has ended: ${accident.name}`)
        const { failures } = await traffic.transfers()
        for (const failure of failures.slice(known)) {
          const told = accident.unreachable === true && !/ long /.test(failure)
          if (!(told && /EHOSTUNREACH|ENETUNREACH|ECONNREFUSED/.test(failure)))
            problems.push(`${accident.name}: transfer: ${failure}`)
        }
        known = failures.length
      }
      sizes.push(readSize(lab.director.pid()))
    }
    await until('the director to forward again', 10_000, async () =>
      (await lab.director.pointsman(['status'])).status === 0 ? true : undefined,
    ).catch((error: Error) => problems.push(error.message))
  } finally {
    stopWatching()
  }
  const { long, requests } = await traffic.end()
  options.tell(`${requests} requests, ${long} connections open from begin to end`)
  const growth = growthOf(sizes)
  if (growth !== null) problems.push(...growthProblems('the daemon', growth))
  for (const line of readFileSync(lab.director.logFile, 'utf8').split('\n'))
    if (/"level":[56]0/.test(line)) problems.push(`the daemon's log: ${line}`)
  return problems
}

async function greet(lab: Lab): Promise<void> {
  for (const { name } of [{ name: 'client' }, ...realServers()]) {
    const { stdout } = await lab.exec(name, ['ping', '-c', '1', '-W', '2', '192.0.2.10'])
    if (!stdout.includes(' 0% packet loss')) throw new Error(`${name} does not reach the director: ${stdout}`)
  }
}

/** Holds what `pointsman status` says against the kernel, until the returned function is called. */
function watch(lab: Lab, plane: Plane, problems: string[]): () => void {
  let lyingSince: number | null = null
  let over = false
  const look = async (): Promise<void> => {
    while (!over) {
      await pause(500)
      const { status, stdout } = await lab.director.pointsman(['status', '--json']).catch(() => NO_ANSWER)
      if (stdout === '' || over) continue
      const says = status === 0
      const is = plane === 'xdp' ? await hasPrograms(lab) : lab.director.forwarder() !== null
      if (says && !is) lyingSince ??= performance.now()
      else lyingSince = null
      if (lyingSince !== null && performance.now() - lyingSince > LIE_MS) {
        problems.push(`status says that packets are forwarded, and nothing is attached: ${stdout}`)
        lyingSince = null
      }
    }
  }
  void look().catch((error: Error) => problems.push(`watching: ${error.message}`))
  return () => {
    over = true
  }
}

const NO_ANSWER = { status: 1, stdout: '' }

/** Whether each of the director's wires has a program, whatever its name is now. */
async function hasPrograms(lab: Lab): Promise<boolean> {
  const { stdout } = await lab.exec('director', ['ip', '-j', 'link', 'show'])
  const links = JSON.parse(stdout === '' ? '[]' : stdout) as { xdp?: object }[]
  return links.filter((link) => link.xdp !== undefined).length >= Object.keys(topology.wires).length
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
