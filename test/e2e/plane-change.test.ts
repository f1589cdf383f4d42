/** The userspace plane where BPF is denied, and a change of planes under live connections. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { allRules, virtualEndpoint } from '../../lab/rules.ts'
import { allGoOn, SERVICES } from './conversations.ts'
import { missingFor, type Plane, withDirector, withLab } from './scene.ts'
import { readStatistics } from './statistics.ts'

const skip = missingFor('userspace')
/** Connections of which some begin in the moment that is in question. */
const AT_LEAST = 20

interface Status {
  readonly forwarding: boolean
  readonly dataplane: { readonly kind: string; readonly reason: string }
}

async function status(lab: Lab): Promise<Status> {
  const { body } = await lab.director.api('GET', '/v1/status')
  return JSON.parse(body) as Status
}

async function startConversations(lab: Lab): Promise<void> {
  await lab.director.restore(SERVICES.flatMap((service) => allRules(service)))
  for (const service of SERVICES) await lab.client.converse({ ...virtualEndpoint(service), intervalMs: 10 })
}

test('auto lands on the userspace plane where BPF is denied, and says why', { skip }, () =>
  withLab(async (lab) => {
    await lab.director.start({ dataplane: 'auto', withoutBpf: true })
    const { forwarding, dataplane } = await status(lab)
    assert.equal(forwarding, true, lab.director.logTail())
    assert.equal(dataplane.kind, 'userspace')
    assert.match(dataplane.reason, /BPF|bpf|permitted/i)
    for (const service of SERVICES) {
      await lab.director.restore(allRules(service))
      assert.match((await lab.client.http(virtualEndpoint(service))).server, /^rs/)
    }
  }),
)

test('auto takes native XDP in the lab', { skip }, () =>
  withLab(async (lab) => {
    await lab.director.start({ dataplane: 'auto' })
    const { dataplane } = await status(lab)
    assert.equal(dataplane.kind, 'xdp')
    assert.notEqual(dataplane.reason, '')
  }),
)

test('userspace: connections live through a clean stop and start of the daemon', { skip }, () =>
  withDirector('userspace', async (lab) => {
    await startConversations(lab)
    await allGoOn(lab, SERVICES.length, 'the start')
    assert.equal(await lab.director.end('SIGTERM'), 0)
    await lab.director.start({ dataplane: 'userspace' })
    await allGoOn(lab, SERVICES.length, 'the restart')
  }),
)

for (const [from, to] of [
  ['xdp', 'userspace'],
  ['userspace', 'xdp'],
] as const satisfies readonly (readonly [Plane, Plane])[])
  test(`from ${from} to ${to}: rules, connections and counters move along`, { skip }, () =>
    withDirector(from, async (lab) => {
      await startConversations(lab)
      await allGoOn(lab, SERVICES.length, 'the start')
      const rules = await lab.director.rule('-Sn')
      const changed = await lab.director.pointsman(['dataplane', to])
      assert.equal(changed.status, 0, changed.stderr)
      assert.equal((await status(lab)).dataplane.kind, to)
      await allGoOn(lab, SERVICES.length, `the change to ${to}`)
      assert.equal(await lab.director.rule('-Sn'), rules)
      const conns = (await readStatistics(lab)).reduce((sum, service) => sum + service.conns, 0)
      assert.equal(conns, SERVICES.length)
    }),
  )

for (const [from, to] of [
  ['xdp', 'userspace'],
  ['userspace', 'xdp'],
] as const satisfies readonly (readonly [Plane, Plane])[])
  test(
    `a daemon started again with ${to} instead of ${from}: connections that are just being made live`,
    { skip },
    () =>
      withDirector(from, async (lab) => {
        const service = SERVICES[0]!
        await lab.director.restore(allRules(service))
        // Neighbours are known then: without a daemon nobody would ask for them.
        for (let i = 0; i < 6; i++) await lab.client.http(virtualEndpoint(service))
        let restarting = true
        const open = async (): Promise<void> => {
          while (restarting || (await lab.client.conversations()).length < AT_LEAST) {
            await lab.client.converse({ ...virtualEndpoint(service), intervalMs: 50 })
            await new Promise((resolve) => setTimeout(resolve, 5))
          }
        }
        const opening = open()
        await lab.director.end('SIGTERM')
        await lab.director.start({ dataplane: to })
        restarting = false
        await opening
        assert.equal((await status(lab)).dataplane.kind, to)
        const before = await lab.client.conversations()
        await until('every connection to go on', 60_000, async () => {
          const now = await lab.client.conversations()
          assert.deepEqual(
            now.filter(({ failure }) => failure !== null).map(({ failure }) => failure),
            [],
          )
          return now.every((one, i) => one.requests >= (before[i]?.requests ?? 0) + 3) ? true : undefined
        })
      }),
  )
