/** Next hops that nobody has resolved yet, or not any more: the daemon has the kernel ask for them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { topology } from '../../lab/topology.ts'
import { ALL_PLANES, missingFor, withDirector } from './scene.ts'

const FAMILIES = ['ipv4', 'ipv6'] as const
/** Past the first two retransmissions of a SYN (1 s, 3 s). */
const PATIENCE_MS = 6000

for (const plane of ALL_PLANES) {
  for (const family of FAMILIES) {
    const service: LabService = { method: 'nat', protocol: 'tcp', family, serverFamily: family }
    const name = `${plane} ${family}: new NAT connections work again after all neighbours were forgotten`
    test(name, { skip: missingFor(plane) }, () =>
      withDirector(plane, async (lab) => {
        const { director, client } = lab
        await director.restore(allRules(service))
        assert.match((await client.http(virtualEndpoint(service))).server, /^rs/)
        for (const wire of [topology.wires.clients, topology.wires.servers]) {
          const flushed = await lab.exec('director', ['ip', 'neigh', 'flush', 'dev', wire.interface])
          assert.equal(flushed.status, 0, flushed.stderr)
        }
        const started = performance.now()
        for (let i = 0; i < 6; i++) assert.match((await client.http(virtualEndpoint(service))).server, /^rs/)
        const tookMs = Math.round(performance.now() - started)
        assert.ok(tookMs < PATIENCE_MS, `six requests took ${tookMs} ms`)
      }),
    )
  }
}
