/** What packets may still be reading is not used again before the plane says that they are through. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Quiet } from '../../../control/apply/quiet.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { membersOf } from '../map-reader.ts'
import { openDirector } from '../opened-director.ts'
import { HandClock, server, service, testHost } from '../support.ts'

/** A plane whose packets are as slow as the test wants. */
class BusyDataplane extends MemoryDataplane {
  readonly #waiting: { resolve(): void; reject(error: Error): void }[] = []

  quiesce(): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  get asked(): number {
    return this.#waiting.length
  }

  /** Everybody who asked until now gets an answer. */
  async answer(error?: Error): Promise<void> {
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (error === undefined) resolve()
      else reject(error)
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** No two moments are one. */
class FineClock extends HandClock {
  #asked = 0

  override nowMs(): number {
    return super.nowMs() + ++this.#asked / 1e6
  }
}

describe('moments before which no packet had begun', () => {
  test('lie where the question began, and only what was asked for later is asked again', async () => {
    const plane = new BusyDataplane()
    const clock = new HandClock(10)
    const quiet = new Quiet(plane, clock, assert.fail)
    assert.equal(quiet.ms, Number.NEGATIVE_INFINITY)
    quiet.await()
    clock.advance(5)
    quiet.await()
    quiet.await()
    assert.equal(plane.asked, 1)
    await plane.answer()
    assert.equal(quiet.ms, 10)
    assert.equal(plane.asked, 1, 'a second round for what came during the first')
    await plane.answer()
    assert.equal(quiet.ms, 15)
    assert.equal(plane.asked, 0)
  })

  test('do not come while the plane cannot say, and it is asked again', async () => {
    const plane = new BusyDataplane()
    const clock = new HandClock()
    const warnings: string[] = []
    const quiet = new Quiet(plane, clock, (message) => warnings.push(message))
    quiet.await()
    for (let n = 0; n < 3; n++) {
      await plane.answer(new Error('Nobody answers'))
      assert.equal(quiet.ms, Number.NEGATIVE_INFINITY)
      clock.advance(500)
      await new Promise((resolve) => setImmediate(resolve))
    }
    assert.equal(warnings.length, 1)
    await plane.answer()
    assert.ok(quiet.ms >= 1500)
  })

  test('are always past on a plane without packets', () => {
    assert.equal(new Quiet(new MemoryDataplane(), new HandClock(), assert.fail).ms, Number.POSITIVE_INFINITY)
  })
})

describe('a plane whose packets take their time', () => {
  const web = service('tcp 10.0.0.1:80', { scheduler: 'rr' })

  async function open(plane: BusyDataplane) {
    const { director } = openDirector({ dataplane: plane, host: testHost() })
    await plane.answer()
    director.addService(web)
    director.addServer(web.id, server('10.1.0.1:80'))
    await director.settle()
    return director
  }

  test('the second change of a service waits until packets have left what the first put aside', async () => {
    const plane = new BusyDataplane()
    const director = await open(plane)
    assert.deepEqual(membersOf(plane, web), ['10.1.0.1 80'])
    director.addServer(web.id, server('10.1.0.2:80'))
    const settled = director.settle()
    await new Promise((resolve) => setTimeout(resolve, 150))
    assert.deepEqual(membersOf(plane, web), ['10.1.0.1 80'], 'no time is long enough')
    await plane.answer()
    await settled
    assert.deepEqual(membersOf(plane, web), ['10.1.0.2 80', '10.1.0.1 80'])
  })

  test('is waited for as long as a busy machine takes, and not long where nobody can say it', async () => {
    const plane = new BusyDataplane()
    const clock = new FineClock()
    const { director } = openDirector({ dataplane: plane, host: testHost(), clock })
    let said: string | null = null
    const settle = (): void => {
      said = null
      director.settle([web.id]).then(
        () => (said = 'in force'),
        (error) => (said = String(error)),
      )
    }
    const pass = async (ms: number): Promise<string | null> => {
      for (let passed = 0; passed < ms && said === null; passed += 500) {
        clock.advance(500)
        await new Promise((resolve) => setImmediate(resolve))
      }
      return said
    }
    const answered = async (): Promise<string | null> => {
      for (let rounds = 0; rounds < 3 && said === null; rounds++) {
        await plane.answer()
        await pass(1000)
      }
      return said
    }
    director.addService(web)
    settle()
    assert.equal(await answered(), 'in force')
    director.addServer(web.id, server('10.1.0.1:80'))
    settle()
    assert.equal(await pass(30_000), null, 'half a minute is no reason to refuse it')
    assert.equal(await answered(), 'in force')
    director.addServer(web.id, server('10.1.0.2:80'))
    await plane.answer(new Error('Nobody answers'))
    settle()
    assert.match(String(await pass(6000)), /packets may be reading it/)
  })

  test("a removed service's slot is another's only afterwards", async () => {
    const plane = new BusyDataplane({ ...SMALL_SIZES, services: 1 })
    const { director } = openDirector({ dataplane: plane, host: testHost() })
    await plane.answer()
    director.addService(web)
    await director.settle()
    await plane.answer()
    director.deleteService(web.id)
    await director.settle()
    const dns = service('udp 10.0.0.1:53', { scheduler: 'rr' })
    director.addService(dns)
    const settled = director.settle()
    await new Promise((resolve) => setTimeout(resolve, 150))
    assert.equal(
      plane.map('service_index').u64.some((entry) => entry !== 0n),
      false,
    )
    await plane.answer()
    await settled
    assert.equal(
      plane.map('service_index').u64.some((entry) => entry !== 0n),
      true,
    )
  })
})
