/** The program in traffic control against wasm: verdicts, bytes and maps (test/differential/twin.ts). */
import assert from 'node:assert/strict'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Verdict } from '../../dataplane/layout/layout.gen.ts'
import { unhex } from '../packets/bytes.ts'
import { isInject, loadVectors } from '../packets/vectors.ts'
import { hunt } from './hunt.ts'
import { Random } from './random.ts'
import { writeRules } from './rules.ts'
import { openStage } from './stage.ts'

const skip = process.getuid?.() === 0 ? false : 'needs root, for BPF and network namespaces'
/** The same each time, as in differential.test.ts. */
const SEED = 20261129
const PACKETS = 40_000

/** What the long hunt has found with other seeds. */
const FOUND: readonly (readonly [string, string])[] = [
  ['a tag that is cut off behind a priority tag', '020000000101020000000102810020008100e0'],
]

test('traffic control and wasm give the same answers, to recorded frames and random ones', {
  skip,
}, async () => {
  const stage = await openStage(`pmdc${process.pid % 100_000}`, 'tc')
  try {
    const { twin } = stage
    const vectors = loadVectors([fileURLToPath(new URL('../recordings/packets', import.meta.url))])
    for (const [index, vector] of vectors.entries()) {
      const random = new Random(index)
      twin.reset(random.word())
      writeRules(twin.wasm, random)
      twin.copyToKernel()
      twin.stopTimeouts()
      for (const { inject } of vector.steps.filter(isInject)) {
        const frame = unhex(inject.frame)
        if (frame.length < 14) continue
        const found = twin.step(frame, frame.length, inject.wire, frame.length)
        assert.equal(found, null, `${vector.name}\n${found?.join('\n')}`)
      }
      const found = twin.compareMaps()
      assert.equal(found, null, `${vector.name}\n${found?.join('\n')}`)
    }
    for (const [what, frame] of FOUND) {
      const bytes = unhex(frame)
      assert.equal(twin.step(bytes, bytes.length, 'c', bytes.length), null, what)
    }
    const folder = mkdtempSync(join(tmpdir(), 'pointsman-differences-'))
    const found = hunt(twin, { packets: PACKETS, seed: SEED, folder })
    assert.equal(
      found,
      null,
      found === null ? '' : [`seed ${found.seed}, ${found.capture}`, ...found.lines].join('\n'),
    )
    const met = new Map(twin.verdicts())
    for (const verdict of [
      Verdict.ForwardNat,
      Verdict.ForwardNatReply,
      Verdict.ForwardDr,
      Verdict.ForwardTun,
    ])
      assert.ok((met.get(verdict) ?? 0) > 100, `verdict ${verdict} was met`)
    assert.ok(twin.cut > 0 && twin.resolved > 0, `${twin.cut} were cut, ${twin.resolved} resolved`)
  } finally {
    await stage.close()
  }
})
