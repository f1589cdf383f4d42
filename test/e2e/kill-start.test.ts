/** kill -9 in the midst of a first start, of attaching, and of detaching: the next one ends what was begun. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sleep } from '../../lab/command.ts'
import { executable } from '../../lab/director.ts'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { stepsOf } from '../chain.ts'
import { nothingIsLeft, pinDirectory } from './leftovers.ts'
import { missingFor, PLANES, withLab } from './scene.ts'

const SERVICE: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
/** From the first module to the first answer. */
const STARTING_MS = [150, 350, 550, 800, 1200]
/** Of the time that one takes that nobody interrupts, on this machine. */
const DETACHING = [0.3, 0.5, 0.7, 0.9]

for (const dataplane of PLANES)
  test(
    `${dataplane}: kill -9 of a first start, or of detach, is made good by the next one`,
    { skip: missingFor(dataplane) },
    (t) =>
      withLab(async (lab) => {
        const step = stepsOf(t)
        const { director } = lab
        const pins = await pinDirectory(lab)
        const serves = async (): Promise<void> => {
          await director.restore(['-C', ...allRules(SERVICE)])
          await lab.client.http(virtualEndpoint(SERVICE))
        }
        let detachingMs = Number.POSITIVE_INFINITY
        const detach = async (): Promise<void> => {
          const began = performance.now()
          const detached = await director.pointsman(['detach'])
          detachingMs = Math.min(detachingMs, performance.now() - began)
          assert.equal(detached.status, 0, detached.stderr)
          await nothingIsLeft(lab, pins)
        }

        await step('a first start', async () => {
          for (const moment of STARTING_MS) {
            const starting = director.start({ dataplane }).catch(() => {})
            await sleep(moment)
            await director.end('SIGKILL')
            await starting
            await director.start({ dataplane })
            await serves()
            await director.end('SIGKILL')
            await detach()
          }
        })

        await step('detach', async () => {
          let interrupted = 0
          for (const share of DETACHING) {
            await director.start({ dataplane })
            await serves()
            await director.end('SIGKILL')
            const killed = await director.command([
              ...['timeout', '--signal=KILL', String((share * detachingMs) / 1000)],
              ...[executable('pointsman'), 'detach'],
            ])
            if (killed.status !== 0) interrupted++
            if (killed.status !== 0 && share > 0.4) {
              await director.start({ dataplane })
              await serves()
              await director.end('SIGKILL')
            }
            await detach()
          }
          assert.ok(interrupted > 0, 'a detach was interrupted')
        })
      }),
  )
