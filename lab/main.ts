/**
 * `npm start`: the lab with one service per forwarding method, family and protocol, real requests
 * through all of them, and what came of it. `-- --keep` leaves the lab up.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { until } from './command.ts'
import { type DataplaneName, executable } from './director.ts'
import { etcdMissing } from './etcd.ts'
import { createLab, DEFAULT_PREFIX, type Lab, removeLab, type SentCount } from './lab.ts'
import { namespacePath } from './namespace.ts'
import { measurePrograms, type ProgramTime, programTime } from './program-time.ts'
import { demonstrateRegistry } from './registry.ts'
import { allRules, type LabService, virtualEndpoint } from './rules.ts'
import type { Answer } from './server.ts'
import { detail, expectNothing, isInterrupted, problem, problems, step } from './telling.ts'
import { endpoint, FAMILIES, hostNamed, METHODS, type Method, realServers, topology } from './topology.ts'

const REQUESTS = 6
const LOAD = { requests: 2000, concurrency: 8 }
const BULK_MB = 20
/** A service beside those that commands make. */
const HEALTH_PORT = 8000
const HEALTH_MS = 30_000

const HELP = `npm start [-- OPTION…]
  --keep                          leave the lab up afterwards and say how to look around
  --remove                        only take away a lab that was kept
  --dataplane auto|xdp|tc|userspace  what carries the packets (default auto)
  --registry etcd                 show real servers that register themselves, and one whose lease ends, instead
  --prefix NAME                   begin of the namespaces' names (default ${DEFAULT_PREFIX})
`

const TITLES: Record<Method, string> = { nat: 'NAT', 'direct-routing': 'direct routing', tunnel: 'tunnel' }

const services: LabService[] = METHODS.flatMap((method) =>
  FAMILIES.flatMap((family) =>
    (['tcp', 'udp'] as const).map((protocol) => ({ method, protocol, family, serverFamily: family })),
  ),
)

async function configure(lab: Lab): Promise<void> {
  step('rules, as an operator types them')
  for (const service of services)
    for (const rule of allRules(service)) {
      await lab.director.rule(rule)
      detail(`ipvsadm ${rule}`)
    }
}

async function ask(lab: Lab, service: LabService): Promise<void> {
  const target = virtualEndpoint(service)
  const answers: Answer[] = []
  const client = hostNamed('client').clients[service.family]
  try {
    for (let i = 0; i < REQUESTS; i++)
      answers.push(service.protocol === 'tcp' ? await lab.client.http(target) : await lab.client.udp(target))
  } catch (error) {
    problem(
      `${TITLES[service.method]} ${service.protocol} ${endpoint(target.address, target.port)}: ${error}`,
    )
    return
  }
  const url = `${service.protocol === 'tcp' ? 'http' : 'udp'}://${endpoint(target.address, target.port)}`
  const who = answers.map((answer) => answer.server).join(' ')
  const seen = [...new Set(answers.map((answer) => answer.client))]
  detail(`${TITLES[service.method].padEnd(15)} ${url.padEnd(27)} ${who}   saw ${seen.join(', ')}`)
  if (seen.length !== 1 || seen[0] !== client)
    problem(`the real servers saw ${seen.join(', ')}, not ${client}`)
  if (new Set(answers.map((answer) => answer.server)).size !== realServers().length)
    problem(`not every real server answered at ${url}`)
}

/** The same rules from a file, which owns them from then on; one real server is drained by hand meanwhile. */
async function serveFromFile(lab: Lab): Promise<void> {
  step('the same rules as a file: export, apply; then a real server is drained by hand')
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-lab-'))
  const file = join(folder, 'pointsman.yaml')
  const say = async (...words: readonly string[]): Promise<string> => {
    const { status, stdout, stderr } = await lab.director.pointsman(words)
    if (status !== 0) problem(`pointsman ${words.join(' ')}: ${stderr}`)
    if (words[0] !== 'export') detail(`pointsman ${words.join(' ')}\n${stdout}`)
    return stdout
  }
  try {
    writeFileSync(file, await say('export'))
    await say('apply', file)
    const target = virtualEndpoint({ method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' })
    const first = realServers()[0]!
    const real = endpoint(first.servers?.ipv4 ?? '', topology.ports.httpBehindNat)
    const service = `tcp/${endpoint(target.address, target.port)}`
    await say('drain', service, real)
    const answers: Answer[] = []
    for (let i = 0; i < REQUESTS; i++) answers.push(await lab.client.http(target))
    detail(answers.map(({ server }) => server).join(' '))
    if (answers.some(({ server }) => server === first.name)) problem(`${first.name} is drained and was asked`)
    await say('undrain', service, real)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Who sent the answers that arrived on the clients' wire, by forwarding method. */
function showAnswerPaths(sent: readonly SentCount[]): void {
  step("who sent the answers, counted on the clients' wire")
  for (const method of METHODS) {
    const { ipv4, ipv6 } = topology.virtual[method]
    const answers = sent.filter(
      ({ wire, source }) => wire === 'clients' && (source === ipv4 || source === ipv6),
    )
    const total = (those: readonly SentCount[]): number =>
      those.reduce((sum, count) => sum + count.packets, 0)
    const director = total(answers.filter(({ host }) => host === 'director'))
    const direct = realServers().map((server) => ({
      name: server.name,
      packets: total(answers.filter(({ host }) => host === server.name)),
    }))
    const shares = direct.map(({ name, packets }) => `${name} ${packets}`).join(', ')
    detail(
      `${TITLES[method].padEnd(15)} director ${String(director).padStart(6)} packets   directly: ${shares}`,
    )
    const directly = direct.reduce((sum, { packets }) => sum + packets, 0)
    if (method === 'nat' && (director === 0 || directly > 0)) problem('NAT answers have to pass the director')
    if (method !== 'nat' && (director > 0 || directly === 0))
      problem(`answers of ${TITLES[method]} have to go straight to the client`)
  }
}

/** Many short connections per method, then one long one, and what a packet of each cost. */
async function measure(lab: Lab): Promise<void> {
  step(`${LOAD.requests} HTTP requests per forwarding method, a connection each; then one of ${BULK_MB} MB`)
  const stopMeasuring = measurePrograms()
  const timed = async <T>(work: () => Promise<T>): Promise<{ result: T; cost: string }> => {
    const before = programTime(lab.director.pid())
    const result = await work()
    return { result, cost: cost(before, programTime(lab.director.pid())) }
  }
  try {
    for (const method of METHODS) {
      const target = virtualEndpoint({ method, protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' })
      const short = await timed(() => lab.client.load({ ...target, ...LOAD }))
      const long = await timed(() =>
        lab.client.http({ ...target, upload: BULK_MB * 1_000_000, timeoutMs: 60_000 }),
      )
      const { answers, failures, seconds } = short.result
      const shares = realServers().map(({ name }) => `${name} ${answers[name] ?? 0}`)
      const rate = Math.round(LOAD.requests / seconds)
      detail(`${TITLES[method].padEnd(15)} ${shares.join(', ')}   ${rate} requests/s`)
      detail(
        `${''.padEnd(15)} ns per packet in the packet program: ${long.cost}; of short connections ${short.cost}`,
      )
      for (const [message, number] of Object.entries(failures))
        problem(`${number} requests through ${TITLES[method]} failed: ${message}`)
    }
  } finally {
    stopMeasuring()
  }
}

function cost(before: ProgramTime | null, after: ProgramTime | null): string {
  if (before === null || after === null || after.runs === before.runs) return '(only measured for XDP)'
  const packets = after.runs - before.runs
  return `${(after.ns - before.ns) / packets} (${packets} packets)`
}

/** A real server dies and comes back, in a service that a file states and checks look after. */
async function demonstrateHealth(lab: Lab): Promise<void> {
  const [, , patient] = realServers()
  if (patient === undefined) return
  const target = { address: topology.virtual.nat.ipv4, port: HEALTH_PORT }
  const server = endpoint(patient.servers.ipv4, topology.ports.httpBehindNat)
  const file = `${lab.director.runDir}/health.yaml`
  const check = {
    kind: 'http',
    url: '/',
    path: 'service',
    interval: '200ms',
    timeout: '1s',
    rise: 1,
    fall: 2,
  }
  const service = {
    tcp: endpoint(target.address, target.port),
    ...{ scheduler: 'wrr', checks: [check], slow_start: '3s' },
    real_servers: realServers().map(({ servers }) => ({
      ...{ address: endpoint(servers.ipv4, topology.ports.httpBehindNat), method: 'nat', weight: 100 },
    })),
  }
  const before = `${lab.director.runDir}/before.yaml`
  writeFileSync(before, (await lab.director.pointsman(['export'])).stdout)
  writeFileSync(file, JSON.stringify({ services: [service] }))
  step(`health: ${patient.name}'s web server is stopped, and started again`)
  const applied = await lab.director.pointsman(['apply', file])
  if (applied.status !== 0) {
    problem(`pointsman apply ${file} exited with ${applied.status}: ${applied.stderr.trim()}`)
    return
  }
  const weight = async (): Promise<number | null> => {
    const { stdout } = await lab.director.ipvsadm(['-Ln', '-t', endpoint(target.address, target.port)])
    const found = stdout.split('\n').find((line) => line.includes(`${server} `))
    return found === undefined ? null : Number(/Masq +(\d+)/.exec(found)?.[1])
  }
  const becomes = (what: string, good: (now: number | null) => boolean): Promise<number | null> =>
    until(`${server} to be ${what}`, HEALTH_MS, async () => {
      const now = await weight()
      return good(now) ? { now } : undefined
    }).then(({ now }) => now)
  await becomes('in the list', (now) => now === 100)
  await lab.stopServer(patient.name)
  await becomes('found', (now) => now === null)
  detail((await lab.director.pointsman(['health'])).stdout)
  const { answers, failures } = await lab.client.load({ ...target, requests: 300, concurrency: 4 })
  const shares = realServers().map(({ name }) => `${name} ${answers[name] ?? 0}`)
  detail(`300 requests meanwhile: ${shares.join(', ')}`)
  for (const [message, number] of Object.entries(failures))
    problem(`${number} requests failed after the real server had been found: ${message}`)
  await lab.startServer(patient.name)
  const first = await becomes('back', (now) => now !== null)
  const later = await becomes('heavier', (now) => now !== null && (now > (first ?? 0) || now === 100))
  await becomes('whole', (now) => now === 100)
  detail(`back with weight ${first}, then ${later}, then 100`)
  const back = await lab.director.pointsman(['apply', before])
  if (back.status !== 0)
    problem(`pointsman apply ${before} exited with ${back.status}: ${back.stderr.trim()}`)
}

async function showCommand(lab: Lab, name: 'ipvsadm' | 'pointsman', args: readonly string[]): Promise<void> {
  step([name, ...args].join(' '))
  const result = await lab.director.command([executable(name), ...args])
  detail(result.stdout)
  if (result.status !== 0)
    problem(`${name} ${args.join(' ')} exited with ${result.status}: ${result.stderr.trim()}`)
}

function explainKeptLab(lab: Lab, methods: readonly Method[]): void {
  const command = (host: string, words: string): string =>
    `nsenter --net=${namespacePath(lab.prefix + host)} ${words}`
  const nat = topology.virtual.nat
  step('the lab stays up; look around with')
  detail(
    [
      `export POINTSMAN_SOCKET=${lab.director.socket}`,
      `${executable('ipvsadm')} -Ln`,
      `${executable('pointsman')} status`,
      command('client', `curl http://${nat.ipv4}/`),
      ...methods.map((method) => command('client', `curl http://[${topology.virtual[method].ipv6}]/`)),
      command('director', 'bash'),
      command('rs1', `tcpdump -ni ${topology.wires.servers.interface}`),
      command('net', 'nft list ruleset'),
      `tail -f ${lab.director.logFile}`,
      '',
      'and take it away with',
      'npm start -- --remove',
    ].join('\n'),
  )
}

async function demonstrate(lab: Lab, dataplane: DataplaneName): Promise<void> {
  step(`director: pointsmand on ${topology.wires.clients.interface} and ${topology.wires.servers.interface}`)
  await lab.director.start({ dataplane })
  await showCommand(lab, 'pointsman', ['status'])
  await configure(lab)
  step(`requests from the client: who answered, and which client they saw`)
  for (const service of services) await ask(lab, service)
  await serveFromFile(lab)
  await measure(lab)
  showAnswerPaths(await lab.sent())
  await showCommand(lab, 'ipvsadm', ['-Ln', '--stats'])
  await demonstrateHealth(lab)
  await showCommand(lab, 'pointsman', ['verdicts'])
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      keep: { type: 'boolean', default: false },
      remove: { type: 'boolean', default: false },
      dataplane: { type: 'string', default: 'auto' },
      registry: { type: 'string' },
      prefix: { type: 'string', default: DEFAULT_PREFIX },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const { dataplane, prefix, registry } = values
  if (values.help) {
    process.stdout.write(HELP)
    return 0
  }
  if (dataplane !== 'auto' && dataplane !== 'xdp' && dataplane !== 'tc' && dataplane !== 'userspace')
    throw new Error(`--dataplane is neither auto, xdp, tc nor userspace: "${dataplane}"`)
  if (registry !== undefined && registry !== 'etcd') throw new Error(`--registry is not etcd: "${registry}"`)
  if (registry !== undefined && etcdMissing !== false) throw new Error(etcdMissing)
  if (values.remove) {
    step(`taking away what is left of lab ${prefix}*`)
    await removeLab(prefix)
    return 0
  }

  step(`lab: ${topology.hosts.map(({ name }) => prefix + name).join(', ')}`)
  const lab = await createLab({ prefix, outlive: values.keep })
  // An interrupted run takes its lab with it; one that is killed is cleaned up by the next.
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.once(signal, () => {
      expectNothing()
      step(`${signal}: taking the lab away`)
      void lab.destroy().finally(() => process.exit(status))
    })
  let keep = false
  try {
    if (registry === undefined) await demonstrate(lab, dataplane)
    else await demonstrateRegistry(lab, dataplane, values.keep)
    keep = values.keep
  } catch (error) {
    problem(error instanceof Error ? error.message : String(error))
  } finally {
    if (isInterrupted()) await new Promise(() => {}) // the signal's handler ends the process
    if (keep) explainKeptLab(lab, registry === undefined ? METHODS : [])
    else {
      step('taking the lab away')
      await lab.destroy()
    }
  }
  if (keep) await lab.release()
  if (problems.length > 0) {
    step(`${problems.length} problem${problems.length === 1 ? '' : 's'}`)
    for (const text of problems) detail(text)
    return 1
  }
  step(
    registry === undefined
      ? 'every forwarding method forwarded, every real server saw the client'
      : 'whoever was registered served, and nobody else was asked',
  )
  return 0
}

main().then(
  (status) => process.exit(status),
  (error: unknown) => {
    console.error(`Cannot run the lab: ${error instanceof Error ? error.message : error}`)
    process.exit(1)
  },
)
