/**
 * A director that runs a site from one file, by a client's packets: the last real server dies, the sorry
 * server serves, hooks are told; the daemon is started again with a file that is wrong by then, and knows all
 * the same when a real server is back; a drain ends by itself.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { EventShown } from '../../control/front/api/schema/event.ts'
import type { Status } from '../../control/front/api/schema/status.ts'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { endpoint, realServers, topology } from '../../lab/topology.ts'
import { capabilitiesOfUnit, missingFor, withLab } from './scene.ts'

const PATIENCE_MS = 120_000
const { http, httpBehindNat } = topology.ports
const address = topology.virtual.nat.ipv4
const SERVICE = `tcp ${endpoint(address, http)}`
const [one, two, sorry] = realServers().map(({ servers }) => endpoint(servers.ipv4, httpBehindNat)) as [
  string,
  string,
  string,
]

function configuration(folder: string): string {
  const hook = (word: string) => ['/bin/sh', '-c', `echo "${word} $POINTSMAN_STATE" >>${folder}/hooks`]
  return JSON.stringify({
    services: [
      {
        tcp: endpoint(address, http),
        scheduler: 'rr',
        checks: [
          {
            ...{ kind: 'tcp', path: 'service', interval: '200ms', timeout: '10s' },
            ...{ rise: 1, fall: 2, start_jitter: '100ms' },
          },
        ],
        on_quorum_up: hook('quorum'),
        on_quorum_down: hook('quorum'),
        sorry_server: { address: sorry, method: 'nat' },
        real_servers: [one, two].map((server) => ({ address: server, method: 'nat' })),
      },
    ],
  })
}

/** Who answers the client, of the next few connections. */
async function served(lab: Lab): Promise<string[]> {
  const names = new Set<string>()
  for (let n = 0; n < 4; n++) names.add((await lab.client.http({ address, port: http })).server)
  return [...names].sort()
}

async function serves(lab: Lab, ...names: readonly string[]): Promise<void> {
  let found: readonly string[] = []
  await until(`${names.join(' and ')} to serve`, PATIENCE_MS, async () => {
    found = await served(lab).catch((error: unknown) => [String(error)])
    return found.join() === names.join() ? true : undefined
  }).catch((error: unknown) => {
    throw new Error(`${String(error)}, found ${found.join()}`)
  })
}

async function scene(lab: Lab, folder: string): Promise<void> {
  const config = join(folder, 'pointsman.yaml')
  const hooks = (): string[] => readFileSync(join(folder, 'hooks'), 'utf8').trim().split('\n')
  writeFileSync(config, configuration(folder))
  const options = { dataplane: 'xdp', config, capabilities: capabilitiesOfUnit() } as const
  await lab.director.start(options)
  await serves(lab, 'rs1', 'rs2')

  // A drain ends by itself, over whatever happens in between.
  const drained = await lab.director.pointsman(['drain', SERVICE.replace(' ', '/'), one, '--for', '8s'])
  assert.equal(drained.status, 0, drained.stderr)
  await serves(lab, 'rs2')
  await serves(lab, 'rs1', 'rs2')

  await lab.stopServer('rs1')
  await serves(lab, 'rs2')
  await lab.stopServer('rs2')
  await serves(lab, 'rs3')
  await until('the hook to have run', PATIENCE_MS, () => (hooks().includes('quorum down') ? true : undefined))

  // The next daemon finds the file half-written; what it knows is what was in force.
  await lab.director.end('SIGTERM')
  assert.deepEqual(await served(lab), ['rs3'], 'packets need no daemon')
  writeFileSync(config, configuration(folder).slice(0, -20))
  await lab.director.start(options)
  const status = JSON.parse((await lab.director.api('GET', '/v1/status')).body) as Status
  assert.deepEqual(
    status.sources.map(({ goesOn }) => goesOn),
    ['last good'],
  )
  assert.deepEqual(await served(lab), ['rs3'])
  await lab.startServer('rs1')
  await serves(lab, 'rs1')
  await until('the hook to have run', PATIENCE_MS, () => (hooks().at(-1) === 'quorum up' ? true : undefined))
  assert.doesNotMatch(await lab.director.rule('-Ln'), new RegExp(sorry.replaceAll('.', '\\.')))

  writeFileSync(config, configuration(folder))
  const applied = await lab.director.pointsman(['apply'])
  assert.equal(applied.status, 0, applied.stderr)
  await lab.startServer('rs2')
  await serves(lab, 'rs1', 'rs2')

  const links = async () => (await lab.exec('director', ['ip', '-br', 'link'])).stdout
  assert.match(await links(), /pm-check/)
  const kept = JSON.parse((await lab.director.api('GET', '/v1/events/kept?kind=health')).body) as EventShown[]
  const turns = kept.filter(({ about, service }) => about === 'service' && service === SERVICE)
  assert.deepEqual(
    turns.map(({ state }) => state),
    ['down', 'up'],
  )

  // Without checks, nothing is left of them.
  writeFileSync(config, JSON.stringify({ services: [] }))
  assert.equal((await lab.director.pointsman(['apply'])).status, 0)
  await until('the links of checks to be gone', PATIENCE_MS, async () =>
    /pm-(probe|check)/.test(await links()) ? undefined : true,
  )
  writeFileSync(config, configuration(folder))
  assert.equal((await lab.director.pointsman(['apply'])).status, 0)
  await lab.stopServer('rs1')
  await serves(lab, 'rs2')
}

test('one file, a sorry server, hooks, a drain, and a start with the file broken', {
  skip: missingFor('xdp'),
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-site-'))
  try {
    await withLab((lab) =>
      scene(lab, folder).catch((error: unknown) => {
        if (error instanceof Error) error.stack += `\n--- pointsmand:\n${lab.director.logTail()}`
        throw error
      }),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})
