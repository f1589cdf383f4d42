/**
 * Directors whose wire ends in a device on top of an interface, which XDP can neither see nor send to: packets come in by
 * it in traffic control, and leave by it. All that counts as forwarded arrives.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Status } from '../../control/front/api/schema/status.ts'
import type { Lab } from '../../lab/lab.ts'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { type AddressFamily, FAMILIES, METHODS, type Method, topology, WIRES } from '../../lab/topology.ts'
import { countedIn, missingFor, textOf, withLab } from './scene.ts'
import { STACKS, stackOnWire } from './stacking.ts'

const skip = missingFor('xdp')

const FORWARD: Readonly<Record<Method, string>> = {
  nat: 'forward_nat',
  'direct-routing': 'forward_dr',
  tunnel: 'forward_tun',
}
/** One that is late is not sent again: each is counted. */
const LATE_MS = 30_000
/** Datagrams of one case: one for each real server. */
const DATAGRAMS = 3n

async function checkCase(lab: Lab, method: Method, family: AddressFamily): Promise<void> {
  const service = (protocol: 'tcp' | 'udp'): LabService => ({
    ...{ method, protocol, family, serverFamily: family },
  })
  await lab.director.restore([...allRules(service('udp')), ...allRules(service('tcp'))])
  const counts = await countedIn(lab, async () => {
    for (let i = 0n; i < DATAGRAMS; i++) {
      assert.match(
        (await lab.client.udp({ ...virtualEndpoint(service('udp')), timeoutMs: LATE_MS })).server,
        /^rs/,
      )
    }
  })
  const forwarded = Object.fromEntries(Object.entries(counts).filter(([name]) => name.startsWith('forward_')))
  const replies = method === 'nat' ? { forward_nat_reply: DATAGRAMS } : {}
  assert.deepEqual(forwarded, { [FORWARD[method]]: DATAGRAMS, ...replies }, textOf(counts))
  const whole = await countedIn(lab, async () => {
    assert.match((await lab.client.http(virtualEndpoint(service('tcp')))).server, /^rs/)
  })
  for (const each of [counts, whole]) {
    const lost = Object.keys(each).filter((verdict) => /egress|unresolved|^drop/.test(verdict))
    assert.deepEqual(lost, [], textOf(each))
  }
}

for (const kind of STACKS)
  for (const wire of WIRES)
    test(`${kind} on the wire of the ${wire}`, { skip }, (t) =>
      withLab(async (lab) => {
        await stackOnWire(lab, wire, kind)
        await lab.director.start({ dataplane: 'xdp' })
        const { body } = await lab.director.api('GET', '/v1/status')
        const { dataplane } = JSON.parse(body) as Status
        const shown = Object.fromEntries(
          dataplane.interfaces.map(({ name, mode, relayed, note }) => [name, { mode, relayed, note }]),
        )
        const there = shown[topology.wires[wire].interface]
        const other = shown[topology.wires[wire === 'clients' ? 'servers' : 'clients'].interface]
        assert.equal(there?.mode, 'tc')
        assert.match(there?.note ?? '', /packets are taken in traffic control/)
        assert.deepEqual(other, { mode: 'native', relayed: true, note: undefined })
        for (const family of FAMILIES)
          for (const method of METHODS)
            await t.test(`${family} ${method}`, () => checkCase(lab, method, family))
      }),
    )
