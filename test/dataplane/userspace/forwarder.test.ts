import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Verdict } from '../../../dataplane/layout/layout.gen.ts'
import * as support from '../../control/support.ts'
import { ethernet, ipv4, ipv6, tcp, udp } from '../../packets/frame.ts'
import { until } from '../private-network.ts'
import {
  C0,
  CLIENT,
  CLIENT6,
  fromClient,
  fromServer,
  heard,
  R0,
  REAL,
  REAL6,
  ROUTER,
  RS1,
  VIP,
  VIP6,
} from '../two-wires.ts'
import { ForwarderStage, INTAKES, server, service, skip } from './forwarder-stage.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

for (const intake of INTAKES)
  describe(`a forwarder, ${intake} intake`, { skip }, () => {
    const stage = new ForwarderStage(intake)

    test('NAT: a connection is forwarded both ways, and the kernel sends nothing of its own', async () => {
      await stage.add(service(80), server('nat', 8080))
      stage.c.send(fromClient(1000, 80, 'S'))
      const [syn, ...rest] = await heard(stage.r)
      assert.deepEqual(rest, [])
      assert.ok(syn, stage.verdicts())
      assert.equal(
        hex(syn),
        hex(
          ethernet(
            { src: R0, dst: RS1 },
            ipv4({ src: CLIENT, dst: REAL, ttl: 63 }, tcp({ sport: 1000, dport: 8080, flags: 'S' })),
          ),
        ),
      )
      stage.r.send(fromServer(1000, 'SA'))
      const replies = await heard(stage.c)
      assert.deepEqual(replies.map(hex), [
        hex(
          ethernet(
            { src: C0, dst: ROUTER },
            ipv4({ src: VIP, dst: CLIENT, ttl: 63 }, tcp({ sport: 80, dport: 1000, flags: 'SA' })),
          ),
        ),
      ])
      assert.deepEqual(await heard(stage.r, 0), [])
      assert.equal(stage.verdict(Verdict.ForwardNat), 1n)
      assert.equal(stage.verdict(Verdict.ForwardNatReply), 1n)
    })

    test('what the program passes reaches the stack, although it was taken from it', async () => {
      stage.c.send(fromClient(1001, 80, 'A'))
      const answers = await heard(stage.c)
      assert.equal(answers.length, 1, stage.verdicts())
      // RST from the virtual address, by the kernel.
      assert.equal(answers[0]![14 + 20 + 13], 0x04)
      assert.equal(stage.verdict(Verdict.PassNotFirst), 1n)
    })

    test("a port without service is the kernel's alone: one answer", async () => {
      stage.c.send(fromClient(1002, 81, 'S'))
      assert.equal((await heard(stage.c)).length, 1)
    })

    test('replies that match no connection are forwarded as the kernel would have done', async () => {
      stage.r.send(fromServer(5, 'A'))
      const frames = await heard(stage.c)
      assert.deepEqual(frames.map(hex), [
        hex(
          ethernet(
            { src: C0, dst: ROUTER },
            ipv4({ src: REAL, dst: CLIENT, ttl: 63 }, tcp({ sport: 8080, dport: 5, flags: 'A' })),
          ),
        ),
      ])
    })

    test('the virtual address still answers ping', async () => {
      const echo = Buffer.from('0800f7ff00000000', 'hex')
      const request = ethernet(
        { src: ROUTER, dst: C0 },
        ipv4({ src: CLIENT, dst: VIP }, { protocol: 1, build: () => echo }),
      )
      stage.c.send(request)
      assert.equal((await heard(stage.c)).length, 1)
    })

    test('IPv6: NAT both ways, and the kernel answers what belongs to it', async () => {
      await stage.add(
        support.service(`tcp [${VIP6}]:80`, { scheduler: 'rr' }),
        support.server(`[${REAL6}]:8080`),
      )
      const to = (sport: number, dport: number, flags: string) =>
        ethernet({ src: ROUTER, dst: C0 }, ipv6({ src: CLIENT6, dst: VIP6 }, tcp({ sport, dport, flags })))
      stage.c.send(to(1000, 80, 'S'))
      assert.deepEqual((await heard(stage.r, 1, 6)).map(hex), [
        hex(
          ethernet(
            { src: R0, dst: RS1 },
            ipv6({ src: CLIENT6, dst: REAL6, hopLimit: 63 }, tcp({ sport: 1000, dport: 8080, flags: 'S' })),
          ),
        ),
      ])
      stage.r.send(
        ethernet(
          { src: RS1, dst: R0 },
          ipv6({ src: REAL6, dst: CLIENT6 }, tcp({ sport: 8080, dport: 1000, flags: 'SA' })),
        ),
      )
      assert.deepEqual((await heard(stage.c, 1, 6)).map(hex), [
        hex(
          ethernet(
            { src: C0, dst: ROUTER },
            ipv6({ src: VIP6, dst: CLIENT6, hopLimit: 63 }, tcp({ sport: 80, dport: 1000, flags: 'SA' })),
          ),
        ),
      ])
      // No connection: the stack resets.
      stage.c.send(to(1001, 80, 'A'))
      assert.equal((await heard(stage.c, 1, 6)).length, 1, stage.verdicts())
      // A reply without connection: the kernel forwards.
      stage.r.send(
        ethernet(
          { src: RS1, dst: R0 },
          ipv6({ src: REAL6, dst: CLIENT6 }, tcp({ sport: 8080, dport: 5, flags: 'A' })),
        ),
      )
      const [passed] = await heard(stage.c, 1, 6)
      assert.equal(passed?.[21], 63, stage.verdicts())
    })

    test('VLAN packets and fragments stay with the kernel', async () => {
      const before = stage.verdict(Verdict.PassVlan)
      stage.c.send(
        ethernet(
          { src: ROUTER, dst: C0, vlan: [{ id: 7 }] },
          ipv4({ src: CLIENT, dst: VIP }, tcp({ sport: 1, dport: 80, flags: 'S' })),
        ),
      )
      assert.deepEqual(await heard(stage.r, 0), [])
      // The program that steers frames to AF_XDP leaves them to the stack at once.
      assert.equal(stage.verdict(Verdict.PassVlan), intake === 'packet' ? before + 1n : before)
    })

    test('direct routing changes addresses of the frame only, and UDP works', async () => {
      await stage.add(service(53, 'udp'), server('direct-routing', 53))
      stage.c.send(
        ethernet({ src: ROUTER, dst: C0 }, ipv4({ src: CLIENT, dst: VIP }, udp({ sport: 9, dport: 53 }))),
      )
      const frames = await heard(stage.r)
      assert.deepEqual(frames.map(hex), [
        hex(
          ethernet(
            { src: R0, dst: RS1 },
            ipv4({ src: CLIENT, dst: VIP, ttl: 63 }, udp({ sport: 9, dport: 53 })),
          ),
        ),
      ])
    })

    test('a tunnel puts its header in front, in place', async () => {
      await stage.add(service(81), server('tunnel', 81))
      stage.c.send(fromClient(1004, 81, 'S'))
      const [frame] = await heard(stage.r)
      assert.ok(frame, stage.verdicts())
      const inner = ipv4({ src: CLIENT, dst: VIP, ttl: 63 }, tcp({ sport: 1004, dport: 81, flags: 'S' }))
      assert.equal(hex(frame.subarray(14 + 20)), hex(inner.bytes))
      assert.equal(frame[14 + 9], 4)
    })

    test('a full ring loses frames, and they are counted', async () => {
      await stage.plane.hold()
      const frame = fromClient(2000, 80, 'A')
      for (let i = 0; i < 3000; i++) stage.c.send(frame)
      await stage.plane.resume()
      await until(() => stage.verdict(Verdict.DropRing) >= 100n, 'drops are counted')
      await heard(stage.c)
    })

    test('frames wait in the ring while the plane is held', async () => {
      await stage.plane.hold()
      stage.c.send(fromClient(2001, 80, 'S'))
      assert.deepEqual(await heard(stage.r, 0), [])
      // Nobody is in the middle of a packet, and each worker says so.
      await stage.plane.quiesce()
      await stage.plane.resume()
      assert.equal((await heard(stage.r)).length, 1)
    })
  })
