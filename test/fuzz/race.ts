/**
 * Threads of the packet program over one small table, which is full all the time, while the daemon's sweep goes
 * over it: claims, evictions, expiry, changes of state, resets and next hops meet in every line. In wasm on
 * shared memory, or in the kernel. Afterwards counts are what lines say, and nothing was to be repaired.
 */
import { fork } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { openDirector } from '../../control/apply/open.ts'
import { Sweep } from '../../control/connections/sweep.ts'
import { ConnectionTable, isLive } from '../../control/connections/table.ts'
import { builtFile } from '../../dataplane/assets.ts'
import type { Dataplane, Sizes } from '../../dataplane/dataplane.ts'
import { putInterface } from '../../dataplane/interface-table.ts'
import { KernelDataplane } from '../../dataplane/kernel/plane.ts'
import {
  ConnKind,
  ConnStatus,
  JobRecord,
  LiveRecord,
  PM_CONN_ACTIVE,
  PM_CONN_HELD,
  PM_CONN_STATUS,
  PM_TIMEOUTS,
  PM_VERDICT_MAX,
  SettingsRecord,
  Verdict,
} from '../../dataplane/layout/layout.gen.ts'
import { levelsWord, readLevels } from '../../dataplane/levels.ts'
import { openWasm } from '../../dataplane/userspace/wasm-file.ts'
import { possibleCpus } from '../../linux/cpus.ts'
import { readNetDevice } from '../../linux/device.ts'
import { server, service, testHost } from '../control/support.ts'
import { ip, sysctl } from '../dataplane/private-network.ts'
import {
  BATCH,
  CLOCK,
  FRAME_ROOM,
  type RaceProcessSetup,
  type RaceSetup,
  STOP,
  TALLIES,
  TALLY_WORDS,
} from './race-setup.ts'
import { KINDS, MAC, REALS_PER_SERVICE, realAddress, realMac, type Tally, VIP } from './race-traffic.ts'

export interface RaceOptions {
  readonly seconds: number
  readonly lines: number
  readonly seed: number
  readonly threads?: number
  /** Kernel: of the per-CPU maps; fewer than CPUs have to share. */
  readonly rows?: number
  /** The table is made smaller and larger all the time, over so many levels. */
  readonly levels?: number
}

export interface RaceResult extends Tally {
  readonly sweeps: number
  readonly expired: number
  readonly repaired: number
  /** Lines that are nobody's at the end. */
  readonly claimed: number
  readonly held: number
  /** Lines of one flow too many. */
  readonly twice: number
  /** Packets that have a verdict. */
  readonly judged: number
  /** Real servers whose counts are not what the lines say. */
  readonly differences: readonly string[]
}

const sizes = (lines: number, cpus: number): Sizes => ({
  services: 16,
  serviceBuckets: 16,
  reals: 32,
  members: 256,
  connections4: lines,
  connections6: 4,
  cpus,
})
/** Short, in the program's ticks: lines expire under the packets, too. */
const TIMEOUT_TICKS = 10
const WORKER = fileURLToPath(new URL('./race-worker.ts', import.meta.url))

async function addRules(dataplane: Dataplane): Promise<void> {
  const { director, applier } = openDirector({ dataplane, host: testHost() })
  KINDS.forEach((kind, number) => {
    const wanted = service(`${kind.protocol} ${VIP}:${kind.port}`, {
      scheduler: kind.protocol === 'udp' ? 'lc' : 'rr',
    })
    director.addService(wanted)
    for (let which = 0; which < REALS_PER_SERVICE; which++) {
      const at = `${realAddress(number, which)}:${kind.realPort}`
      const upper = kind.method === 'nat' ? 0 : Math.max(2, dataplane.sizes.connections4 / 8)
      director.addServer(wanted.id, server(at, { method: kind.method, upperThreshold: upper }))
    }
  })
  await director.settle()
  await applier.stop()
  const { view } = dataplane.map('settings')
  const settings = SettingsRecord.read(view, 0)
  const timeouts = Array.from({ length: PM_TIMEOUTS }, (_, state) => TIMEOUT_TICKS + 2 * state)
  SettingsRecord.write(view, 0, { ...settings, timeouts })
}

/** Counts of the table itself against those that packets and sweep have kept. */
function compare(dataplane: Dataplane): Pick<RaceResult, 'claimed' | 'held' | 'twice' | 'differences'> {
  const table = new ConnectionTable(dataplane, 4)
  const { reals } = dataplane.sizes
  const met = Array.from({ length: reals }, () => ({ active: 0, inactive: 0 }))
  let claimed = 0
  let held = 0
  const flows = new Set<string>()
  let twice = 0
  for (let line = 0; line < table.lines; line++) {
    const word = table.word(line)
    if ((word & PM_CONN_STATUS) === ConnStatus.Claimed) claimed++
    if (!isLive(word)) continue
    if ((word & PM_CONN_HELD) !== 0) held++
    const { source, destination } = table.addresses(line)
    const ports = table.ports(line)
    const flow = [table.protocol(line), source, ports.source, destination, ports.destination].join(' ')
    if (flows.has(flow)) twice++
    flows.add(flow)
    if (table.kind(line) !== ConnKind.In) continue
    if ((word & PM_CONN_ACTIVE) !== 0) met[table.real(line)]!.active++
    else met[table.real(line)]!.inactive++
  }
  const { view } = dataplane.map('live')
  const differences = met.flatMap(({ active, inactive }, real) => {
    const live = LiveRecord.read(view, real * LiveRecord.size)
    if (live.active === active && live.inactive === inactive) return []
    return [`real server ${real}: counted ${live.active}/${live.inactive}, met ${active}/${inactive}`]
  })
  return { claimed, held, twice, differences }
}

interface Racers {
  /** Every thread has begun to send. */
  readonly begun: Promise<void>
  /** Ends them; what all have seen together. */
  end(): Promise<Tally>
}

/** New lines are placed in another level, as packets and daemon have it when a table grows or shrinks. */
function resize(settings: Uint32Array, current: number): void {
  const word = SettingsRecord.offsets.levels4 / 4
  const was = Atomics.load(settings, word)
  const { current: before, others } = readLevels(was)
  const next = { current, others: (others | (1 << before)) & ~(1 << current) }
  Atomics.compareExchange(settings, word, was, levelsWord(next))
}

/** Goes over the table as the daemon does, while others send; then looks at what there is. */
async function judge(
  dataplane: Dataplane,
  options: RaceOptions,
  racers: Racers,
  tick: () => void,
): Promise<RaceResult> {
  const sweep = new Sweep(dataplane)
  const { u32 } = dataplane.map('settings')
  const epoch = SettingsRecord.offsets.nextHopEpoch / 4
  const totals = { sweeps: 0, expired: 0, repaired: 0 }
  const add = (report: ReturnType<Sweep['slice']>): void => {
    if (report === null) return
    totals.sweeps++
    totals.expired += report.expired
    totals.repaired += report.repaired
  }
  await racers.begun
  const endMs = performance.now() + options.seconds * 1000
  for (let round = 0; performance.now() < endMs; round++) {
    tick()
    if (round % 16 === 0) Atomics.add(u32, epoch, 1)
    if (options.levels !== undefined && round % 8 === 0) resize(u32, (round / 8) % options.levels)
    add(sweep.slice(Math.max(16, options.lines / 8), { expireGone: false }))
    await sleep(0)
  }
  const tally = await racers.end()
  const found = compare(dataplane)
  // Then everybody goes, and takes the counts along.
  for (let n = 0; n < 500; n++) {
    tick()
    const report = sweep.run({ expireGone: false })
    add(report)
    if (report.connections4 === 0) break
    await sleep(10)
  }
  const differences = [...found.differences, ...compare(dataplane).differences]
  // Behind the verdicts of packets are those of connections.
  const judged = dataplane
    .map('verdicts')
    .u64.reduce(
      (all, count, at) => (at % PM_VERDICT_MAX < Verdict.EvictedEnded ? all + Number(count) : all),
      0,
    )
  return { ...tally, judged, ...totals, ...found, differences }
}

function sum(tallies: readonly Tally[]): Tally {
  const total: Tally = { packets: 0, right: 0, answers: 0, wrong: 0 }
  for (const tally of tallies) {
    for (const name of ['packets', 'right', 'answers', 'wrong'] as const) total[name] += tally[name]
  }
  return total
}

function startThreads(setups: readonly RaceSetup[], shared: SharedArrayBuffer): Racers {
  const words = new Int32Array(shared)
  const failed: Error[] = []
  const ended = setups.map((setup) => {
    const worker = startWorker(setup)
    worker.on('error', (error) => failed.push(error))
    return new Promise((resolve) => worker.once('exit', resolve))
  })
  const at = (thread: number): number => TALLIES + thread * TALLY_WORDS
  const begun = async (): Promise<void> => {
    while (!setups.every((_, thread) => Atomics.load(words, at(thread)) !== 0)) {
      if (failed.length > 0) throw failed[0]
      await sleep(5)
    }
  }
  return {
    begun: begun(),
    async end() {
      Atomics.store(words, STOP, 1)
      await Promise.all(ended)
      if (failed.length > 0) throw failed[0]
      return sum(
        setups.map((_, thread) => {
          const [packets, right, answers, wrong] = words.slice(at(thread), at(thread) + TALLY_WORDS)
          return {
            packets: packets! >>> 0,
            right: right! >>> 0,
            answers: answers! >>> 0,
            wrong: wrong! >>> 0,
          }
        }),
      )
    },
  }
}

function startProcesses(setups: readonly RaceProcessSetup[]): Racers {
  const script = fileURLToPath(new URL('./race-process.ts', import.meta.url))
  const racers = setups.map((setup) => {
    const child = fork(script, [JSON.stringify(setup)], {
      execArgv: ['--import', import.meta.resolve('tsx')],
    })
    const said = (): Promise<unknown> =>
      new Promise((resolve, reject) => {
        child.once('message', resolve)
        child.once('exit', (status, signal) => reject(new Error(`a racer ended with ${status ?? signal}`)))
      })
    return { child, ready: said(), said }
  })
  let tallies: Promise<unknown[]> = Promise.resolve([])
  const begun = async (): Promise<void> => {
    await Promise.all(racers.map(({ ready }) => ready))
    tallies = Promise.all(racers.map(({ said }) => said()))
    for (const { child } of racers) child.send('go')
  }
  return { begun: begun(), end: async () => sum((await tallies) as Tally[]) }
}

/** A worker does not inherit loaders that were registered after the start. */
function startWorker(workerData: RaceSetup): Worker {
  const loader = import.meta.resolve('tsx/esm/api')
  const script = `import(${JSON.stringify(loader)}).then(({ register }) => {
    register()
    return import(${JSON.stringify(WORKER)})
  })`
  return new Worker(script, { workerData, eval: true })
}

export async function raceWasm(options: RaceOptions): Promise<RaceResult> {
  const shared = new SharedArrayBuffer(4096)
  const clock = new Int32Array(shared)
  const threads = options.threads ?? 2
  const interfaces = { client: 2, server: 3 }
  const dataplane = openWasm({
    sizes: sizes(options.lines, threads),
    wasmPath: builtFile('pointsman.wasm'),
    fib: () => ({ result: 'no-route' }),
    now: () => Atomics.load(clock, CLOCK) >>> 0,
  })
  Atomics.store(clock, CLOCK, 1000)
  for (const [name, ifindex] of Object.entries(interfaces)) {
    const mac = Uint8Array.from(MAC.director.split(':'), (byte) => Number.parseInt(byte, 16))
    putInterface(dataplane, { name, ifindex, mac, mtu: 1500 })
  }
  // Memory of the threads first: views are made of memory as large as it will be.
  const seats = Array.from({ length: threads }, (_, cpu) => ({
    seat: dataplane.seat(cpu),
    jobs: dataplane.owner.allocate(BATCH * JobRecord.size),
    frames: dataplane.owner.allocate(BATCH * FRAME_ROOM),
  }))
  await addRules(dataplane)
  const { seed } = options
  const setups = seats.map((host, thread): RaceSetup => ({ thread, threads, seed, interfaces, shared, host }))
  return await judge(
    dataplane,
    options,
    startThreads(setups, shared),
    () => void Atomics.add(clock, CLOCK, 1),
  )
}

/** What the kernel's program asks: to be laid in a network namespace of its own, before `raceKernel`. */
export function layNetwork(): void {
  for (const [device, address] of [
    ['race-c', '192.0.2.1/24'],
    ['race-r', '10.0.2.1/24'],
  ]) {
    ip(`link add ${device} address ${MAC.director} type veth peer name ${device}x`)
    ip(`link set ${device} up`)
    ip(`link set ${device}x up`)
    ip(`addr add ${address} dev ${device}`)
  }
  for (const family of ['ipv4', 'ipv6']) sysctl(`net/${family}/conf/all/forwarding`, 1)
  ip(`neigh add 192.0.2.254 lladdr ${MAC.gateway} dev race-c`)
  ip('route add default via 192.0.2.254')
  for (let kind = 0; kind < KINDS.length; kind++) {
    for (let which = 0; which < REALS_PER_SERVICE; which++) {
      ip(`neigh add ${realAddress(kind, which)} lladdr ${realMac(kind, which)} dev race-r`)
    }
  }
}

/** In this thread's network namespace, see `layNetwork`. */
export async function raceKernel(options: RaceOptions): Promise<RaceResult> {
  const dataplane = await KernelDataplane.open({
    sizes: sizes(options.lines, options.rows ?? possibleCpus()),
    pinDirectory: null,
  })
  try {
    const [client, real] = ['race-c', 'race-r'].map((name) => readNetDevice(name))
    for (const device of [client!, real!]) putInterface(dataplane, device)
    await addRules(dataplane)
    const interfaces = { client: client!.ifindex, server: real!.ifindex }
    const { seed, seconds, threads = 2 } = options
    const { id: programId } = dataplane.program()
    const setups = Array.from({ length: threads }, (_, thread) => ({
      thread,
      threads,
      seed,
      seconds,
      interfaces,
      programId,
    }))
    return await judge(dataplane, options, startProcesses(setups), () => {})
  } finally {
    await dataplane.close()
  }
}
