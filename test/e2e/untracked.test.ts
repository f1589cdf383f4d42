/** Just enough tracking with real connections: real servers come, go and are weighed, and so does the daemon. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lab } from '../../lab/lab.ts'
import { addServer, addService, type LabService, serverWords, virtualEndpoint } from '../../lab/rules.ts'
import { realServers } from '../../lab/topology.ts'
import { allGoOn } from './conversations.ts'
import { ALL_PLANES, missingFor, withDirector } from './scene.ts'

const SERVICES: readonly LabService[] = [
  { method: 'direct-routing', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' },
  { method: 'tunnel', protocol: 'tcp', family: 'ipv6', serverFamily: 'ipv6' },
]
/** So many that each real server has some, and each change would move some. */
const CONVERSATIONS = 16
const CHOICE = 'mh -b mh-port,mh-fallback --untracked'

async function talk(lab: Lab): Promise<void> {
  for (const service of SERVICES) {
    for (let n = 0; n < CONVERSATIONS; n++)
      await lab.client.converse({ ...virtualEndpoint(service), intervalMs: 100 })
  }
}

/** Connections that are in the table. */
async function listed(lab: Lab): Promise<number> {
  return (await lab.director.rule('-Lnc')).split('\n').filter((line) => line.startsWith('TCP ')).length
}

for (const plane of ALL_PLANES) {
  test(`${plane}: connections that are not remembered stay where they are`, { skip: missingFor(plane) }, () =>
    withDirector(plane, async (lab) => {
      const { director } = lab
      const [first, second, ...others] = realServers()
      assert.ok(first !== undefined && second !== undefined && others.length > 0)
      await director.restore(
        SERVICES.flatMap((service) => [
          addService(service, CHOICE),
          addServer(service, first),
          addServer(service, second),
        ]),
      )
      await talk(lab)
      const all = SERVICES.length * CONVERSATIONS
      const begun = await allGoOn(lab, all, 'the beginning')
      assert.equal(await listed(lab), 0, 'nothing has changed yet')
      for (const service of SERVICES) await director.rule(addServer(service, others[0]!))
      await director.end('SIGKILL')
      await allGoOn(lab, all, 'a real server more, and kill -9')
      await director.start({ dataplane: plane })
      for (const service of SERVICES) {
        await director.rule(addServer(service, first, 3).replace('-a', '-e'))
        await director.rule(`-d ${serverWords(service, others[0]!)}`)
        await director.rule(addServer(service, second, 0).replace('-a', '-e'))
      }
      await allGoOn(lab, all, 'changes while the first one settles')
      const entered = await listed(lab)
      assert.ok(entered > 0 && entered <= all, `${entered} connections are listed`)
      await talk(lab)
      const ended = await allGoOn(lab, 2 * all, 'new connections')
      for (const [n, { id, server, failure }] of ended.entries()) {
        assert.equal(failure, null)
        if (n < all) assert.deepEqual([id, server], [begun[n]?.id, begun[n]?.server])
        else assert.equal(server, first.name)
      }
    }),
  )
}
