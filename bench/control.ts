/** The control side: how fast commands answer, how fast rules reach the packet program, what they weigh. */
import { request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'
import { mapInfo } from '../dataplane/kernel/object-info.ts'
import { Pins } from '../dataplane/kernel/pins.ts'
import { MAPS, RealRecord, Slot } from '../dataplane/layout/layout.gen.ts'
import { mapMemory } from '../dataplane/map-memory.ts'
import { must, run, sleep } from '../lab/command.ts'
import { defaultPinDirectory } from '../linux/bpffs.ts'
import { libc, mapShared } from '../linux/libc.ts'
import { type Daemon, executable } from './daemon.ts'
import { Forwarded, REAL_SERVERS, SERVERS_PER_SERVICE, SERVICES, serverAt, serviceAt } from './many.ts'
import { nativeProgram } from './native.ts'
import { type Goal, part, type Reporter, type Section } from './section.ts'
import { compare, median } from './statistics.ts'
import { withDaemon } from './with-daemon.ts'

const US = 1e3

const ANSWER: Goal = { of: 'value', bound: 'most', limit: 10_000 }
const RESTORE: Goal = { of: 'value', bound: 'most', limit: 3000 }
const MEMORY: Goal = { of: 'value', bound: 'most', limit: 400 }
const CHANGE: Goal = { of: 'value', bound: 'most', limit: 5000 }

function rules(): string {
  const lines: string[] = []
  for (let service = 0; service < SERVICES; service++) {
    lines.push(`-A -t ${serviceAt(service)} -s wrr`)
    for (let server = 0; server < SERVERS_PER_SERVICE; server++) {
      lines.push(`-a -t ${serviceAt(service)} -r ${serverAt(service, server)} -m -w 1`)
    }
  }
  return `${lines.join('\n')}\n`
}

/** Wall times of commands started in turns by a small C program, one list per command. */
async function startedInTurns(daemon: Daemon, rounds: number, commands: readonly (readonly string[])[]) {
  const spawner = await nativeProgram('spawn')
  const words = commands.flatMap((command, index) => (index === 0 ? command : ['--', ...command]))
  const output = await must([spawner, String(rounds), ...words], { env: daemon.environment() })
  const times: number[][] = commands.map(() => [])
  for (const line of output.trim().split('\n')) {
    line.split(' ').forEach((ns, index) => {
      times[index]!.push(Number(ns))
    })
  }
  return times
}

async function listing(report: Reporter, daemon: Daemon, rules: string, rounds: number, goal?: Goal) {
  const name = `ipvsadm -Ln, ${rules}`
  const commands = [['/bin/true'], [executable('ipvsadm'), '-Ln']]
  await startedInTurns(daemon, 5, commands)
  const [nothing, list] = (await startedInTurns(daemon, rounds, commands)) as [number[], number[]]
  const { value, reference, ratio, least } = compare(list, nothing)
  report.row({
    name,
    unit: 'µs',
    value: value / US,
    best: least / US,
    reference: { name: '/bin/true', value: reference / US },
    ratio,
  })
  const more = list.map((ns, round) => ns - nothing[round]!)
  report.row({
    name: `${name}: more than /bin/true`,
    unit: 'µs',
    value: median(more) / US,
    best: (least - Math.min(...nothing)) / US,
    ...(goal === undefined ? {} : { goal }),
  })
}

/** A map that the daemon pinned, as memory. */
function pinnedMap(pins: Pins, name: 'reals' | 'members') {
  const fd = pins.openMap(name)
  const entries = mapInfo(fd).entries
  const { buffer } = mapShared(fd, entries * MAPS[name].entrySize, `map ${name}`)
  libc.close(fd)
  return mapMemory(name, entries, buffer)
}

/** Milliseconds from the start of one `ipvsadm -R` until the packet program forwards to the last service. */
async function restore(report: Reporter, daemon: Daemon, text: string): Promise<void> {
  const last = new Forwarded(serviceAt(SERVICES - 1))
  if (last.seen()) throw new Error('the last service is there before the restore')
  const cpu = daemon.cpuNs()
  const started = performance.now()
  let ended: number | null = null
  const command = run([executable('ipvsadm'), '-R'], { env: daemon.environment(), input: text }).then(
    (result) => {
      ended = performance.now()
      return result
    },
  )
  let visible: number | null = null
  while (visible === null && (ended === null || performance.now() - ended < 5000)) {
    if (last.seen()) visible = performance.now()
    else await sleep(2)
  }
  const result = await command
  last.close()
  if (result.status !== 0) throw new Error(`ipvsadm -R exited with ${result.status}: ${result.stderr.trim()}`)
  if (visible === null) throw new Error('the packet program never saw the last service')
  const what = `${SERVICES.toLocaleString('en')} services of ${SERVERS_PER_SERVICE} real servers`
  report.row({
    name: `ipvsadm -R of ${what}, until the packet program sees the last`,
    unit: 'ms',
    value: visible - started,
    goal: RESTORE,
    note: `the daemon ran for ${Math.round((daemon.cpuNs() - cpu) / 1e6).toLocaleString('en')} ms of it`,
  })
  report.row({ name: 'the same, until the command ends', unit: 'ms', value: ended! - started })
}

async function memory(report: Reporter, daemon: Daemon, when: string, goal?: Goal): Promise<void> {
  await sleep(2000)
  const { resident, own } = daemon.memory()
  report.row({
    name: `memory of the daemon ${when}, resident`,
    unit: 'MB',
    value: resident / 1024,
    ...(goal === undefined ? {} : { goal }),
    note: `its own ${Math.round(own / 1024)} MB, the rest maps and files`,
  })
}

/** A request of the native client, ready to be sent. */
function request(args: readonly string[]): string {
  const body = ['ipvsadm', ...args].map((word) => `${word}\0`).join('')
  return [
    'POST /v1/ipvsadm HTTP/1.1',
    'Host: pointsman',
    'Connection: close',
    'Content-Type: application/octet-stream',
    `Content-Length: ${body.length}`,
    `Pointsman-Argc: ${args.length + 1}`,
    'Pointsman-Stdin: unread',
    '',
    body,
  ].join('\r\n')
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket))
    socket.on('error', reject)
  })
}

/** Of the 99th request in a hundred that come while metrics are told, ms. */
const MEANWHILE: Goal = { of: 'value', bound: 'most', limit: 50 }
const SCRAPE: Goal = { of: 'value', bound: 'most', limit: 1000 }
const SCRAPES = 5

/** All metrics of all real servers, and how long small requests take meanwhile. */
async function scrape(report: Reporter, daemon: Daemon): Promise<void> {
  const cpus: number[] = []
  const meanwhile: number[] = []
  let bytes = 0
  for (let round = 0; round < SCRAPES; round++) {
    const cpu = daemon.cpuNs()
    let over = false
    const whole = read(daemon.socket, '/metrics').finally(() => {
      over = true
    })
    while (!over) {
      const started = performance.now()
      await read(daemon.socket, '/v1/sysctls')
      meanwhile.push(performance.now() - started)
    }
    bytes = await whole
    cpus.push((daemon.cpuNs() - cpu) / 1e6)
  }
  const what = `metrics of ${REAL_SERVERS.toLocaleString('en')} real servers`
  report.row({
    name: `${what}, processor time of the daemon`,
    unit: 'ms',
    value: median(cpus),
    best: Math.min(...cpus),
    goal: SCRAPE,
    note: `${Math.round(bytes / 1e6)} MB; the small requests meanwhile are in it`,
  })
  meanwhile.sort((a, b) => a - b)
  report.row({
    name: `a small request while they are told, 99th of 100`,
    unit: 'ms',
    value: meanwhile[Math.floor(meanwhile.length * 0.99)]!,
    goal: MEANWHILE,
    note: `${meanwhile.length} of them`,
  })
}

/** Reads an answer to its end, and keeps none of it; how long it was. */
function read(socketPath: string, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({ socketPath, path, agent: false }, (incoming) => {
      let bytes = 0
      incoming.on('data', (part: Buffer) => {
        bytes += part.length
      })
      incoming.on('end', () => resolve(bytes))
      incoming.on('error', reject)
    })
    outgoing.on('error', reject)
    outgoing.end()
  })
}

const CHANGES = 40
const PATIENCE_MS = 2000

/** Microseconds from a request on the socket until the new weight stands in the map. */
async function change(report: Reporter, daemon: Daemon): Promise<void> {
  const pins = new Pins(defaultPinDirectory())
  const reals = pinnedMap(pins, 'reals')
  const times: number[] = []
  const stride = Math.floor(SERVICES / CHANGES)
  for (let round = 0; round < CHANGES; round++) {
    const service = round * stride
    const server = serverAt(service, round % SERVERS_PER_SERVICE)
    const real = findReal(reals, server)
    const word = (real * reals.entrySize + RealRecord.offsets.weight) / 4
    const weight = 2 + (round % 7)
    const socket = await connected(daemon.socket)
    const text = request(['-e', '-t', serviceAt(service), '-r', server, '-m', '-w', String(weight)])
    const started = performance.now()
    socket.write(text)
    // The write has left for the daemon; nothing here may get in the way of seeing the answer in the map.
    while (Atomics.load(reals.u32, word) !== weight) {
      if (performance.now() - started > PATIENCE_MS) throw new Error(`weight of ${server} never changed`)
    }
    times.push((performance.now() - started) * 1000)
    await new Promise<void>((resolve) => {
      socket.on('close', () => resolve())
      socket.resume()
    })
  }
  report.row({
    name: `one weight among ${REAL_SERVERS.toLocaleString('en')} real servers, until it is in the map`,
    unit: 'µs',
    value: median(times),
    best: Math.min(...times),
    goal: CHANGE,
    note: `most ${Math.round(Math.max(...times)).toLocaleString('en')}`,
  })
}

const PUT: Goal = { of: 'value', bound: 'most', limit: 2000 }

/** A request with a body, to its answer; microseconds. */
function put(socketPath: string, path: string, body: unknown): Promise<number> {
  const started = performance.now()
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' }
    const outgoing = httpRequest({ socketPath, path, method: 'PUT', headers, agent: false }, (incoming) => {
      incoming.resume()
      incoming.on('error', reject)
      incoming.on('end', () => {
        if (incoming.statusCode === 200) resolve((performance.now() - started) * US)
        else reject(new Error(`PUT ${path} was answered with ${incoming.statusCode}`))
      })
    })
    outgoing.on('error', reject)
    outgoing.end(JSON.stringify(body))
  })
}

/** Address and port as a path has them. */
const segments = (endpoint: string): string => endpoint.replace(':', '/')

/** As sources and checks do it: one real server of a service that has all of them. */
async function oneOfMany(report: Reporter, daemon: Daemon): Promise<void> {
  const service = '192.0.2.10:80'
  const lines = Array.from(
    { length: REAL_SERVERS },
    (_, n) =>
      `-a -t ${service} -r ${serverAt(Math.floor(n / SERVERS_PER_SERVICE), n % SERVERS_PER_SERVICE)} -m -w 1`,
  )
  for (const scheduler of ['wrr', 'wlc']) {
    await daemon.restore([`-A -t ${service} -s ${scheduler}`, ...lines])
    const times: number[] = []
    const cpu = daemon.cpuNs()
    for (let round = 0; round < CHANGES; round++) {
      const server = serverAt(round * Math.floor(SERVICES / CHANGES), round % SERVERS_PER_SERVICE)
      const body = { method: 'nat', weight: 2 + (round % 7) }
      times.push(
        await put(daemon.socket, `/v1/services/tcp/${segments(service)}/servers/${segments(server)}`, body),
      )
      await sleep(20)
    }
    report.row({
      name: `PUT of one real server of a ${scheduler} service of ${REAL_SERVERS.toLocaleString('en')}, until it is answered`,
      unit: 'µs',
      value: median(times),
      best: Math.min(...times),
      goal: PUT,
      note: `most ${Math.round(Math.max(...times)).toLocaleString('en')}; the daemon ran for ${((daemon.cpuNs() - cpu) / 1e6 / CHANGES).toFixed(1)} ms a change, sweeps included`,
    })
    await daemon.ipvsadm(['-C'])
  }
}

function findReal(reals: ReturnType<typeof pinnedMap>, server: string): number {
  const [address, port] = server.split(':') as [string, string]
  const word = Buffer.from(address.split('.').map(Number)).readUInt32LE(0)
  for (let real = 0; real < reals.entries; real++) {
    const base = real * reals.entrySize
    if (
      RealRecord.getSlot(reals.view, base) === Slot.Live &&
      reals.view.getUint32(base + RealRecord.offsets.addr, true) === word &&
      RealRecord.getPort(reals.view, base) === Number(port)
    ) {
      return real
    }
  }
  throw new Error(`real server ${server} is not in the map`)
}

export const control: Section = {
  name: 'control',
  about: 'commands, restore and single changes with a running daemon on XDP',
  secondsMax: 120,
  run: (report) =>
    withDaemon('control', [], async (running) => {
      const before = running.memory()
      report.row({
        name: 'memory of the daemon without rules, resident',
        unit: 'MB',
        value: before.resident / 1024,
        note: `its own ${Math.round(before.own / 1024)} MB`,
      })
      await part(report, 'ipvsadm -Ln', async () => {
        await listing(report, running, 'no rules', 200, ANSWER)
        await running.restore([
          '-A -t 192.0.2.10:80 -s rr',
          ...[11, 12, 13].map((host) => `-a -t 192.0.2.10:80 -r 10.64.0.${host}:80 -m -w 1`),
        ])
        await listing(report, running, 'one service of three real servers', 200, ANSWER)
        await running.ipvsadm(['-C'])
      })
      await part(report, 'restore', async () => {
        await restore(report, running, rules())
        await memory(report, running, 'after the restore', MEMORY)
        await part(report, 'one change', () => change(report, running))
        await part(report, 'metrics', () => scrape(report, running))
        await memory(report, running, 'after five scrapes')
        await listing(report, running, `${REAL_SERVERS.toLocaleString('en')} real servers`, 3)
        await memory(report, running, 'after listing all of it')
        await running.ipvsadm(['-C'])
      })
      await part(report, 'one service of all real servers', () => oneOfMany(report, running))
    }),
}
