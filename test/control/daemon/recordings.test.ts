/** Recordings of packets: one at a time, and none goes on when nothing will come any more. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Recordings } from '../../../control/daemon/recordings.ts'
import type { CaptureAsked } from '../../../control/front/api/route.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import type { Tape } from '../../../dataplane/recording.ts'
import { StatisticsReader } from '../../../net/packet/pcapng.ts'

const ASKED: CaptureAsked = {
  wanted: { client: null, service: null, verdicts: null, snap: 64, sample: 1 },
  ...{ markService: null, packets: null, bytes: 1 << 20, seconds: 60, words: 'all packets' },
}

/** Memory that is recorded from once it is let. */
class RecordedPlane extends MemoryDataplane {
  readonly asked: ((tape: Tape) => void)[] = []
  over: string | null = null
  tapes = 0

  record(): Promise<Tape> {
    return new Promise((resolve) => this.asked.push(resolve))
  }

  begin(): void {
    this.tapes += 1
    this.asked.shift()?.({
      read: () => {},
      lost: () => 0,
      over: () => this.over,
      close: async () => {
        this.tapes -= 1
      },
    })
  }
}

test('who asks while another recording is being begun is refused, and the first one goes on', async () => {
  const plane = new RecordedPlane()
  const recordings = new Recordings(() => plane)
  const first = recordings.begin(ASKED, () => {})
  await assert.rejects(
    recordings.begin(ASKED, () => {}),
    /somebody does already/,
  )
  plane.begin()
  const stop = (await first).follow(
    () => 0,
    () => {},
  )
  await assert.rejects(
    recordings.begin(ASKED, () => {}),
    /somebody does already/,
  )
  assert.equal(await recordings.end('enough'), true)
  stop()
  assert.equal(plane.tapes, 0)
  assert.equal(await recordings.end('once more'), false)
})

test('one that cannot be begun stands in nobody’s way', async () => {
  const plane = new RecordedPlane()
  let isClosed = true
  plane.map = (name) => {
    if (isClosed) throw new Error('closed')
    return MemoryDataplane.prototype.map.call(plane, name)
  }
  const recordings = new Recordings(() => plane)
  const first = recordings.begin(ASKED, () => {})
  plane.begin()
  await assert.rejects(first, /closed/)
  assert.equal(plane.tapes, 0, 'its tape is closed')
  isClosed = false
  const second = recordings.begin(ASKED, () => {})
  plane.begin()
  await second
  await recordings.end('enough')
  assert.equal(plane.tapes, 0)
})

test('it ends by itself when no more packets will come, and says why', async () => {
  const plane = new RecordedPlane()
  const recordings = new Recordings(() => plane)
  const reader = new StatisticsReader()
  const words = await new Promise<string>((resolve) => {
    const begun = recordings.begin(ASKED, resolve)
    plane.begin()
    void begun.then((capture) => {
      capture.follow(
        (bytes) => {
          reader.push(bytes)
          return 0
        },
        () => {},
      )
      plane.over = 'the forwarder has ended'
    })
  })
  assert.equal(words, '0 packets, 0 lost: the forwarder has ended')
  assert.equal(reader.statistics?.comment, 'the forwarder has ended')
  assert.equal(plane.tapes, 0)
})
