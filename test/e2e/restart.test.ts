/** Forwarding does not notice what happens to the daemon or to the rules beside it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { executable } from '../../lab/director.ts'
import type { Lab } from '../../lab/lab.ts'
import { addServer, addService, type LabService, serverWords, virtualEndpoint } from '../../lab/rules.ts'
import { FAMILIES, hostNamed, realServers } from '../../lab/topology.ts'
import { stepsOf } from '../chain.ts'
import { allGoOn, SERVICES } from './conversations.ts'
import { ALL_PLANES, missingFor, withDirector } from './scene.ts'
import { readStatistics } from './statistics.ts'

/** Two per service, so that rr gives one to each real server. */
const CONVERSATIONS = 2 * SERVICES.length

async function startConversations(lab: Lab): Promise<void> {
  await lab.director.restore(
    SERVICES.flatMap((service) => [
      addService(service),
      addServer(service, hostNamed('rs1')),
      addServer(service, hostNamed('rs2')),
    ]),
  )
  for (const service of SERVICES)
    for (let i = 0; i < 2; i++) await lab.client.converse({ ...virtualEndpoint(service), intervalMs: 10 })
}

/** Packets dropped so far, by verdict. Counters carry on over restarts of the daemon. */
async function drops(lab: Lab): Promise<Record<string, bigint>> {
  const all = Object.entries(await lab.director.verdicts())
  return Object.fromEntries(all.filter(([name, packets]) => name.startsWith('drop_') && packets > 0n))
}

/** So that no connection has to wait until the director has found a real server's MAC address. */
async function findNeighbours(lab: Lab): Promise<void> {
  for (const server of realServers())
    for (const family of FAMILIES) {
      const ping = await lab.exec('director', ['ping', '-c', '1', '-w', '20', server.servers[family]])
      assert.equal(ping.status, 0, ping.stdout)
    }
}

for (const dataplane of ALL_PLANES)
  test(
    `${dataplane}: a connection per method lives through kill -9, restart and every change beside it`,
    { skip: missingFor(dataplane) },
    (t) =>
      withDirector(dataplane, async (lab) => {
        const { director } = lab
        const step = stepsOf(t)
        await findNeighbours(lab)
        await startConversations(lab)
        await allGoOn(lab, CONVERSATIONS, 'the start')
        const connections = async (): Promise<number> =>
          (await readStatistics(lab)).reduce((sum, { conns }) => sum + conns, 0)
        const opened = await connections()
        assert.equal(opened, CONVERSATIONS)

        await step('kill -9 of the daemon: connections go on, new ones are made', async () => {
          assert.equal(await director.end('SIGKILL'), 'SIGKILL')
          await allGoOn(lab, CONVERSATIONS, 'kill -9')
          for (const service of SERVICES) {
            const answer = await lab.client.http(virtualEndpoint(service))
            assert.match(answer.server, /^rs[12]$/)
          }
        })

        await step('restart: rules, connections and counters are found again', async () => {
          await director.start({ dataplane })
          await allGoOn(lab, CONVERSATIONS, 'the restart')
          assert.equal(await connections(), opened + SERVICES.length)
          assert.deepEqual(await drops(lab), {})
          const listed = await director.rule('-Lnc')
          for (const one of await lab.client.conversations())
            assert.match(listed, new RegExp(`ESTABLISHED \\S+:${one.localPort} `))
        })

        await step('another real server is added and removed', async () => {
          const rs3 = hostNamed('rs3')
          for (const service of SERVICES) await director.rule(addServer(service, rs3))
          const answers = await Promise.all(
            SERVICES.flatMap((service) => [0, 1, 2].map(() => lab.client.http(virtualEndpoint(service)))),
          )
          assert.ok(answers.some(({ server }) => server === 'rs3'))
          await allGoOn(lab, CONVERSATIONS, 'adding rs3')
          for (const service of SERVICES) await director.rule(`-d ${serverWords(service, rs3)}`)
          await allGoOn(lab, CONVERSATIONS, 'removing rs3')
          const later = await Promise.all(
            SERVICES.map((service) => lab.client.http(virtualEndpoint(service))),
          )
          assert.ok(later.every(({ server }) => server !== 'rs3'))
          assert.deepEqual(await drops(lab), {})
        })

        await step('a clean stop and a start', async () => {
          assert.equal(await director.end('SIGTERM'), 0)
          await allGoOn(lab, CONVERSATIONS, 'a clean stop')
          await director.start({ dataplane })
          await allGoOn(lab, CONVERSATIONS, 'the start after it')
          assert.deepEqual(await drops(lab), {})
        })

        const withoutForwarder = dataplane !== 'userspace' && 'the kernel forwards'
        const killForwarder = async (): Promise<void> => {
          for (let round = 0; round < 3; round++) {
            const forwarder = director.forwarder()
            assert.notEqual(forwarder, null)
            process.kill(forwarder!, 'SIGKILL')
            await allGoOn(lab, CONVERSATIONS, 'kill -9 of the forwarder')
            assert.notEqual(director.forwarder(), forwarder)
          }
        }
        await step('kill -9 of the forwarder, with a daemon', killForwarder, withoutForwarder)

        await step('kill -9 of the daemon while it starts', async () => {
          const rules = await director.rule('-Sn')
          for (const afterMs of [50, 150, 300, 600, 900]) {
            await director.end('SIGKILL')
            const starting = director.start({ dataplane }).catch(() => {})
            await new Promise((resolve) => setTimeout(resolve, afterMs))
            await director.end('SIGKILL')
            await starting
            await allGoOn(lab, CONVERSATIONS, `kill -9 ${afterMs} ms after the start`)
          }
          await director.start({ dataplane })
          await allGoOn(lab, CONVERSATIONS, 'the start after all that')
          assert.equal(await director.rule('-Sn'), rules)
          assert.deepEqual(await drops(lab), {})
        })

        await step('save and restore of the rules', async () => {
          const saved = await director.rule('-Sn')
          const restored = await director.command([executable('ipvsadm-restore')], saved)
          assert.equal(restored.status, 0, restored.stderr)
          assert.equal(await director.rule('-Sn'), saved)
          await allGoOn(lab, CONVERSATIONS, 'the restore')
          assert.deepEqual(await drops(lab), {})
        })

        const end = await lab.client.closeConversations()
        assert.deepEqual(
          end.map(({ failure }) => failure),
          end.map(() => null),
        )
        // Both real servers of every service had one conversation throughout.
        assert.equal(end.filter(({ server }) => server === 'rs1').length, SERVICES.length)
      }),
  )

test(
  'what a killed userspace daemon leaves running goes to the next one, on either plane',
  { skip: missingFor('xdp') || missingFor('userspace') },
  (t) =>
    withDirector('userspace', async (lab) => {
      const step = stepsOf(t)
      const { director } = lab
      const service: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
      const rules = [addService(service), addServer(service, hostNamed('rs1'))]
      const { address, port } = virtualEndpoint(service)
      /** What of a userspace plane stands in the kernel. */
      const left = async (): Promise<string[]> => {
        const listing = async (...argv: string[]) => (await lab.exec('director', argv)).stdout
        return [
          ...((await listing('nft', 'list', 'tables')).includes('netdev pointsman') ? ['nftables'] : []),
          ...((await listing('tc', 'qdisc', 'show')).includes('clsact') ? ['tc'] : []),
          ...((await listing('ip', 'link', 'show')).includes('pm-stack') ? ['veth'] : []),
        ]
      }
      await findNeighbours(lab)
      await director.restore(rules)
      assert.equal((await lab.client.http({ address, port })).server, 'rs1')
      assert.deepEqual(await left(), ['nftables', 'tc', 'veth'])

      for (const dataplane of ['userspace', 'xdp'] as const) {
        await step(`${dataplane} comes after it`, async () => {
          assert.equal(await director.end('SIGKILL'), 'SIGKILL')
          assert.deepEqual(await left(), ['nftables', 'tc', 'veth'])
          // Nobody needs the daemon.
          assert.equal((await lab.client.http({ address, port })).server, 'rs1')
          await director.start({ dataplane })
          assert.equal((await lab.client.http({ address, port })).server, 'rs1')
          assert.deepEqual(await left(), dataplane === 'xdp' ? [] : ['nftables', 'tc', 'veth'])
          await director.rule('-C')
          await director.restore(rules)
          assert.equal((await lab.client.http({ address, port })).server, 'rs1')
          // To a port without a service the host itself answers: refused, not silent.
          await director.rule('-C')
          await assert.rejects(lab.client.http({ address, port }), /ECONNREFUSED/)
          await director.restore(rules)
          if (dataplane === 'xdp') return
          assert.equal((await lab.client.http({ address, port })).server, 'rs1')
        })
      }

      await step('detach without a daemon', async () => {
        await director.end('SIGTERM')
        await director.start({ dataplane: 'userspace' })
        assert.equal(await director.end('SIGKILL'), 'SIGKILL')
        const forwarder = director.forwarder()
        assert.notEqual(forwarder, null)
        process.kill(forwarder!, 'SIGKILL')
        const detached = await director.command([executable('pointsman'), 'detach'])
        assert.equal(detached.status, 0, detached.stderr)
        assert.deepEqual(await left(), [])
        assert.equal(director.forwarder(), null)
        // What was taken off does not come back with the next start.
        await director.start({ dataplane: 'userspace' })
        assert.equal(await director.rule('-Sn'), '')
      })
    }),
)
