/** Packets that are larger than their path, cut by the userspace plane. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cutIntoFragments, finishTransport } from '../../../dataplane/userspace/worker/cut.ts'
import { be16, be32, concat, onesSum, pseudoSum } from '../../packets/bytes.ts'
import { ethernet, type IpPacket, ipv4, ipv6, raw } from '../../packets/frame.ts'
import fc from '../../property.ts'

const ETHERNET = 14
const V4 = { src: '198.51.100.7', dst: '192.0.2.100' }
const V6 = { src: '2001:db8:2::1', dst: '2001:db8:2::12' }
const RANDOM = 0xdeadbeef

/** As many bytes, none like its neighbours. */
const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7 + (i >> 8))

function cut(packet: IpPacket, mtu: number): Uint8Array[] {
  const frame = ethernet({}, packet)
  // With bytes behind it, which belong to nobody.
  const memory = new Uint8Array(1 << 18).fill(0xee)
  memory.set(frame, 100)
  const frames: Uint8Array[] = []
  let next = 100 + frame.length + 64
  cutIntoFragments(
    memory,
    100,
    mtu,
    () => RANDOM,
    (size) => {
      next += size
      return next - size
    },
    (at, size) => frames.push(memory.slice(at, at + size)),
  )
  return frames
}

interface Part {
  readonly offset: number
  readonly more: boolean
  readonly id: number
  readonly payload: Uint8Array
}

function partOf(frame: Uint8Array): Part {
  const ip = frame.subarray(ETHERNET)
  if (ip[0]! >> 4 === 4) {
    const header = (ip[0]! & 15) * 4
    const word = be16(ip, 6)
    assert.equal(onesSum(ip.subarray(0, header)), 0xffff, 'the header checksum is right')
    assert.equal(be16(ip, 2), ip.length, 'the length is that of the frame')
    assert.equal(word & 0x4000, 0, 'DF is gone')
    return {
      offset: (word & 0x1fff) * 8,
      more: (word & 0x2000) !== 0,
      id: be16(ip, 4),
      payload: ip.subarray(header),
    }
  }
  assert.equal(ip[6], 44, 'a fragment header comes next')
  assert.equal(be16(ip, 4), ip.length - 40, 'the length is that of the frame')
  const word = be16(ip, 42)
  return { offset: word & ~7, more: (word & 1) !== 0, id: be32(ip, 44), payload: ip.subarray(48) }
}

/** The payload that a receiver makes of them; it starts at `first`. */
function together(frames: readonly Uint8Array[], first = 0, more = false): Uint8Array {
  const parts = frames.map(partOf)
  let at = first
  for (const [i, part] of parts.entries()) {
    assert.equal(part.offset, at, 'each starts where the one before it ends')
    assert.equal(part.more, more || i < parts.length - 1)
    assert.equal(part.id, parts[0]!.id)
    at += part.payload.length
  }
  return concat(...parts.map(({ payload }) => payload))
}

test('fragments fit the path, and are the packet when they are put together', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 60, max: 9000 }),
      fc.integer({ min: 68, max: 1600 }),
      fc.boolean(),
      fc.boolean(),
      (length, mtu, isV6, df) => {
        const payload = raw(17, bytes(length))
        const frames = cut(isV6 ? ipv6(V6, payload) : ipv4({ ...V4, df, id: 77 }, payload), mtu)
        for (const frame of frames) assert.ok(frame.length <= ETHERNET + mtu)
        assert.deepEqual(together(frames), bytes(length))
        assert.equal(partOf(frames[0]!).id, isV6 ? RANDOM : 77)
      },
    ),
  )
})

test('all but the last are of whole units of 8 bytes, and no larger number of them was needed', () => {
  const frames = cut(ipv4(V4, raw(17, bytes(3000))), 1400)
  assert.deepEqual(
    frames.map((frame) => frame.length - ETHERNET - 20),
    [1376, 1376, 248],
  )
})

test('a fragment becomes smaller ones of the same datagram', () => {
  const middle = ipv4({ ...V4, id: 9, mf: true, fragmentOffset: 1480 }, raw(17, bytes(1480)))
  assert.deepEqual(together(cut(middle, 600), 1480, true), bytes(1480))
  const last = ipv4({ ...V4, id: 9, fragmentOffset: 1480 }, raw(17, bytes(999)))
  assert.deepEqual(together(cut(last, 600), 1480), bytes(999))
})

test('a packet without identification gets one', () => {
  const frames = cut(ipv4({ ...V4, id: 0, df: true }, raw(47, bytes(1500))), 1400)
  assert.equal(partOf(frames[0]!).id, RANDOM & 0xffff)
  assert.deepEqual(together(frames), bytes(1500))
})

test('options that only the first fragment has are "no operation" in the others', () => {
  // Record route (7) is the first one's, the router alert (148) everybody's (RFC 791 §3.1, RFC 2113).
  const options = Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0)
  const frames = cut(ipv4({ ...V4, options }, raw(17, bytes(1000))), 500)
  const optionsOf = (frame: Uint8Array) => [...frame.subarray(ETHERNET + 20, ETHERNET + 32)]
  assert.deepEqual(optionsOf(frames[0]!), [...options])
  assert.deepEqual(optionsOf(frames[1]!), [1, 1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0])
  assert.deepEqual(together(frames), bytes(1000))
})

test('options are kept from where one of them is malformed', () => {
  // An option of one byte that says so, and one that is longer than all options.
  for (const malformed of [
    [7, 1],
    [7, 200],
  ]) {
    const options = Uint8Array.of(7, 3, 4, ...malformed, 1, 7, 3)
    const [, second] = cut(ipv4({ ...V4, options }, raw(17, bytes(1000))), 500)
    assert.ok(second)
    assert.deepEqual([...second.subarray(ETHERNET + 20, ETHERNET + 28)], [1, 1, 1, ...malformed, 1, 7, 3])
  }
})

test('a checksum that somebody was to finish is finished before', () => {
  fc.assert(
    fc.property(fc.integer({ min: 20, max: 1501 }), (length) => {
      const segment = bytes(length)
      const pseudo = pseudoSum(Uint8Array.of(198, 51, 100, 7), Uint8Array.of(192, 0, 2, 100), 17, length)
      segment[6] = pseudo >> 8
      segment[7] = pseudo
      finishTransport(segment, 0, length, 6)
      assert.equal(onesSum(segment, pseudo), 0xffff)
    }),
  )
})
