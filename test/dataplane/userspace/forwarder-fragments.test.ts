/** Fragments: those of virtual services are the program's, all others reach the stack, once and whole. */
import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { before, describe, test } from 'node:test'
import { Verdict } from '../../../dataplane/layout/layout.gen.ts'
import * as support from '../../control/support.ts'
import { ipBytes } from '../../packets/bytes.ts'
import { ethernet, fragmentHeader, ipv4, ipv6, raw, udp } from '../../packets/frame.ts'
import {
  C0,
  CLIENT,
  CLIENT6,
  heard,
  R0,
  REAL,
  REAL6,
  ROUTER,
  RS1,
  SOURCE,
  VIP,
  VIP6,
  wait,
} from '../two-wires.ts'
import { ForwarderStage, INTAKES, skip } from './forwarder-stage.ts'

const TEXT = 'a datagram in two pieces, the second of them the shorter one: '.repeat(20)
const SIZE = 800

interface Ends {
  readonly src: string
  readonly dst: string
  readonly sport: number
  readonly dport: number
}

/** A UDP datagram in two frames for the director. */
function inTwo(wire: 'c' | 'r', { src, dst, sport, dport }: Ends, id: number): Uint8Array[] {
  const macs = wire === 'c' ? { src: ROUTER, dst: C0 } : { src: RS1, dst: R0 }
  const segment = udp({ sport, dport }, TEXT)
  const bytes = segment.build({ source: ipBytes(src), destination: ipBytes(dst) })
  return [0, SIZE].map((offset) => {
    const more = offset === 0
    const piece = raw(segment.protocol, bytes.subarray(offset, more ? SIZE : undefined))
    const packet = src.includes(':')
      ? ipv6({ src, dst, extensions: [fragmentHeader(id, offset, more)] }, piece)
      : ipv4({ src, dst, id, mf: more, fragmentOffset: offset }, piece)
    return ethernet(macs, packet)
  })
}

async function bound(address: string, port: number): Promise<{ socket: Socket; texts: string[] }> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  const texts: string[] = []
  socket.on('message', (text) => texts.push(String(text)))
  socket.bind(port, address)
  await once(socket, 'listening')
  return { socket, texts }
}

const FAMILIES = [
  { family: 4, client: CLIENT, vip: VIP, real: REAL, own: SOURCE, at: `${VIP}:53`, to: `${REAL}:5353` },
  {
    ...{ family: 6 as const, client: CLIENT6, vip: VIP6, real: REAL6, own: '2001:db8:2::1' },
    ...{ at: `[${VIP6}]:53`, to: `[${REAL6}]:5353` },
  },
] as const

for (const intake of INTAKES)
  describe(`fragments and a forwarder, ${intake} intake`, { skip }, () => {
    const stage = new ForwarderStage(intake)
    let id = 100
    before(async () => {
      for (const { at, to } of FAMILIES)
        await stage.add(
          support.service(`udp ${at}`, { scheduler: 'rr' }),
          support.server(to, { method: 'nat' }),
        )
    })

    for (const { family, client, vip, real, own } of FAMILIES) {
      test(`IPv${family}: there and back through NAT, and the stack has no part in it`, async () => {
        for (const frame of inTwo('c', { src: client, dst: vip, sport: 4000, dport: 53 }, ++id))
          stage.c.send(frame)
        assert.equal((await heard(stage.r, 2, family)).length, 2, stage.verdicts())
        for (const frame of inTwo('r', { src: real, dst: client, sport: 5353, dport: 4000 }, ++id))
          stage.r.send(frame)
        assert.equal((await heard(stage.c, 2, family)).length, 2, stage.verdicts())
        assert.deepEqual(await heard(stage.r, 0, family), [])
      })

      test(`IPv${family}: a fragment that comes before its first waits for it, there and back`, async () => {
        const asked = inTwo('c', { src: client, dst: vip, sport: 4002, dport: 53 }, ++id)
        for (const frame of asked.toReversed()) stage.c.send(frame)
        assert.equal((await heard(stage.r, 2, family)).length, 2, stage.verdicts())
        const answered = inTwo('r', { src: real, dst: client, sport: 5353, dport: 4002 }, ++id)
        for (const frame of answered.toReversed()) {
          stage.r.send(frame)
          await stage.plane.quiesce()
        }
        assert.equal((await heard(stage.c, 2, family)).length, 2, stage.verdicts())
        assert.deepEqual(await heard(stage.r, 0, family), [])
      })

      test(`IPv${family}: nothing is decided, and nothing leaves, before the last of a datagram is there`, async () => {
        const connections = () => [...stage.director.connections()].length
        const before = connections()
        const asked = inTwo('c', { src: client, dst: vip, sport: 4003, dport: 53 }, ++id)
        stage.c.send(asked[0]!)
        assert.deepEqual(await heard(stage.r, 0, family), [])
        assert.equal(connections(), before)
        stage.c.send(asked[1]!)
        assert.equal((await heard(stage.r, 2, family)).length, 2, stage.verdicts())
        assert.equal(connections(), before + 1)
      })

      test(`IPv${family}: what never becomes whole goes by name`, async () => {
        const before = stage.verdict(Verdict.DropFragmentIncomplete)
        const sent = inTwo('c', { src: client, dst: vip, sport: 4004, dport: 53 }, ++id)
        stage.c.send(sent[0]!)
        assert.deepEqual(await heard(stage.r, 0, family), [])
        await stage.plane.detach()
        await stage.attach()
        assert.equal(stage.verdict(Verdict.DropFragmentIncomplete) - before, 1n)
        // The rest of it is lone by now.
        stage.c.send(sent[1]!)
        assert.deepEqual(await heard(stage.r, 0, family), [])
        await stage.plane.detach()
        await stage.attach()
        assert.equal(stage.verdict(Verdict.DropFragmentIncomplete) - before, 2n)
      })

      test(`IPv${family}: what the director itself is asked at a virtual address it hears, once each`, async () => {
        const { socket, texts } = await bound(vip, 5300)
        for (const frame of inTwo('c', { src: client, dst: vip, sport: 4001, dport: 5300 }, ++id))
          stage.c.send(frame)
        const whole = inTwo('c', { src: client, dst: vip, sport: 4001, dport: 5300 }, ++id)
        // The other way round: what comes early waits with us.
        for (const frame of whole.toReversed()) stage.c.send(frame)
        for (let n = 0; texts.length < 2 && n < 100; n++) await wait(20)
        await wait(60)
        socket.close()
        assert.deepEqual(texts, [TEXT, TEXT], stage.verdicts())
      })

      test(`IPv${family}: a real server's answer to the director itself is the director's, once`, async () => {
        const { socket, texts } = await bound(own, 5301)
        for (const frame of inTwo('r', { src: real, dst: own, sport: 5353, dport: 5301 }, ++id))
          stage.r.send(frame)
        for (let n = 0; texts.length < 1 && n < 100; n++) await wait(20)
        await wait(60)
        socket.close()
        assert.deepEqual(texts, [TEXT], stage.verdicts())
      })
    }
  })
