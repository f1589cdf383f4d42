import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isPast, SETTLED, succeed, type TableBefore } from '../../../control/compile/untracked.ts'
import { INT_MAX } from '../../../control/model/limits.ts'
import { PM_TICK_SHIFT } from '../../../dataplane/layout/layout.gen.ts'

const ticks = (seconds: number): number => Math.floor((seconds * 1e9) / 2 ** PM_TICK_SHIFT)
const table: TableBefore = { first: 10, slots: 256, servers: 2, how: 1 }

for (const seconds of [900, Math.floor(INT_MAX / 250)])
  for (const nowTicks of [1, 0xffff_fff0])
    test(`lines of a change are looked for as long as they live, at ${seconds} s from tick ${nowTicks}`, () => {
      const longest = ticks(seconds)
      const { settles, lines } = succeed({
        ...{ untracked: true, wasUntracked: true, settling: SETTLED, table, nowTicks, longest },
        mayHaveLines: true,
      })
      const last = (nowTicks + 2 * longest) >>> 0
      assert.deepEqual(
        [isPast(nowTicks, settles), isPast(nowTicks, lines), isPast(last, lines)],
        [false, false, false],
      )
      assert.equal(isPast(last, settles), true)
    })
