/** Datagrams that come in fragments: when they are whole, what they are then, and who gives way. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  type Datagram,
  Datagrams,
  frameBytes,
  type Kept,
} from '../../../dataplane/userspace/worker/datagrams.ts'
import { fragmentAt } from '../../../dataplane/userspace/worker/fragment.ts'
import { be16, ipBytes, onesSum } from '../../packets/bytes.ts'
import { ethernet, fragmentHeader, ipv4, ipv6, padOptions, raw, udp } from '../../packets/frame.ts'
import fc from '../../property.ts'

const V4 = { src: '198.51.100.7', dst: '192.0.2.100' }
const V6 = { src: '2001:db8:c::7', dst: '2001:db8:1::100' }
const AHEAD = 100
/** Of one worker, in blocks of one usual frame. */
const ROOM = 2048

interface Sent {
  readonly id?: number
  readonly tos?: number
  readonly df?: boolean
  readonly src?: string
  readonly dst?: string
}

/** `count` bytes from `from` on of the datagram. */
interface Part {
  readonly from: number
  readonly count: number
  readonly last?: boolean
}

const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7 + (i >> 8))

function segmentOf(family: 4 | 6, payload: number): Uint8Array {
  const { src, dst } = family === 4 ? V4 : V6
  const segment = udp({ sport: 4000, dport: 53 }, bytes(payload))
  return segment.build({ source: ipBytes(src), destination: ipBytes(dst) })
}

function frameOf(family: 4 | 6, segment: Uint8Array, { from, count, last = false }: Part, sent: Sent = {}) {
  const { id = 9, tos = 0, df = false, src, dst } = sent
  const piece = raw(17, segment.subarray(from, from + count))
  if (family === 4) {
    const header = { src: src ?? V4.src, dst: dst ?? V4.dst, id, tos, df, mf: !last, fragmentOffset: from }
    return ethernet({}, ipv4(header, piece))
  }
  const extensions = [padOptions(0), fragmentHeader(id, from, !last)]
  return ethernet({}, ipv6({ src: src ?? V6.src, dst: dst ?? V6.dst, extensions }, piece))
}

class Stage {
  readonly datagrams = new Datagrams()
  readonly gaveWay: Datagram[] = []

  keep(frame: Uint8Array, nowMs = 0, tap = 1): Kept {
    const memory = new Uint8Array(AHEAD + frame.length + 7).fill(0xee)
    memory.set(frame, AHEAD)
    return this.datagrams.keep(memory, AHEAD, frame.length, tap, true, nowMs, (one) => this.gaveWay.push(one))
  }

  /** The frame that these make, of which the last has to complete it. */
  whole(frames: readonly Uint8Array[]): Uint8Array | null {
    const kinds = frames.map((frame) => this.keep(frame))
    const last = kinds.pop()
    assert.ok(kinds.every(({ kind }) => kind === 'kept'))
    assert.ok(last?.kind === 'whole', last?.kind)
    const memory = new Uint8Array(AHEAD + frameBytes(last.datagram) + 7).fill(0xee)
    const length = this.datagrams.putTogether(last.datagram, memory, AHEAD)
    for (const [i, piece] of last.datagram.pieces.entries()) {
      const copy = new Uint8Array(piece.length)
      this.datagrams.copyPiece(piece, copy, 0)
      assert.ok(
        frames.some((frame) => Buffer.compare(frame, copy) === 0),
        `piece ${i} is as it came`,
      )
    }
    this.datagrams.forget(last.datagram)
    assert.equal(this.datagrams.size, 0)
    assert.ok(memory.subarray(AHEAD + length).every((byte) => byte === 0xee))
    return length === 0 ? null : memory.subarray(AHEAD, AHEAD + length)
  }
}

for (const family of [4, 6] as const)
  describe(`IPv${family}`, () => {
    test('fragments in whatever order, of whatever size, make the datagram that was sent', () => {
      const stage = new Stage()
      fc.assert(
        fc.property(
          fc.integer({ min: 16, max: 9000 }),
          fc.array(fc.integer({ min: 1, max: 600 }), { minLength: 1, maxLength: 12 }),
          fc.infiniteStream(fc.nat()),
          (payload, units, order) => {
            const segment = segmentOf(family, payload)
            const frames: Uint8Array[] = []
            for (let from = 0, i = 0; from < segment.length; i++) {
              const most = (units[i % units.length] ?? 1) * 8
              const count = Math.min(most, segment.length - from, from === 0 ? segment.length - 8 : most)
              const even = from + count < segment.length ? count & ~7 : count
              frames.push(
                frameOf(family, segment, { from, count: even, last: from + even === segment.length }),
              )
              from += even
            }
            const ranks = frames.map((frame) => ({ frame, rank: order.next().value as number }))
            const whole = stage.whole(ranks.sort((a, b) => a.rank - b.rank).map(({ frame }) => frame))
            assert.ok(whole)
            const front = family === 4 ? 34 : 14 + 40 + 8
            assert.deepEqual(whole.subarray(front), segment)
            if (family === 4) {
              assert.equal(be16(whole, 16), whole.length - 14)
              assert.equal(be16(whole, 20), 0)
              assert.equal(be16(whole, 18), 9)
              assert.equal(onesSum(whole.subarray(14, 34)), 0xffff)
            } else {
              assert.equal(be16(whole, 18), whole.length - 54)
              assert.deepEqual([whole[20], whole[54]], [0, 17])
            }
          },
        ),
        { numRuns: 60 },
      )
    })

    test('what comes again is no news; what overlaps, or ends elsewhere, spoils the datagram', () => {
      const segment = segmentOf(family, 400)
      const cases: [string, Part, Kept['kind']][] = [
        ['the same', { from: 64, count: 64 }, 'again'],
        ['a part of one', { from: 64, count: 32 }, 'again'],
        ['parts of two neighbours', { from: 96, count: 64 }, 'again'],
        ['the last one once more', { from: 256, count: 64, last: true }, 'again'],
        ['half of it news', { from: 160, count: 64 }, 'spoiled'],
        ['from before into it', { from: 8, count: 64 }, 'spoiled'],
        ['beyond the end', { from: 312, count: 64 }, 'spoiled'],
        ['another end', { from: 192, count: 32, last: true }, 'spoiled'],
        ['an end that is none', { from: 256, count: 72, last: true }, 'spoiled'],
      ]
      for (const [name, part, kind] of cases) {
        const stage = new Stage()
        for (const known of [
          { from: 64, count: 64 },
          { from: 128, count: 64 },
          { from: 256, count: 64, last: true },
        ])
          assert.equal(stage.keep(frameOf(family, segment, known)).kind, 'kept')
        const kept = stage.keep(frameOf(family, segment, part))
        assert.equal(kept.kind, kind, name)
        assert.equal(stage.datagrams.size, kind === 'spoiled' ? 0 : 1, name)
        if (kept.kind === 'spoiled') assert.equal(kept.datagram.pieces.length, 3)
      }
    })

    test('of a datagram that is not whole in time nothing is left', () => {
      const stage = new Stage()
      const segment = segmentOf(family, 400)
      stage.keep(frameOf(family, segment, { from: 0, count: 64 }, { id: 1 }), 1000)
      stage.keep(frameOf(family, segment, { from: 0, count: 64 }, { id: 2 }), 2000)
      stage.keep(frameOf(family, segment, { from: 64, count: 64 }, { id: 1 }), 20_000)
      assert.deepEqual(stage.datagrams.take(30_999), [])
      const [one, ...others] = stage.datagrams.take(31_000)
      assert.equal(one?.pieces.length, 2)
      assert.deepEqual(others, [])
      assert.equal(stage.datagrams.size, 1)
      assert.equal(stage.datagrams.take(0, ({ pieces }) => pieces[0]?.tap === 1).length, 1)
    })

    test('who sends lone fragments makes room out of their own, and others keep theirs', () => {
      const stage = new Stage()
      const segment = segmentOf(family, 400)
      const other = family === 4 ? '198.51.100.8' : '2001:db8:d::8'
      for (let id = 0; id < 100; id++)
        stage.keep(frameOf(family, segment, { from: 0, count: 64 }, { id, src: other }))
      for (let id = 0; id < 3 * ROOM; id++)
        // IPv6 hosts have as many addresses as they like.
        stage.keep(
          frameOf(
            family,
            segment,
            { from: 0, count: 64 },
            {
              id,
              ...(family === 4 ? {} : { src: `2001:db8:c::${(id + 1).toString(16)}` }),
            },
          ),
        )
      assert.equal(stage.gaveWay.length, 2 * ROOM + 100)
      assert.equal(stage.datagrams.size, ROOM)
      const ends = fragmentAt(frameOf(family, segment, { from: 0, count: 64 }, { src: other }), 0, 2000)?.ends
      assert.ok(stage.gaveWay.every((one) => one.ends !== ends))
      for (let id = 0; id < 100; id++) {
        const kept = stage.keep(
          frameOf(family, segment, { from: 64, count: 344, last: true }, { id, src: other }),
        )
        assert.equal(kept.kind, 'whole')
        if (kept.kind === 'whole') stage.datagrams.forget(kept.datagram)
      }
    })

    test('all of the memory comes back, also of frames in several pieces', () => {
      const stage = new Stage()
      const segment = segmentOf(family, 20_000)
      for (let n = 0; n < 3000; n++) {
        stage.keep(frameOf(family, segment, { from: 0, count: 8000 }, { id: n }))
        const kept =
          n % 3 === 0
            ? stage.keep(frameOf(family, segment, { from: 7992, count: 64 }, { id: n }))
            : stage.keep(frameOf(family, segment, { from: 8000, count: 12_008, last: true }, { id: n }))
        assert.equal(kept.kind, n % 3 === 0 ? 'spoiled' : 'whole')
        if (kept.kind === 'spoiled' || kept.kind === 'whole') stage.datagrams.forget(kept.datagram)
      }
      assert.deepEqual(stage.gaveWay, [])
    })
  })

test('marks of congestion are those of the datagram, and none goes with fragments that cannot have any', () => {
  const segment = segmentOf(4, 400)
  const tosOf = (...marks: number[]) => {
    const frames = marks.map((tos, i) =>
      frameOf(
        4,
        segment,
        { from: i * 64, count: i === marks.length - 1 ? 64 : 64, last: i === marks.length - 1 },
        { tos },
      ),
    )
    return new Stage().whole(frames)?.[15]
  }
  assert.equal(tosOf(0xb8, 0xb8), 0xb8)
  assert.equal(tosOf(0xba, 0xbb, 0xba), 0xbb)
  assert.equal(tosOf(0xb8, 0xbb), undefined)
})

test('a datagram whose largest fragment was not to be fragmented is not either', () => {
  const segment = segmentOf(4, 400)
  const flagsOf = (first: boolean, second: boolean) =>
    new Stage().whole([
      frameOf(4, segment, { from: 0, count: 344 }, { df: first }),
      frameOf(4, segment, { from: 344, count: 64, last: true }, { df: second }),
    ])?.[20]
  assert.equal(flagsOf(true, false), 0x40)
  assert.equal(flagsOf(false, true), 0)
})

test('what is no fragment, or ends before its headers say, is not kept', () => {
  const segment = segmentOf(4, 400)
  const stage = new Stage()
  assert.equal(stage.keep(ethernet({}, ipv4(V4, raw(17, segment)))).kind, 'unfit')
  const frame = frameOf(6, segment, { from: 0, count: 64 })
  for (const length of [20, 54, 60, frame.length - 1])
    assert.equal(stage.keep(frame.subarray(0, length)).kind, 'unfit', `${length} bytes`)
  assert.equal(stage.datagrams.size, 0)
})

test('a fragment that others follow has whole units only: IPv4 forgets what is more, IPv6 the fragment', () => {
  const segment = segmentOf(4, 400)
  const whole = new Stage().whole([
    frameOf(4, segment, { from: 0, count: 67 }),
    frameOf(4, segment, { from: 64, count: 344, last: true }),
  ])
  assert.deepEqual(whole?.subarray(34), segment)
  const stage = new Stage()
  assert.equal(stage.keep(frameOf(4, segment, { from: 0, count: 7 })).kind, 'unfit')
  assert.equal(stage.keep(frameOf(6, segmentOf(6, 400), { from: 0, count: 67 })).kind, 'unfit')
  assert.equal(stage.datagrams.size, 0)
})

test('whatever bytes come as fragments, memory stays bounded, and what is whole is as long as it says', () => {
  const two = (): fc.Arbitrary<number> =>
    fc.constantFrom(0, 1, 8, 9, 64, 0x1fff, 0x2000, 0x2001, 0x3fff, 0xfff8, 0xffff)
  const hostile = fc.record({
    family: fc.constantFrom(4, 6),
    word: fc.oneof(two(), fc.nat({ max: 0xffff })),
    says: fc.oneof(two(), fc.nat({ max: 0xffff })),
    first: fc.nat({ max: 255 }),
    length: fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 70_000 })),
    id: fc.nat({ max: 2 }),
    extension: fc.constantFrom(0, 43, 44, 60, 17),
  })
  const memory = new Uint8Array(80_000)
  const to = new Uint8Array(200_000)
  fc.assert(
    fc.property(fc.array(hostile, { minLength: 1, maxLength: 40 }), (frames) => {
      const datagrams = new Datagrams()
      for (const { family, word, says, first, length, id, extension } of frames) {
        memory.fill(0, 0, 200)
        memory[14] = family === 4 ? 0x40 | (first & 15) : 0x60
        const put = (at: number, value: number) => memory.set([value >> 8, value & 255], at)
        if (family === 4) {
          put(16, says)
          put(18, id)
          put(20, word)
        } else {
          put(18, says)
          memory[20] = extension
          memory[54] = 44
          memory[55] = first
          put(56, word)
          put(64, word)
          memory[extension === 44 ? 61 : 69] = id
        }
        const kept = datagrams.keep(memory, 0, length, 0, true, 0, () => {})
        if (kept.kind === 'spoiled') datagrams.forget(kept.datagram)
        if (kept.kind !== 'whole') continue
        const bytes = datagrams.putTogether(kept.datagram, to, 0)
        assert.ok(bytes === 0 || bytes === frameBytes(kept.datagram))
        assert.ok(bytes <= 14 + 40 + 65_535)
        const { pieces } = kept.datagram
        assert.ok(
          pieces.every(({ fragment }, i) => fragment.offset === (i === 0 ? 0 : endOf(pieces[i - 1]!))),
        )
        datagrams.forget(kept.datagram)
      }
    }),
    { numRuns: 300 },
  )
})

function endOf({ fragment }: Datagram['pieces'][number]): number {
  return fragment.offset + fragment.bytes
}
