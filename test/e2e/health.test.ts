/**
 * Checks over the services' own way: what a client would meet is found, and named, on both planes, under the
 * capabilities of the unit, with the virtual addresses on the director itself.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import type { HealthShown } from '../../control/front/api/schema/health.ts'
import { labPrograms } from '../../lab/built.ts'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { endpoint, FAMILIES, METHODS, realServers, topology } from '../../lab/topology.ts'
import { ALL_PLANES, capabilitiesOfUnit, missingFor, type Plane, withLab } from './scene.ts'

const FOUND_MS = 120_000
const { http, httpBehindNat } = topology.ports

const services = METHODS.flatMap((method) =>
  FAMILIES.map((family) => ({
    ...{ method, family, name: `tcp ${endpoint(topology.virtual[method][family], http)}` },
    servers: realServers()
      .slice(0, 2)
      .map(({ servers }) => endpoint(servers[family], method === 'nat' ? httpBehindNat : http)),
  })),
)

/** Short, and patient with a busy machine. */
const CONFIGURATION = JSON.stringify({
  checks: {
    web: {
      ...{ kind: 'http', url: '/', path: 'service', interval: '200ms', timeout: '1s' },
      ...{ rise: 1, fall: 3, start_jitter: '100ms' },
    },
  },
  services: services.map(({ name, method, servers }) => ({
    tcp: name.replace('tcp ', ''),
    ...{ scheduler: 'rr', checks: ['web'], quorum: 1 },
    real_servers: servers.map((address) => ({ address, method })),
  })),
})

async function health(lab: Lab): Promise<HealthShown> {
  const { status, body } = await lab.director.api('GET', '/v1/health')
  assert.equal(status, 200, body)
  return JSON.parse(body) as HealthShown
}

/** Waits until the first, or second, real server of all these services is in this state; why, by service. */
async function becomes(
  lab: Lab,
  which: 0 | 1,
  state: 'up' | 'down',
  of = services,
): Promise<Map<string, string>> {
  let shown: HealthShown = []
  const servers = () =>
    of.map(({ name, servers: listed }) => {
      const service = shown.find(({ service: one }) => one === name)
      return [name, service?.servers.find(({ server }) => server === listed[which])] as const
    })
  await until(`real server ${which + 1} to be ${state}`, FOUND_MS, async () => {
    shown = await health(lab)
    const all = servers().every(
      ([, one]) => one?.state === state && one.checks.every((check) => check.state === state),
    )
    return all ? true : undefined
  }).catch((error: unknown) => {
    const found = servers().map(
      ([name, one]) => `${name}: ${one?.state} ${one?.why} ${one?.checks[0]?.trouble}`,
    )
    throw new Error(`${String(error)}\n${found.join('\n')}`)
  })
  return new Map(servers().map(([name, one]) => [name, one?.why ?? '']))
}

async function on(lab: Lab, host: string, ...commands: readonly string[]): Promise<void> {
  const { status, stderr } = await lab.exec(host, ['sh', '-e', '-c', commands.join('\n')])
  assert.equal(status, 0, stderr)
}

const device = topology.wires.servers.interface
const virtual = (method: 'direct-routing' | 'tunnel') => topology.virtual[method]
/** What each method's real server does wrong, and the way back. */
const FAULTS = {
  'direct-routing': {
    make: [
      `ip addr del ${virtual('direct-routing').ipv4}/32 dev lo`,
      `ip addr del ${virtual('direct-routing').ipv6}/128 dev lo`,
    ],
    mend: [
      `ip addr add ${virtual('direct-routing').ipv4}/32 dev lo`,
      `ip addr add ${virtual('direct-routing').ipv6}/128 dev lo nodad`,
    ],
  },
  tunnel: {
    make: [`ip link set ${device} xdpdrv off`],
    mend: [`ip link set ${device} xdpdrv object ${labPrograms()} program decap`],
  },
  nat: {
    make: [
      `nft add table inet wall`,
      `nft 'add chain inet wall in { type filter hook input priority 0; }'`,
      `nft add rule inet wall in tcp dport ${httpBehindNat} drop`,
    ],
    mend: ['nft delete table inet wall'],
  },
} as const

async function linksOf(lab: Lab): Promise<string> {
  return (await lab.exec('director', ['sh', '-c', 'ip -br link; ip -6 rule'])).stdout
}

async function scene(plane: Plane, lab: Lab, config: string): Promise<void> {
  const options = { dataplane: plane, config, capabilities: capabilitiesOfUnit() }
  await lab.director.start(options)
  await becomes(lab, 0, 'up')
  await becomes(lab, 1, 'up')
  for (const { servers } of await health(lab)) {
    for (const { checks } of servers)
      assert.deepEqual(
        checks.map(({ path, result }) => [path, result]),
        [['service', 'HTTP 200']],
      )
  }
  // Nobody's connections, and nobody's numbers.
  assert.equal((await lab.director.rule('-Lcn')).trim().split('\n').length, 2)
  assert.doesNotMatch(await lab.director.rule('-Ln --stats'), /:(80|8080) +[1-9]/)

  // Everything that a check of the real server's own address would not find.
  for (const method of METHODS) await on(lab, 'rs1', ...FAULTS[method].make)
  for (const [service, why] of await becomes(lab, 0, 'down')) {
    assert.match(why, /^web: (no answer within 1000 ms|no route to the host|connection reset)/, service)
  }
  await becomes(lab, 1, 'up')
  const listed = await lab.director.rule('-Ln')
  for (const { servers } of services) {
    assert.ok(!listed.includes(servers[0]!), listed)
    assert.ok(listed.includes(servers[1]!), listed)
  }
  for (const { method, family } of services) {
    for (let n = 0; n < 4; n++) {
      const answer = await lab.client.http({ address: topology.virtual[method][family], port: http })
      assert.equal(answer.server, 'rs2')
    }
  }
  for (const method of METHODS) await on(lab, 'rs1', ...FAULTS[method].mend)
  await becomes(lab, 0, 'up')

  // A daemon that dies leaves no link; the next one knows what it knew, and nothing flaps.
  await lab.stopServer('rs2')
  for (const [service, why] of await becomes(lab, 1, 'down')) {
    assert.equal(why, 'web: connection refused: nobody listens on that port', service)
  }
  const before = await health(lab)
  const known = (states: readonly { readonly state: string; readonly sinceMs: number }[]) =>
    states.map(({ state, sinceMs }) => `${state} ${sinceMs}`).sort()
  const wanted = known(
    before.flatMap(({ servers }) =>
      servers.map(({ state, since }) => ({ state, sinceMs: Date.parse(since) })),
    ),
  )
  await until('the daemon to have written down what it knows', FOUND_MS, () => {
    const { servers } = JSON.parse(readFileSync(join(lab.director.runDir, 'health.json'), 'utf8')) as {
      readonly servers: Readonly<Record<string, { readonly state: string; readonly sinceMs: number }>>
    }
    return isDeepStrictEqual(known(Object.values(servers)), wanted) ? true : undefined
  })
  await lab.director.end('SIGKILL')
  await until('the links of the dead daemon to be gone', FOUND_MS, async () =>
    /pm-(probe|check)/.test(await linksOf(lab)) ? undefined : true,
  )
  const answer = await lab.client.http({ address: topology.virtual.nat.ipv4, port: http })
  assert.equal(answer.server, 'rs1')
  await lab.director.start(options)
  const after = await health(lab)
  const facts = (shown: HealthShown) =>
    shown.map(({ service, state, servers }) => [
      service,
      state,
      servers.map((one) => [one.server, one.state, one.since]),
    ])
  assert.deepEqual(facts(after), facts(before))
  await lab.startServer('rs2')
  await becomes(lab, 1, 'up')
  assert.deepEqual(
    (await health(lab)).map(({ servers }) => servers[0]?.since),
    before.map(({ servers }) => servers[0]?.since),
    'the one that was up all the time never was anything else',
  )
  await lab.director.end('SIGTERM')
  await until('the links to be gone', FOUND_MS, async () =>
    /pm-(probe|check)/.test(await linksOf(lab)) ? undefined : true,
  )
}

for (const plane of ALL_PLANES) {
  test(`health (${plane}): faults on the way are found, named, and their end too`, {
    skip: missingFor(plane),
  }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'pointsman-health-'))
    const config = join(folder, 'pointsman.yaml')
    writeFileSync(config, CONFIGURATION)
    try {
      await withLab(async (lab) => {
        try {
          await scene(plane, lab, config)
        } catch (error) {
          if (error instanceof Error) error.stack += `\n--- pointsmand:\n${lab.director.logTail()}`
          throw error
        }
      })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
}
