/** Full NAT where the real servers' routes lead past the director: on every plane, and with the daemon killed. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Lab } from '../../lab/lab.ts'
import { addService, type LabService, serverWords, virtualEndpoint } from '../../lab/rules.ts'
import { FAMILIES, hostNamed, realServers } from '../../lab/topology.ts'
import { ALL_PLANES, missingFor, withDirector } from './scene.ts'

const PROTOCOLS = ['tcp', 'udp'] as const
const NAT_TABLE = '100'

/** Answers to clients leave by the wire that clients are on, as if there were no director. */
async function leavePast(lab: Lab): Promise<void> {
  for (const { name } of realServers())
    for (const family of FAMILIES) {
      const words = ['ip', family === 'ipv6' ? '-6' : '-4', 'rule', 'del', 'lookup', NAT_TABLE]
      const { status, stderr } = await lab.exec(name, words)
      assert.equal(status, 0, stderr)
    }
}

async function askAll(lab: Lab, service: LabService): Promise<void> {
  const own = hostNamed('director').servers?.[service.family]
  const target = virtualEndpoint(service)
  const answers = []
  for (let i = 0; i < realServers().length; i++)
    answers.push(await (service.protocol === 'tcp' ? lab.client.http(target) : lab.client.udp(target)))
  assert.equal(new Set(answers.map(({ server }) => server)).size, realServers().length)
  for (const answer of answers) {
    assert.equal(answer.client, own, 'the real server sees the director')
    assert.equal(answer.local, hostNamed(answer.server).servers?.[service.family])
  }
}

describe('full NAT', () => {
  for (const plane of ALL_PLANES)
    test(
      `${plane}: clients are answered though the real servers' routes lead elsewhere`,
      {
        skip: missingFor(plane),
      },
      () =>
        withDirector(plane, async (lab) => {
          await leavePast(lab)
          const services = PROTOCOLS.flatMap((protocol) =>
            FAMILIES.map((family) => ({ method: 'nat', protocol, family, serverFamily: family }) as const),
          )
          for (const service of services) {
            await lab.director.rule(addService(service))
            for (const server of realServers())
              await lab.director.rule(`-a ${serverWords(service, server)} --full-nat`)
          }
          const { servers } = hostNamed('director')
          assert.ok(servers !== undefined)
          const added = await lab.director.pointsman(['full-nat', 'add', servers.ipv4, servers.ipv6])
          assert.equal(added.status, 0, added.stderr)
          for (const service of services) await askAll(lab, service)
          for (const service of services.filter(({ protocol }) => protocol === 'tcp')) {
            const down = await lab.client.http({ ...virtualEndpoint(service), pad: 300_000 })
            assert.ok(down.received >= 300_000)
          }
          // What makes no connection is the stack's, from the same addresses.
          const ping = await lab.exec(realServers()[0]!.name, ['ping', '-c', '1', '-w', '20', servers.ipv4])
          assert.equal(ping.status, 0, ping.stdout)

          await lab.director.end('SIGKILL')
          for (const service of services) await askAll(lab, service)
          await lab.director.start({ dataplane: plane })
          const { stdout } = await lab.director.pointsman(['full-nat', 'list', '--json'])
          assert.equal(JSON.parse(stdout).length, 2, 'a new daemon finds them in the maps')
          for (const service of services) await askAll(lab, service)
          const saved = await lab.director.rule('-S -n')
          assert.match(saved, / --full-nat -w 1$/m)
          const listed = await lab.director.rule('-Ln')
          assert.match(listed, / FullNat 1 /)
        }),
    )
})
