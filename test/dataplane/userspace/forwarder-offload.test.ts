/** Frames that are not finished, or many in one: AF_PACKET hands them on as the kernel has them; AF_XDP knows none. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { before, describe, test } from 'node:test'
import { Verdict } from '../../../dataplane/layout/layout.gen.ts'
import { openSendSocket } from '../../../dataplane/userspace/packet/rings.ts'
import { check, libc } from '../../../linux/libc.ts'
import { ethernet, ipv4, tcp } from '../../packets/frame.ts'
import { C0, CLIENT, fromClient, heard, ROUTER, VIP } from '../two-wires.ts'
import { ForwarderStage, server, service, skip } from './forwarder-stage.ts'

const be16 = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!
const be32 = (bytes: Uint8Array, at: number): number => be16(bytes, at) * 65536 + be16(bytes, at + 2)
const fold = (sum: number): number => (sum > 0xffff ? fold((sum & 0xffff) + (sum >>> 16)) : sum)

function sumOf(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0
  for (let i = from; i < to; i += 2) sum += be16(bytes, i)
  return sum
}

/** 0xffff for an IPv4 header whose checksum is right. */
function headerSum(frame: Uint8Array, ip: number): number {
  return fold(sumOf(frame, ip, ip + 20))
}

/** What a TCP checksum field holds while the checksum is unfinished. */
function pseudoSum(frame: Uint8Array, ip: number, l4: number): number {
  return fold(sumOf(frame, ip + 12, ip + 20) + 6 + be16(frame, ip + 2) - (l4 - ip))
}

/** A TCP segment for several packets of 1400 bytes, behind its virtio header. */
function superPacket(sport: number, dport: number, bytes: number): Uint8Array {
  const payload = new Uint8Array(bytes).map((_, i) => i)
  const segment = tcp({ sport, dport, flags: 'PA' }, payload)
  const frame = ethernet({ src: ROUTER, dst: C0 }, ipv4({ src: CLIENT, dst: VIP }, segment))
  const sum = pseudoSum(frame, 14, 34)
  frame[50] = sum >>> 8
  frame[51] = sum & 0xff
  const vnet = new Uint16Array([1 | (1 << 8), 54, 1400, 34, 16])
  return Buffer.concat([new Uint8Array(vnet.buffer), frame])
}

/** Sends it as a device with segmentation offload would deliver it. */
function sendSuper(packet: Uint8Array): void {
  const fd = openSendSocket(libc.if_nametoindex('wire-c'), false)
  try {
    check(libc.send(fd, packet, packet.length, 0), 'send a super-packet')
  } finally {
    libc.close(fd)
  }
}

describe('a forwarder and the offloads of its interfaces', { skip }, () => {
  const stage = new ForwarderStage('packet')
  before(async () => {
    await stage.add(service(80), server('nat', 8080))
    await stage.add(service(81), server('tunnel', 81))
    for (const [sport, dport] of [
      [1003, 80],
      [1004, 81],
    ] as const) {
      stage.c.send(fromClient(sport, dport, 'S'))
      assert.equal((await heard(stage.r)).length, 1, stage.verdicts())
    }
  })

  test('an unfinished checksum stays unfinished and right', async () => {
    const frame = fromClient(1003, 80, 'S', 'hello')
    const sum = pseudoSum(frame, 14, 34)
    frame[50] = sum >>> 8
    frame[51] = sum & 0xff
    stage.c.sendPartial(frame, 34, 16)
    const [out] = await heard(stage.r)
    assert.ok(out, stage.verdicts())
    // The wire's socket shows it unfinished too: the pseudo header's sum follows the new address.
    assert.equal(be16(out, 50), pseudoSum(out, 14, 34))
  })

  test('a super-packet passes NAT whole, with its checksum unfinished', async () => {
    sendSuper(superPacket(1003, 80, 4000))
    const frames = await heard(stage.r)
    assert.equal(frames.length, 1, stage.verdicts())
    const [frame] = frames
    assert.equal(frame!.length, 54 + 4000)
    assert.equal(be16(frame!, 50), pseudoSum(frame!, 14, 34))
    assert.deepEqual(
      frame!.subarray(54),
      new Uint8Array(4000).map((_, i) => i),
    )
  })

  test('a super-packet larger than a slot of the ring passes too', async () => {
    sendSuper(superPacket(1003, 80, 60_000))
    const [frame] = await heard(stage.r)
    assert.equal(frame?.length, 54 + 60_000, stage.verdicts())
    assert.deepEqual(
      frame!.subarray(54),
      new Uint8Array(60_000).map((_, i) => i),
    )
  })

  test('a super-packet leaves as packets where the way out cannot cut it', async () => {
    const dropped = stage.verdict(Verdict.DropTx)
    const features = (state: string) => {
      for (const name of state === 'off' ? ['tso', 'gso', 'sg', 'tx'] : ['tx', 'sg', 'gso', 'tso'])
        execFileSync('ethtool', ['-K', 'r0', name, state], { stdio: 'ignore' })
    }
    features('off')
    try {
      for (let round = 0; round < 2; round++) {
        sendSuper(superPacket(1003, 80, 4000))
        const frames = await heard(stage.r, 3)
        assert.deepEqual(
          frames.map((frame) => frame.length),
          [54 + 1400, 54 + 1400, 54 + 1200],
          stage.verdicts(),
        )
        for (const frame of frames) {
          // Finished: the device does not do it either.
          const sum = pseudoSum(frame, 14, 34) + sumOf(frame, 34, frame.length)
          assert.equal(fold(sum), 0xffff)
        }
      }
    } finally {
      features('on')
    }
    assert.equal(stage.verdict(Verdict.DropTx), dropped)
  })

  test('a super-packet into a tunnel is cut into packets', async () => {
    sendSuper(superPacket(1004, 81, 4000))
    const frames = await heard(stage.r)
    assert.deepEqual(
      frames.map((frame) => [frame.length, be16(frame, 16), be16(frame, 36), be32(frame, 58), frame[67]]),
      [
        [74 + 1400, 60 + 1400, 40 + 1400, 1000, 0x10],
        [74 + 1400, 60 + 1400, 40 + 1400, 2400, 0x10],
        [74 + 1200, 60 + 1200, 40 + 1200, 3800, 0x18],
      ],
      stage.verdicts(),
    )
    for (const frame of frames) {
      assert.equal(headerSum(frame, 14), 0xffff)
      assert.equal(headerSum(frame, 34), 0xffff)
      assert.equal(be16(frame, 70), pseudoSum(frame, 34, 54))
    }
    const payload = Buffer.concat(frames.map((frame) => frame.subarray(74)))
    assert.deepEqual(
      new Uint8Array(payload),
      new Uint8Array(4000).map((_, i) => i),
    )
  })
})
