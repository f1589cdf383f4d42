/** Directors that forward nothing for others, as the guides for direct routing have them: IPVS needs no more. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { ALL_PLANES, missingFor, withDirector } from './scene.ts'

const OFF = ['net.ipv4.ip_forward=0', 'net.ipv6.conf.all.forwarding=0']

for (const plane of ALL_PLANES) {
  test(
    `${plane}: real servers of direct routing and tunnels are reached with forwarding off`,
    {
      skip: missingFor(plane),
    },
    () =>
      withDirector(plane, async (lab) => {
        const { director, client } = lab
        const set = await lab.exec('director', ['sysctl', '-w', ...OFF])
        assert.equal(set.status, 0, set.stderr)
        for (const method of ['direct-routing', 'tunnel'] as const) {
          for (const family of ['ipv4', 'ipv6'] as const) {
            const service: LabService = { method, protocol: 'tcp', family, serverFamily: family }
            await director.restore(allRules(service))
            for (let i = 0; i < 6; i++) {
              assert.match((await client.http(virtualEndpoint(service))).server, /^rs/, `${method} ${family}`)
            }
          }
        }
      }),
  )
}
