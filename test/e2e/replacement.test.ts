/** Rules are replaced near capacity, and beside others who change rules, on a real daemon. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LabDirector } from '../../lab/director.ts'
import { addServer, addService, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { hostNamed } from '../../lab/topology.ts'
import { missingFor, PLANES, withDirector } from './scene.ts'

const SERVICE: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }

interface Status {
  readonly notInForce: readonly unknown[]
  readonly repairs: Readonly<Record<string, number>>
}

async function status(director: LabDirector): Promise<Status> {
  return JSON.parse((await director.api('GET', '/v1/status')).body) as Status
}

/** A restore of ten real servers; the lab's rs1 to rs3 take turns among those that lead nowhere. */
function tenWith(name: 'rs1' | 'rs2' | 'rs3', net: number): string[] {
  const idle = Array.from({ length: 9 }, (_, i) =>
    addServer(SERVICE, hostNamed(name))
      .replace(/-r \S+/, `-r 10.99.${net}.${i + 1}:80`)
      .replace(/-w 1/, '-w 0'),
  )
  return ['-C', addService(SERVICE), addServer(SERVICE, hostNamed(name)), ...idle]
}

for (const plane of PLANES)
  test(
    `${plane}: ten of sixteen real servers are replaced again and again, and packets follow`,
    { skip: missingFor(plane) },
    () =>
      withDirector(
        plane,
        async ({ director, client }) => {
          // Beside it, a service that has nothing to do with it.
          await director.restore(['-A -t 192.0.2.77:443 -s rr', '-a -t 192.0.2.77:443 -r 10.98.0.1:443 -m'])
          for (const [round, name] of (['rs1', 'rs2', 'rs3', 'rs1', 'rs2', 'rs3'] as const).entries()) {
            await director.restore(tenWith(name, round))
            assert.equal((await client.http(virtualEndpoint(SERVICE))).server, name)
            assert.deepEqual((await status(director)).notInForce, [])
          }
          const rules = await director.rule('-Sn')
          assert.equal(await director.end('SIGTERM'), 0)
          await director.start({ dataplane: plane, realServers: 16 })
          assert.equal(await director.rule('-Sn'), rules, 'a restart reverts nothing')
          assert.deepEqual((await status(director)).repairs, {})
        },
        { realServers: 16 },
      ),
  )

test(
  'xdp: what connections hold is refused at once, to nobody but the one who asks',
  { skip: missingFor('xdp') },
  () =>
    withDirector(
      'xdp',
      async ({ director, client }) => {
        await director.restore([
          addService(SERVICE),
          addServer(SERVICE, hostNamed('rs1')),
          addServer(SERVICE, hostNamed('rs2')),
        ])
        await client.converse({ ...virtualEndpoint(SERVICE), intervalMs: 10 })
        await client.converse({ ...virtualEndpoint(SERVICE), intervalMs: 10 })
        // Both places are taken by connections: the kernel's word for that, at once and to the one who asks.
        const replaced = await director.ipvsadm(
          ['-R'],
          ['-C', addService(SERVICE), addServer(SERVICE, hostNamed('rs3')), ''].join('\n'),
        )
        assert.equal(replaced.status, 255)
        assert.match(replaced.stderr, /Memory allocation problem/)
        assert.equal((await director.ipvsadm(['--set', '100', '0', '0'])).status, 0)
        assert.equal((await director.ipvsadm(['-A', '-t', '192.0.2.77:443'])).status, 0)
        assert.deepEqual((await status(director)).notInForce, [])
        assert.equal(await director.end('SIGTERM'), 0)
      },
      { realServers: 2 },
    ),
)

test(
  'xdp: beside a client that changes a timeout, a restore of 2,000 services shows one or the other',
  { skip: missingFor('xdp') },
  () =>
    withDirector('xdp', async ({ director, client }) => {
      const address = (i: number): string => `10.${64 + (i >> 8)}.${i & 255}.1:80`
      const file = (port: number): string =>
        [
          '-C',
          addService(SERVICE),
          addServer(SERVICE, hostNamed('rs1')),
          ...Array.from(
            { length: 2000 },
            (_, i) => `-A -t ${address(i)} -s rr\n-a -t ${address(i)} -r 10.98.0.1:${port} -m`,
          ),
          '',
        ].join('\n')
      assert.equal((await director.ipvsadm(['-R'], file(1))).status, 0)
      const seen = new Set<number>()
      for (let round = 2; round < 4; round++) {
        let over = false
        const restored = director.ipvsadm(['-R'], file(round)).finally(() => {
          over = true
        })
        while (!over) {
          assert.equal((await director.ipvsadm(['--set', '100', '0', '0'])).status, 0)
          assert.equal((await client.http(virtualEndpoint(SERVICE))).server, 'rs1')
          const { services } = JSON.parse((await director.api('GET', '/v1/status')).body) as {
            services: number
          }
          seen.add(services)
        }
        assert.equal((await restored).status, 0)
      }
      assert.deepEqual([...seen], [2001])
    }),
)
