/** kill -9 while one data plane takes over from the other: the next start goes on with whoever is in force. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { sleep } from '../../lab/command.ts'
import { allRules, virtualEndpoint } from '../../lab/rules.ts'
import { stepsOf } from '../chain.ts'
import { allGoOn, SERVICES } from './conversations.ts'
import { nothingIsLeft, pinDirectory } from './leftovers.ts'
import { missingFor, withDirector } from './scene.ts'
import { seen } from './seen.ts'

const skip = missingFor('xdp') || missingFor('userspace')

/** Moments of a change: what can be seen of it, or milliseconds from its beginning. */
const SEEN = 'pins are there'
const MOMENTS: Readonly<Record<'xdp' | 'userspace', readonly (number | typeof SEEN)[]>> = {
  xdp: [SEEN, 100, 900],
  userspace: [100, 400, 800],
}

for (const to of ['xdp', 'userspace'] as const) {
  const from = to === 'xdp' ? 'userspace' : 'xdp'
  test(
    `kill -9 on the way from ${from} to ${to}: rules stay, conversations go on, nothing is left over`,
    {
      skip,
    },
    (t) =>
      withDirector(from, async (lab) => {
        const step = stepsOf(t)
        const { director } = lab
        const pins = await pinDirectory(lab)
        await director.restore(SERVICES.flatMap((service) => allRules(service)))
        for (const service of SERVICES)
          await lab.client.converse({ ...virtualEndpoint(service), intervalMs: 10 })
        const rules = await director.rule('-Sn')
        for (const next of [from, to] as const) {
          for (const moment of MOMENTS[to]) {
            await step(`${moment}${moment === SEEN ? '' : ' ms'}, then ${next}`, async () => {
              const change = director.pointsman(['dataplane', to])
              if (moment !== SEEN) await sleep(moment)
              else await seen(join(pins, 'program'), change)
              await director.end('SIGKILL')
              await change
              await allGoOn(lab, SERVICES.length, 'kill -9')
              for (const start of ['a start', 'another start']) {
                await director.start({ dataplane: next })
                assert.equal(await director.rule('-Sn'), rules, `rules after ${start}`)
                await allGoOn(lab, SERVICES.length, start)
                await director.end('SIGKILL')
              }
              await director.start({ dataplane: from })
              await allGoOn(lab, SERVICES.length, `the way back to ${from}`)
            })
          }
        }
        await director.end('SIGKILL')
        const detached = await director.pointsman(['detach'])
        assert.equal(detached.status, 0, detached.stderr)
        await nothingIsLeft(lab, pins)
      }),
  )
}
