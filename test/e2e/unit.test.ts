/** The daemon under exactly what deploy/pointsmand.service gives it: it starts, stops and starts again. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addServer, addService, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { hostNamed } from '../../lab/topology.ts'
import { nothingIsLeft, pinDirectory } from './leftovers.ts'
import { capabilitiesOfUnit, missingFor, PLANES, withDirector } from './scene.ts'

const service: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }

for (const plane of PLANES) {
  test(`${plane}: with the unit's capabilities the daemon starts, stops, starts again, and is killed in between`, {
    skip: missingFor(plane),
  }, () => {
    const options = { dataplane: plane, capabilities: capabilitiesOfUnit() } as const
    return withDirector(
      plane,
      async (lab) => {
        const { director } = lab
        await director.restore([addService(service), addServer(service, hostNamed('rs1'))])
        const { address, port } = virtualEndpoint(service)
        const answers = async () => assert.equal((await lab.client.http({ address, port })).server, 'rs1')
        await answers()
        for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
          const rules = await director.rule('-Sn')
          await director.end(signal)
          await director.start(options)
          assert.equal(await director.rule('-Sn'), rules, `rules after ${signal}`)
          await answers()
        }
        const detached = await director.pointsman(['detach'])
        assert.equal(detached.status, 0, detached.stderr)
        await nothingIsLeft(lab, await pinDirectory(lab))
      },
      options,
    )
  })
}
