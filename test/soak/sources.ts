/**
 * Sources that are of no use: a registry whose entries come and go ten times a second, change places, are garbage
 * and a megabyte each, a pool that is emptied, a check that is good and bad in turn. Those who ask meanwhile are
 * answered, nothing is in force by half, what is left in the end is what was said last, and memory is flat.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual } from 'node:util'
import { typescript } from '../../lab/client.ts'
import { sleep, until } from '../../lab/command.ts'
import { Etcd } from '../../lab/etcd.ts'
import { createLab, type Lab } from '../../lab/lab.ts'
import { inNamespace } from '../../lab/namespace.ts'
import { endWithUs } from '../../lab/processes.ts'
import { endpoint, hostNamed, realServers, topology } from '../../lab/topology.ts'
import type { Plane } from '../e2e/scene.ts'
import { growthOf, growthProblems, mib, readSize, type Size } from './process-size.ts'
import type { Write, Written } from './registry-writer.ts'

export interface SourcesOptions {
  readonly plane: Plane
  readonly seconds: number
  readonly tell: (line: string) => void
}

const WRITER = fileURLToPath(new URL('./registry-writer.ts', import.meta.url))
const PATIENCE_MS = 60_000
/** Ten times a second. */
const FLAP_MS = 100
/** Enough samples to tell of growth, however short it is. */
const SAMPLES = 24
const REQUESTS = 20
/** So that what is held for good shows at once: there is no room for what has yet to be collected. */
const SMALL_HEAP = { NODE_OPTIONS: '--max-old-space-size=48 --max-semi-space-size=2' }
const TRIES = 10
const MEGABYTE = 1_000_000
const address = topology.virtual.nat.ipv4
/** A port of the virtual address for each pool. */
const PORTS = { flapping: 81, swapping: 82, garbage: 83, emptied: 84, checked: 85 } as const
type Pool = keyof typeof PORTS
const POOLS = Object.keys(PORTS) as Pool[]
/** Those whose real servers all stay: whoever is removed takes its connections along. */
const ASKED = ['flapping', 'garbage', 'checked'] as const satisfies readonly Pool[]

const [rs1, rs2, rs3] = realServers().map(({ servers }) =>
  endpoint(servers.ipv4, topology.ports.httpBehindNat),
) as [string, string, string]

/** What may be in force at any time. */
const MAY_BE: Readonly<Record<Pool, readonly (readonly string[])[]>> = {
  flapping: [
    [rs1, rs2],
    [rs1, rs2, rs3],
  ],
  swapping: [
    [rs1, rs2],
    [rs2, rs3],
  ],
  garbage: [[rs1, rs2]],
  // One of three may leave; that more do is not believed.
  emptied: [
    [rs2, rs3],
    [rs1, rs2, rs3],
  ],
  checked: [
    [rs1, rs2],
    [rs1, rs2, rs3],
  ],
}

export async function runSources({ plane, seconds, tell }: SourcesOptions): Promise<string[]> {
  const lab = await createLab({ prefix: `pms${process.pid}-` })
  const { director } = lab
  const url = `http://${endpoint(hostNamed('director').servers?.ipv4 ?? '', 2379)}`
  const etcd = new Etcd({
    name: 'soak',
    url,
    peer: `http://${endpoint(hostNamed('director').servers?.ipv4 ?? '', 2380)}`,
    namespace: director.namespace,
  })
  const registry = new Writer(url, director.namespace)
  try {
    etcd.start()
    await registry.ready()
    for (const pool of POOLS) await registry.fill(pool)
    mkdirSync(director.runDir, { recursive: true, mode: 0o755 })
    const flag = `${director.runDir}/flag`
    writeFileSync(flag, '0\n')
    const file = `${director.runDir}/sources.yaml`
    writeFileSync(file, JSON.stringify(configuration(url, flag)))
    await director.start({ dataplane: plane, config: file, environment: SMALL_HEAP })
    await settled(lab)
    const run = new Run(lab, registry, flag, seconds * 1000)
    const problems = await run.all()
    for (const line of run.summary) tell(line)
    return problems
  } catch (error) {
    if (error instanceof Error) error.message += `\n--- pointsmand:\n${director.logTail()}`
    throw error
  } finally {
    registry.close()
    await etcd.remove()
    await lab.destroy()
  }
}

function configuration(url: string, flag: string): object {
  const check = { kind: 'file', file: flag, interval: '50ms', timeout: '1s', rise: 1, fall: 1 }
  return {
    registries: { site: { kind: 'etcd', endpoints: [url] } },
    pools: Object.fromEntries(
      POOLS.map((pool) => [pool, { registry: 'site', name: `/${pool}/`, method: 'nat', max_removal: '50%' }]),
    ),
    services: POOLS.map((pool) => ({
      tcp: endpoint(address, PORTS[pool]),
      scheduler: 'rr',
      ...(pool === 'checked'
        ? {
            on_failure: 'drain',
            real_servers: [
              { address: rs1, method: 'nat' },
              { address: rs2, method: 'nat' },
              { address: rs3, method: 'nat', checks: [check] },
            ],
          }
        : { pools: [pool] }),
    })),
  }
}

/** Whoever writes in the registry. */
class Writer {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (written: Written) => void>()
  #last = 0

  constructor(url: string, namespace: string) {
    const [program, ...words] = inNamespace(namespace, typescript(WRITER, [url]))
    this.#child = spawn(program, words, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    endWithUs(this.#child)
    this.#child.on('message', (written: Written) => this.#waiting.get(written.id)?.(written))
  }

  get writes(): number {
    return this.#last
  }

  async write(entries: Write['entries']): Promise<void> {
    // A server on a busy machine may be late; what is written twice is the same.
    let failure: string | null = null
    for (let tries = 0; tries < TRIES; tries++) {
      failure = await this.#attempt(entries)
      if (failure === null) return
    }
    throw new Error(failure ?? '')
  }

  async #attempt(entries: Write['entries']): Promise<string | null> {
    const id = ++this.#last
    const { failure } = await new Promise<Written>((resolve) => {
      this.#waiting.set(id, resolve)
      this.#child.send({ id, entries } satisfies Write)
    })
    this.#waiting.delete(id)
    return failure
  }

  /** What a pool has before and after everything. */
  async fill(pool: Pool): Promise<void> {
    const has = MAY_BE[pool].at(-1) ?? []
    await this.write(has.map((value, index) => ({ key: `/${pool}/${index}`, value })))
  }

  async ready(): Promise<void> {
    await until('etcd', PATIENCE_MS, () =>
      this.write([{ key: '/ready', value: '' }]).then(
        () => true,
        () => undefined,
      ),
    )
  }

  close(): void {
    this.#child.kill()
  }
}

interface Listed {
  readonly port: number
  readonly state: string
  readonly servers: readonly { readonly address: string; readonly port: number; readonly weight: number }[]
}

/** Real servers that get connections, by pool. */
async function inForce(lab: Lab): Promise<Readonly<Record<Pool, readonly string[]>>> {
  const { body } = await lab.director.api('GET', '/v1/services')
  const services = JSON.parse(body) as Listed[]
  const of = (pool: Pool): readonly string[] =>
    (services.find(({ port }) => port === PORTS[pool])?.servers ?? [])
      .filter(({ weight }) => weight > 0)
      .map((server) => endpoint(server.address, server.port))
      .sort()
  return Object.fromEntries(POOLS.map((pool) => [pool, of(pool)])) as Record<Pool, readonly string[]>
}

async function settled(lab: Lab): Promise<void> {
  let now: Readonly<Record<Pool, readonly string[]>> | null = null
  await until('what was said last', PATIENCE_MS, async () => {
    now = await inForce(lab)
    const same = POOLS.every((pool) => isDeepStrictEqual(now?.[pool], MAY_BE[pool].at(-1)))
    return same && (await lab.director.isInForce()) ? true : undefined
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(now)}`)
  })
}

class Run {
  readonly #lab: Lab
  readonly #registry: Writer
  readonly #flag: string
  readonly #everyMs: number
  readonly #problems = new Set<string>()
  readonly #sizes: Size[] = []
  #answers = 0
  #looks = 0

  constructor(lab: Lab, registry: Writer, flag: string, lengthMs: number) {
    this.#lab = lab
    this.#registry = registry
    this.#flag = flag
    this.#everyMs = lengthMs / SAMPLES
  }

  /** What went wrong. */
  async all(): Promise<string[]> {
    const put = (pool: Pool, entries: Readonly<Record<string, string | null>>): Promise<void> =>
      this.#registry.write(
        Object.entries(entries).map(([name, value]) => ({ key: `/${pool}/${name}`, value })),
      )
    await Promise.all([
      this.#again(FLAP_MS, (n) => put('flapping', { 2: JSON.stringify({ address: rs3, weight: n % 2 }) })),
      // Two keys of one transaction.
      this.#again(FLAP_MS, (n) => put('swapping', n % 2 === 0 ? { 0: rs1, 1: rs2 } : { 0: rs2, 1: rs3 })),
      this.#again(FLAP_MS, (n) => put('garbage', { [`x${n % 5}`]: garbage(n) })),
      this.#again(10 * FLAP_MS, (n) =>
        n % 2 === 0 ? put('emptied', { 0: null, 1: null, 2: null }) : this.#registry.fill('emptied'),
      ),
      this.#again(FLAP_MS, async (n) => writeFileSync(this.#flag, n % 2 === 0 ? '-254\n' : '0\n')),
      this.#again(0, () => this.#ask()),
      this.#again(FLAP_MS, () => this.#look()),
      this.#sample(),
    ])
    writeFileSync(this.#flag, '0\n')
    await put('garbage', Object.fromEntries([0, 1, 2, 3, 4].map((n) => [`x${n}`, null])))
    for (const pool of POOLS) await this.#registry.fill(pool)
    await settled(this.#lab)
    const growth = growthOf(this.#sizes)
    if (growth === null) this.#problems.add('too short to say anything about memory')
    else growthProblems('the daemon', growth).forEach((problem) => void this.#problems.add(problem))
    return [...this.#problems]
  }

  get summary(): string[] {
    const growth = growthOf(this.#sizes)
    return [
      `${this.#registry.writes} writes, ${this.#answers} answers, ${this.#looks} looks at what is in force`,
      growth === null
        ? 'memory is not known'
        : `memory of the daemon: ${mib(growth.first.own)} at first, ${mib(growth.last.own)} in the end, ${mib(growth.ownBytes)} more in its last third than in its first`,
    ]
  }

  async #again(everyMs: number, act: (round: number) => Promise<void>): Promise<void> {
    for (let round = 0; this.#sizes.length < SAMPLES; round++) {
      await act(round)
      await sleep(everyMs)
    }
  }

  /** It ends when there are enough of them: on a busy machine that is later. */
  async #sample(): Promise<void> {
    while (this.#sizes.length < SAMPLES) {
      await sleep(this.#everyMs)
      this.#sizes.push(readSize(this.#lab.director.pid()))
    }
  }

  async #ask(): Promise<void> {
    for (const pool of ASKED) {
      const target = { address, port: PORTS[pool] }
      const report = await this.#lab.client.load({ ...target, requests: REQUESTS, concurrency: 2 })
      this.#answers += Object.values(report.answers).reduce((sum, count) => sum + count, 0)
      for (const [why, count] of Object.entries(report.failures))
        this.#problems.add(`${pool}: ${count} requests failed: ${why}`)
    }
  }

  async #look(): Promise<void> {
    const now = await inForce(this.#lab)
    this.#looks++
    for (const pool of POOLS) {
      if (MAY_BE[pool].some((set) => isDeepStrictEqual(set, now[pool]))) continue
      this.#problems.add(`${pool}: in force are ${now[pool].join(', ') || 'none'}`)
    }
  }
}

function garbage(round: number): string {
  const kinds = [
    '{"address":',
    '\u0000\u0001',
    `{"address":"10.0.0.1","note":"${'x'.repeat(MEGABYTE)}"}`,
    '[]',
    '300.1.1.1:80',
  ]
  return kinds[round % kinds.length] ?? ''
}
