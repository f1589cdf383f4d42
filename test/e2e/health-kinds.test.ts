/**
 * Every kind of check over the service's own way, by every forwarding method, on every host of the program: what keeps a
 * client from the real server is found and named, and so is its end. All of them at once, in one scene.
 */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { HealthShown } from '../../control/front/api/schema/health.ts'
import { labPrograms } from '../../lab/built.ts'
import { typescript } from '../../lab/client.ts'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { inNamespace } from '../../lab/namespace.ts'
import { hostNamed, METHODS, type Method, topology } from '../../lab/topology.ts'
import { type Answerers, KINDS, type Kind } from './answerers.ts'
import { ALL_PLANES, capabilitiesOfUnit, missingFor, type Plane, withLab } from './scene.ts'

const FOUND_MS = 120_000
const TIMEOUT_MS = 1000
const real = hostNamed('rs1').servers!.ipv4
const device = topology.wires.servers.interface

/** Away from what the lab's own servers listen on. */
const PORTS = Object.fromEntries(KINDS.map((kind, index) => [kind, 7100 + index])) as Record<Kind, number>
const DATAGRAMS: readonly Kind[] = ['dns', 'udp']

const cases = METHODS.flatMap((method) =>
  KINDS.map((kind) => {
    const protocol = DATAGRAMS.includes(kind) ? 'udp' : 'tcp'
    const service = `${protocol} ${topology.virtual[method].ipv4}:${PORTS[kind]}`
    return { method, kind, protocol, service }
  }),
)

const WORDS: Readonly<Partial<Record<Kind, object>>> = {
  https: { verify: false },
  tls: { verify: false },
  dns: { query: 'www.example' },
  udp: { payload: '70696e67', require_reply: true, reply: '^ping$' },
}

const CONFIGURATION = JSON.stringify({
  services: cases.map(({ method, kind, protocol, service }) => ({
    [protocol]: service.slice(4),
    checks: [
      {
        ...{ kind, path: 'service', interval: '300ms', timeout: `${TIMEOUT_MS}ms` },
        ...{ rise: 1, fall: 2, start_jitter: '300ms', ...WORDS[kind] },
      },
    ],
    real_servers: [{ address: `${real}:${PORTS[kind]}`, method }],
  })),
})

const virtual = (method: Method): string => topology.virtual[method].ipv4
const ports = Object.values(PORTS).join(', ')
/** What is wrong with one method's way, and what mends it. */
const ON_THE_WAY: Readonly<Partial<Record<Method, { readonly make: string; readonly mend: string }>>> = {
  'direct-routing': {
    make: `ip addr del ${virtual('direct-routing')}/32 dev lo`,
    mend: `ip addr add ${virtual('direct-routing')}/32 dev lo`,
  },
  tunnel: {
    make: `ip link set ${device} xdpdrv off`,
    mend: `ip link set ${device} xdpdrv object ${labPrograms()} program decap`,
  },
}
/** What is wrong with the port, for all methods. */
const FIREWALL = {
  make: [
    'nft add table inet wall',
    "nft 'add chain inet wall in { type filter hook input priority 0; }'",
    `nft 'add rule inet wall in meta l4proto { tcp, udp } th dport { ${ports} } drop'`,
  ].join('\n'),
  mend: 'nft delete table inet wall',
}

async function on(lab: Lab, ...commands: readonly string[]): Promise<void> {
  const { status, stderr } = await lab.exec('rs1', ['sh', '-e', '-c', commands.join('\n')])
  assert.equal(status, 0, stderr)
}

/** Waits until the checks of all these cases stand so; what they say, by service. */
async function becomes(lab: Lab, state: 'up' | 'down', of = cases): Promise<Map<string, string>> {
  let all: readonly (readonly [string, HealthShown[number]['servers'][number] | undefined])[] = []
  await until(`${of.length} checks to be ${state}`, FOUND_MS, async () => {
    const { body } = await lab.director.api('GET', '/v1/health')
    const shown = JSON.parse(body) as HealthShown
    all = of.map(({ service }) => [
      service,
      shown.find((one) => one.service === service)?.servers.find(({ server }) => server.startsWith(real)),
    ])
    return all.every(([, one]) => one?.state === state) ? true : undefined
  }).catch((error: unknown) => {
    const others = all.filter(([, one]) => one?.state !== state)
    const found = others.map(([service, one]) => `${service}: ${JSON.stringify(one)}`)
    throw new Error(`${String(error)}\n${found.join('\n')}`)
  })
  return new Map(all.map(([service, one]) => [service, one?.why ?? '']))
}

/** A real server that answers all kinds, for as long as this takes. */
async function withAnswerers(lab: Lab, act: () => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-answerers-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  execFileSync('openssl', [...request, '-subj', '/CN=rs1', '-keyout', key, '-out', cert], { stdio: 'ignore' })
  const settings: Answerers = {
    addresses: [real, virtual('direct-routing'), virtual('tunnel')],
    ports: PORTS,
    key: readFileSync(key, 'utf8'),
    cert: readFileSync(cert, 'utf8'),
  }
  const source = fileURLToPath(new URL('./answerers.ts', import.meta.url))
  const [program, ...words] = inNamespace(`${lab.prefix}rs1`, typescript(source, [JSON.stringify(settings)]))
  const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve())
      child.once('exit', (status) => reject(new Error(`The answerers ended with ${status}`)))
    })
    await act()
  } finally {
    child.stdin.end()
    rmSync(folder, { recursive: true })
  }
}

async function scene(plane: Plane, lab: Lab, config: string): Promise<void> {
  await lab.director.start({ dataplane: plane, config, capabilities: capabilitiesOfUnit() })
  await becomes(lab, 'up')

  const found = async (of: typeof cases): Promise<void> => {
    for (const [service, why] of await becomes(lab, 'down', of)) {
      assert.match(why, /: (no answer within 1000 ms|no route to the host|connection reset)/, service)
    }
  }
  const faulty = cases.filter(({ method }) => ON_THE_WAY[method] !== undefined)
  await on(lab, ...Object.values(ON_THE_WAY).map(({ make }) => make))
  await found(faulty)
  await becomes(
    lab,
    'up',
    cases.filter((one) => !faulty.includes(one)),
  )
  await on(lab, ...Object.values(ON_THE_WAY).map(({ mend }) => mend))
  await becomes(lab, 'up')

  await on(lab, FIREWALL.make)
  await found(cases)
  await on(lab, FIREWALL.mend)
  await becomes(lab, 'up')
}

for (const plane of ALL_PLANES) {
  test(`every kind of check (${plane}): faults on the way are found by every method, and their end`, {
    skip: missingFor(plane),
  }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'pointsman-kinds-'))
    const config = join(folder, 'pointsman.yaml')
    writeFileSync(config, CONFIGURATION)
    try {
      await withLab((lab) =>
        withAnswerers(lab, () => scene(plane, lab, config)).catch((error: unknown) => {
          if (error instanceof Error) error.stack += `\n--- pointsmand:\n${lab.director.logTail()}`
          throw error
        }),
      )
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
}
