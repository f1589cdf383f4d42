import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { readCapture } from '../../control/insight/explain/capture.ts'
import {
  interfaceBlock,
  packetBlock,
  StatisticsReader,
  sectionBlock,
  statisticsBlock,
} from '../../net/packet/pcapng.ts'

const blocks = [
  sectionBlock('a test', 'of odd lengths'),
  interfaceBlock('eth0', 64),
  ...[14, 15, 17, 64].map((length, i) =>
    packetBlock({
      ...{
        at: 0,
        timeNs: 1_700_000_000_123_456_789n,
        direction: 'in',
        packet: BigInt(i),
        length: length + i,
      },
      ...{ bytes: new Uint8Array(length).fill(i + 1), comment: 'x'.repeat(i) },
    }),
  ),
  statisticsBlock({ at: 0, timeNs: 1n, received: 4, lost: 2, comment: 'enough' }),
]

test('what is written is read again, whatever its length', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-pcapng-'))
  try {
    const path = join(folder, 'written.pcapng')
    writeFileSync(path, Buffer.concat(blocks))
    const frames = Array.from(readCapture(path), ({ bytes, length }) => [bytes.length, bytes[13], length])
    assert.deepEqual(frames, [
      [14, 1, 14],
      [15, 2, 16],
      [17, 3, 19],
      [64, 4, 67],
    ])
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('statistics are found in a capture that comes in any pieces', () => {
  const bytes = Buffer.concat(blocks)
  for (const size of [1, 7, 4096]) {
    const reader = new StatisticsReader()
    for (let at = 0; at < bytes.length; at += size) reader.push(bytes.subarray(at, at + size))
    assert.deepEqual(reader.statistics, { received: 4, lost: 2, comment: 'enough' })
  }
})
