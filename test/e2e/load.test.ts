/** Many connections: shares to the digit, and a real server that disappears in the middle. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sleep, until } from '../../lab/command.ts'
import {
  addServer,
  addService,
  allRules,
  type LabService,
  serverWords,
  virtualEndpoint,
} from '../../lab/rules.ts'
import { hostNamed, realServers } from '../../lab/topology.ts'
import { missingFor, PLANES, withDirector } from './scene.ts'

const NAT: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
const REQUESTS = 10_000

for (const plane of PLANES) {
  const skip = missingFor(plane)

  test(`${plane}: 10,000 HTTP requests through NAT and rr: equal shares, none fails`, { skip }, () =>
    withDirector(plane, async (lab) => {
      // No source port is used twice: one connection more or less would shift the sequence.
      await lab.exec('client', ['sh', '-c', 'echo 1024 65000 > /proc/sys/net/ipv4/ip_local_port_range'])
      await lab.director.restore(allRules(NAT))
      const report = await lab.client.load({ ...virtualEndpoint(NAT), requests: REQUESTS, concurrency: 16 })
      assert.deepEqual(report.failures, {})
      const shares = realServers().map(({ name }) => report.answers[name] ?? 0)
      assert.equal(
        shares.reduce((sum, share) => sum + share, 0),
        REQUESTS,
      )
      assert.ok(Math.max(...shares) - Math.min(...shares) <= 1, `shares are ${shares.join(', ')}`)
      assert.deepEqual(report.clients, [hostNamed('client').clients.ipv4])
    }),
  )

  for (const method of ['nat', 'direct-routing', 'tunnel'] as const)
    test(`${plane}: ${method}: removing a real server under load leaves the connections of the others alone`, {
      skip,
    }, () => {
      const service: LabService = { ...NAT, method }
      return withDirector(plane, async (lab) => {
        const { director, client } = lab
        await director.restore([
          addService(service),
          ...realServers().map((server) => addServer(service, server)),
        ])
        for (let i = 0; i < 12; i++) await client.converse({ ...virtualEndpoint(service), intervalMs: 5 })
        await sleep(300)

        const framesBefore = await lab.framesToDirector()
        const verdictsBefore = await director.verdicts()
        await director.rule(`-d ${serverWords(service, hostNamed('rs2'))}`)
        const load = client.load({ ...virtualEndpoint(service), requests: 300, concurrency: 4 })
        await sleep(1500)
        const report = await load
        assert.deepEqual(report.failures, {}, 'new connections find the real servers that are left')
        assert.equal(report.answers.rs2, undefined)

        const conversations = await client.closeConversations()
        const untouched = conversations.filter(({ server }) => server !== 'rs2')
        assert.equal(untouched.length, 8)
        for (const one of untouched) {
          assert.equal(one.failure, null)
          assert.ok(one.slowestMs < 190, `a conversation with ${one.server} waited ${one.slowestMs} ms`)
          assert.ok(one.requests > 100)
        }

        // Every frame that came is in a verdict; those of rs2's connections in that of their own.
        await until('all frames to be in a verdict', 3000, async () => {
          const frames = (await lab.framesToDirector()) - framesBefore
          const verdicts = await director.verdicts()
          const counted = Object.entries(verdicts).map(([name, now]) => now - (verdictsBefore[name] ?? 0n))
          return counted.reduce((sum, packets) => sum + packets, 0n) === frames ? true : undefined
        })
        const gone = (await director.verdicts()).drop_real_server_gone ?? 0n
        assert.ok(gone > 0n, 'packets to the removed real server have a verdict of their own')
      })
    })
}
