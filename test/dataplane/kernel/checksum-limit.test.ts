/** Checksums over all of a long datagram, in the kernel: right as far as the program can sum, and no further. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { ManagedDirector } from '../../../control/apply/open.ts'
import { readVerdicts } from '../../../control/counting/verdicts.ts'
import { fixedHost } from '../../../control/rules/host.ts'
import { KernelDataplane } from '../../../dataplane/kernel/plane.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { possibleCpus } from '../../../linux/cpus.ts'
import { openDirector } from '../../control/opened-director.ts'
import { server, service } from '../../control/support.ts'
import { ethernet, ipv4, udp } from '../../packets/frame.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { ip, skipWithoutPrivileges, until } from '../private-network.ts'
import { C0, CLIENT, heard, layTwoWires, R0, REAL, ROUTER, RS1, VIP } from '../two-wires.ts'

describe('a datagram without a checksum, through NAT in the kernel', { skip: skipWithoutPrivileges }, () => {
  let plane: KernelDataplane
  let managed: ManagedDirector
  let c: PacketSocket
  let r: PacketSocket

  before(async () => {
    layTwoWires()
    for (const name of ['c0', 'wire-c', 'r0', 'wire-r']) ip(`link set ${name} mtu 65535`)
    c = new PacketSocket('wire-c')
    r = new PacketSocket('wire-r')
    plane = await KernelDataplane.open({
      sizes: { ...SMALL_SIZES, cpus: possibleCpus() },
      pinDirectory: null,
      mode: 'generic',
    })
    for (const result of await plane.attach(['c0', 'r0'])) assert.ok('attached' in result, String(result))
    managed = openDirector({ dataplane: plane, host: fixedHost() })
    const { director } = managed
    const dns = service(`udp ${VIP}:53`, { scheduler: 'rr' })
    assert.ok(director.addService(dns).ok)
    assert.ok(director.addServer(dns.id, server(`${REAL}:5353`)).ok)
    await director.settle()
  })
  after(async () => {
    await managed.applier.stop()
    await plane.close()
    c.close()
    r.close()
  })

  const payload = (bytes: number): Uint8Array => new Uint8Array(bytes).map((_, i) => i * 7)
  const send = (sport: number, bytes: number): void => {
    const datagram = udp({ sport, dport: 53, checksum: 0 }, payload(bytes))
    c.send(ethernet({ src: ROUTER, dst: C0 }, ipv4({ src: CLIENT, dst: VIP }, datagram)))
  }

  // It was 0, which says that there is none, above 9,216 bytes; a page is 4,096, a chunk of the sum 32.
  for (const bytes of [100, 9000, 9217, 20_001, 64_900])
    test(`${bytes} bytes arrive with the right one`, async () => {
      send(1000 + (bytes % 1000), bytes)
      const [frame, ...more] = await heard(r)
      assert.deepEqual(more, [])
      assert.deepEqual(
        frame,
        new Uint8Array(
          ethernet(
            { src: R0, dst: RS1 },
            ipv4(
              { src: CLIENT, dst: REAL, ttl: 63 },
              udp({ sport: 1000 + (bytes % 1000), dport: 5353 }, payload(bytes)),
            ),
          ),
        ),
      )
    })

  test('more than can be summed is dropped by that name, not sent with a wrong one', async () => {
    const dropped = (): bigint => readVerdicts(plane).get('drop_checksum_limit') ?? 0n
    assert.equal(dropped(), 0n)
    send(2000, 65_300)
    await until(() => dropped() === 1n, 'it to be dropped')
    assert.deepEqual(await heard(r, 0), [])
  })
})
