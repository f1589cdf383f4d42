import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { before, describe, test } from 'node:test'
import * as support from '../../control/support.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { ip, sysctl, until } from '../private-network.ts'
import { fromClient, fromServer, heard, R0, REAL, RS1, reachClients, wait } from '../two-wires.ts'
import { ForwarderStage, INTAKES, nft, service, skip } from './forwarder-stage.ts'

for (const intake of INTAKES)
  describe(`interfaces of a forwarder, ${intake} intake`, { skip }, () => {
    const stage = new ForwarderStage(intake)
    before(() => stage.establish(1000))

    test('an interface that is set down and up again goes on', async () => {
      ip('link set c0 down')
      stage.linksChanged()
      stage.r.send(fromServer(1000, 'A'))
      // No route to the client: the kernel tells the real server.
      assert.equal((await heard(stage.r)).length, 1)
      ip('link set c0 up')
      reachClients('c0')
      await stage.reaches(2003)
    })

    test('an interface that frames were only sent out of leaves nothing behind when it vanishes', async () => {
      const descriptors = () => readdirSync('/proc/self/fd').length
      const before = descriptors()
      ip('link add x0 type veth peer name wire-x')
      for (const name of ['x0', 'wire-x']) {
        sysctl(`net/ipv6/conf/${name}/disable_ipv6`, 1)
        ip(`link set ${name} up`)
      }
      ip('route add 10.0.9.0/24 dev x0')
      ip('neigh add 10.0.9.9 lladdr 02:00:00:00:09:09 dev x0')
      const x = new PacketSocket('wire-x')
      const there = service(99)
      await stage.add(there, support.server('10.0.9.9:99'))
      stage.c.send(fromClient(2004, 99, 'S'))
      assert.equal((await heard(x)).length, 1, stage.verdicts())
      x.close()
      assert.ok(descriptors() > before)
      ip('link del x0')
      await until(() => descriptors() <= before, 'the sockets to be closed')
      stage.director.deleteService(there.id)
      await stage.director.settle()
    })

    test('an interface that is renamed is the same interface', async () => {
      ip('link set c0 down')
      ip('link set c0 name wan0')
      ip('link set wan0 up')
      reachClients('wan0')
      await until(
        () => stage.plane.interfaces().some(({ name }) => name === 'wan0'),
        `followed: ${stage.words}`,
      )
      await wait(200)
      const [first] = await stage.attach()
      assert.ok(first !== undefined && 'attached' in first && first.attached.name === 'wan0')
      await stage.reaches(3900)
      assert.deepEqual(await heard(stage.c, 0), [])
      ip('link set wan0 down')
      ip('link set wan0 name c0')
      ip('link set c0 up')
      reachClients('c0')
      await until(
        () => stage.plane.interfaces().some(({ name }) => name === 'c0'),
        `followed: ${stage.words}`,
      )
      await wait(200)
    })

    test('an interface that vanishes does no harm, and is taken again when it returns', async () => {
      stage.r.close()
      ip('link del r0')
      await until(() => stage.plane.interfaces().length === 1, 'r0 is let go')
      stage.c.send(fromClient(4000, 80, 'S'))
      await wait(50)
      ip(`link add r0 address ${R0} type veth peer name wire-r`)
      for (const name of ['r0', 'wire-r']) ip(`link set ${name} up`)
      ip('addr add 10.0.2.1/24 dev r0')
      ip(`neigh replace ${REAL} lladdr ${RS1} dev r0 nud permanent`)
      stage.r = new PacketSocket('wire-r', { vnet: true })
      await until(() => stage.plane.interfaces().length === 2, `r0 is back: ${stage.words}`)
      await stage.reaches(4001)
    })

    test('another interface or name is refused with the reason', async () => {
      const [c0, nope, lo] = await stage.plane.attach(['c0', 'nope', 'lo'])
      assert.ok(c0 !== undefined && 'attached' in c0)
      assert.ok(nope !== undefined && 'refused' in nope && nope.absent)
      assert.match(nope.refused, /No interface "nope"/)
      assert.ok(lo !== undefined && 'refused' in lo && !lo.absent)
      assert.match(lo.refused, /Cannot take packets from lo: it is the loopback interface/)
      assert.deepEqual(
        stage.plane.interfaces().map(({ name }) => name),
        ['c0'],
      )
      await stage.attach()
      assert.equal(stage.plane.interfaces().length, 2)
    })

    test('detach leaves nothing behind', async () => {
      await stage.plane.detach()
      await heard(stage.c, 0)
      assert.equal(nft(), '')
      assert.doesNotMatch(ip('link show'), /pm-/)
      stage.c.send(fromClient(5000, 80, 'S'))
      assert.equal((await heard(stage.c)).length, 1)
      await stage.attach()
      stage.c.send(fromClient(5001, 80, 'S'))
      assert.equal((await heard(stage.r)).length, 1, stage.verdicts())
    })
  })
