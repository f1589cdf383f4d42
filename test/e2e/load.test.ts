/** Many connections: shares to the digit, and a real server that disappears in the middle. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { allRules, type LabService, serverWords, virtualEndpoint } from '../../lab/rules.ts'
import { hostNamed, METHODS, realServers } from '../../lab/topology.ts'
import { everyFrameHasVerdict, missingFor, PLANES, takeAccount, withDirector } from './scene.ts'

const NAT: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
/** The userspace plane carries a load for longer in the soak. */
const REQUESTS = { xdp: 10_000, userspace: 3000 } as const
const PATIENCE_MS = 60_000

for (const plane of PLANES) {
  const skip = missingFor(plane)

  const requests = REQUESTS[plane]
  test(`${plane}: ${requests} HTTP requests through NAT and rr: equal shares, none fails`, { skip }, () =>
    withDirector(plane, async (lab) => {
      // The lab's client uses no source port twice: one connection more or less would shift the sequence.
      await lab.director.restore(allRules(NAT))
      const report = await lab.client.load({ ...virtualEndpoint(NAT), requests, concurrency: 16 })
      assert.deepEqual(report.failures, {})
      const shares = realServers().map(({ name }) => report.answers[name] ?? 0)
      assert.equal(
        shares.reduce((sum, share) => sum + share, 0),
        requests,
      )
      assert.ok(Math.max(...shares) - Math.min(...shares) <= 1, `shares are ${shares.join(', ')}`)
      assert.deepEqual(report.clients, [hostNamed('client').clients.ipv4])
    }),
  )

  for (const method of METHODS)
    test(
      `${plane}: ${method}: removing a real server under load leaves the others' connections alone`,
      {
        skip,
      },
      () => withDirector(plane, (lab) => removeUnderLoad(lab, { ...NAT, method })),
    )
}

async function removeUnderLoad(lab: Lab, service: LabService): Promise<void> {
  const { director, client } = lab
  const target = virtualEndpoint(service)
  await director.restore(allRules(service))
  const before = await takeAccount(lab)
  for (let i = 0; i < 12; i++) await client.converse({ ...target, intervalMs: 5 })
  /** Waits until each of those with the other real servers has had ten answers more. */
  const othersGoOn = async (why: string): Promise<void> => {
    const before = await client.conversations()
    await until(`the others' conversations to go on ${why}`, PATIENCE_MS, async () =>
      (await client.conversations()).every(
        ({ server, failure, requests }, i) =>
          server === 'rs2' || failure !== null || requests >= before[i]!.requests + 10,
      )
        ? true
        : undefined,
    )
  }
  await othersGoOn('before')
  await director.rule(`-d ${serverWords(service, hostNamed('rs2'))}`)
  const load = client.load({ ...target, requests: 300, concurrency: 4 })
  await othersGoOn('meanwhile')
  const report = await load
  await othersGoOn('afterwards')
  await until('those with the removed one to be dropped', PATIENCE_MS, async () =>
    (await director.verdicts()).drop_real_server_gone === undefined ? undefined : true,
  )
  assert.deepEqual(report.failures, {}, 'new connections find the real servers that are left')
  assert.equal(report.answers.rs2, undefined)

  const conversations = await client.closeConversations()
  const untouched = conversations.filter(({ server }) => server !== 'rs2')
  assert.equal(untouched.length, 8)
  for (const one of untouched) assert.equal(one.failure, null)

  // No packet but those to the removed real server was dropped. The first to each real server may have
  // found no MAC address yet.
  const counted = await everyFrameHasVerdict(lab, before)
  const dropped = Object.keys(counted).filter((name) => name.startsWith('drop_'))
  assert.deepEqual(
    dropped.filter((name) => name !== 'drop_next_hop_unresolved'),
    ['drop_real_server_gone'],
  )
}
