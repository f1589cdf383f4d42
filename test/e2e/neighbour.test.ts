/** Next hops that nobody has resolved yet, or not any more: the daemon has the kernel ask for them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { topology } from '../../lab/topology.ts'
import { ALL_PLANES, missingFor, withDirector } from './scene.ts'

const FAMILIES = ['ipv4', 'ipv6'] as const

for (const plane of ALL_PLANES)
  test(`${plane}: after all neighbours were forgotten`, { skip: missingFor(plane) }, (t) =>
    withDirector(plane, async (lab) => {
      const { director, client } = lab
      for (const family of FAMILIES) {
        const service: LabService = { method: 'nat', protocol: 'tcp', family, serverFamily: family }
        const asks = async () => assert.match((await client.http(virtualEndpoint(service))).server, /^rs/)
        await t.test(`${family}: new NAT connections work again`, async () => {
          await director.restore(allRules(service))
          await asks()
          for (const wire of [topology.wires.clients, topology.wires.servers]) {
            const flushed = await lab.exec('director', ['ip', 'neigh', 'flush', 'dev', wire.interface])
            assert.equal(flushed.status, 0, flushed.stderr)
          }
          for (let i = 0; i < 6; i++) await asks()
        })
      }
    }),
  )
