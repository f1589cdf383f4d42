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
import { type Growth, growthOf, growthProblems, mib, readSize, type Size } from './process-size.ts'
import { Traffic } from './traffic.ts'

export interface RoughDayOptions {
  readonly plane: Plane
  /** Goes through all accidents once, and again until then (performance.now()). */
  readonly untilMs?: number
  readonly tell: (line: string) => void
}

const LONG_PER_SERVICE = 2
/** Status may lag behind the kernel by a second of a machine on which it comes to its turn at once. */
const LIE_MS = 2500
/** Where asking takes long, so does noticing. */
const LIE_LOOKS = 5
const RUN_MEGABYTES = 1024
const CALM_MS = 1000

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
  const lives = new Lives()
  const watching = watch(lab, problems)
  let known = 0
  try {
    for (let turn = 0; turn === 0 || performance.now() < (options.untilMs ?? 0); turn++) {
      for (const accident of ACCIDENTS) {
        if (!accident.planes.includes(options.plane) || turn % (accident.every ?? 1) !== 0) continue
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
          // The last one: refused as well, between the real server's answer and the client's.
          if (!(told && /EHOSTUNREACH|ENETUNREACH|ECONNREFUSED|connect ECONNRESET/.test(failure)))
            problems.push(`${accident.name}: transfer: ${failure}`)
        }
        known = failures.length
        lives.look('the daemon', lab.director.pid())
        const forwarder = options.plane === 'userspace' ? lab.director.forwarder() : null
        if (forwarder !== null) lives.look('the forwarder', forwarder)
      }
    }
    await until('the director to forward again', 60_000, async () =>
      (await lab.director.pointsman(['status'])).status === 0 ? true : undefined,
    ).catch((error: Error) => problems.push(error.message))
  } finally {
    watching.stop()
  }
  const { long, requests } = await traffic.end()
  options.tell(`${requests} requests, ${long} connections open from begin to end`)
  const { looks, forwarding } = watching
  options.tell(
    `status held against the kernel ${looks} times, of which it said ${forwarding} times forwarding`,
  )
  for (const line of lives.summary()) options.tell(line)
  problems.push(...lives.problems())
  for (const line of readFileSync(lab.director.logFile, 'utf8').split('\n'))
    if (/"level":[56]0/.test(line)) problems.push(`the daemon's log: ${line}`)
  return problems
}

async function greet(lab: Lab): Promise<void> {
  for (const { name } of [{ name: 'client' }, ...realServers()]) {
    const { status, stdout } = await lab.exec(name, ['ping', '-c', '1', '-w', '20', '192.0.2.10'])
    if (status !== 0) throw new Error(`${name} does not reach the director: ${stdout}`)
  }
}

/** How large each process was over its life. */
class Lives {
  readonly #sizes = new Map<string, Size[]>()

  look(name: string, pid: number): void {
    const life = `${name} ${pid}`
    this.#sizes.set(life, [...(this.#sizes.get(life) ?? []), readSize(pid)])
  }

  *#grown(): Generator<readonly [string, Growth]> {
    for (const [name, sizes] of this.#sizes) {
      const growth = growthOf(sizes)
      if (growth !== null) yield [name, growth]
    }
  }

  problems(): string[] {
    return [...this.#grown()].flatMap(([name, growth]) => growthProblems(name, growth))
  }

  summary(): string[] {
    return [...this.#grown()].map(
      ([name, { first, last, mostOwn, ownBytes }]) =>
        `${name}: memory first ${mib(first.own)}, last ${mib(last.own)}, most ${mib(mostOwn)}, growth after the warm-up ${mib(ownBytes)};` +
        ` maps and rings ${mib(first.maps)} to ${mib(last.maps)}; descriptors ${first.descriptors} to ${last.descriptors}`,
    )
  }
}

/** Holds what `pointsman status` says against the kernel, until it is stopped. */
function watch(lab: Lab, problems: string[]) {
  const watching = {
    looks: 0,
    forwarding: 0,
    stop: (): void => {
      over = true
    },
  }
  let wrongSince: number | null = null
  let over = false
  const look = async (): Promise<void> => {
    while (!over) {
      await pause(500)
      const began = performance.now()
      const { status, stdout } = await lab.director.pointsman(['status', '--json']).catch(() => NO_ANSWER)
      const is = await planesInKernel(lab)
      const tookMs = performance.now() - began
      if (stdout === '' || over) continue
      const { dataplane } = JSON.parse(stdout) as { readonly dataplane: { readonly kind: Plane } }
      watching.looks++
      if (status === 0) watching.forwarding++
      const isSo = status === 0 ? is.length === 1 && is[0] === dataplane.kind : !is.includes(dataplane.kind)
      if (isSo) wrongSince = null
      else wrongSince ??= performance.now()
      if (wrongSince === null || began - wrongSince < Math.max(LIE_MS, LIE_LOOKS * tookMs)) continue
      problems.push(
        `status says that packets are ${status === 0 ? '' : 'not '}forwarded, and the kernel has ${is.join(' and ') || 'no plane'}: ${stdout}`,
      )
      wrongSince = null
    }
  }
  void look().catch((error: Error) => problems.push(`watching: ${error.stack}`))
  return watching
}

const NO_ANSWER = { status: 1, stdout: '' }

interface LinkFacts {
  readonly xdp?: object
  readonly linkinfo?: { readonly info_kind?: string }
}

/** The planes that take packets from all of the director's wires, whatever their names are now. */
async function planesInKernel(lab: Lab): Promise<readonly Plane[]> {
  const [links, tables] = await Promise.all([
    lab.exec('director', ['ip', '-details', '-json', 'link', 'show', 'type', 'veth']),
    lab.exec('director', ['nft', 'list', 'tables']),
  ])
  const wires = JSON.parse(links.stdout === '' ? '[]' : links.stdout) as LinkFacts[]
  const count = Object.keys(topology.wires).length
  const xdp = wires.filter((link) => link.xdp !== undefined).length >= count
  const claimed = tables.stdout.includes('pointsman') && lab.director.forwarder() !== null
  return [
    ...(xdp ? (['xdp'] as const) : []),
    ...(claimed && wires.length >= count ? (['userspace'] as const) : []),
  ]
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
