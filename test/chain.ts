/** Tests that go on where the one before them has ended: of one that failed, the others tell nothing. */
import { type TestContext, test } from 'node:test'

type Body = (t: TestContext) => Promise<void>

/** @param anew makes the scene again, whatever a test that failed has left of it */
export function chainOf(anew: () => Promise<void>): (name: string, body: Body) => void {
  let isWhole = true
  return (name, body) =>
    void test(name, async (t) => {
      if (!isWhole) await anew()
      isWhole = false
      await body(t)
      isWhole = true
    })
}

/** Steps of one test whose scene cannot be made again: what comes after one that failed is skipped. */
export function stepsOf(t: TestContext): (name: string, body: Body, skip?: string | false) => Promise<void> {
  let failed: string | null = null
  return (name, body, skip = false) =>
    t.test(name, { skip: failed === null ? skip : `"${failed}" has failed` }, async (step) => {
      try {
        await body(step)
      } catch (error) {
        failed = name
        throw error
      }
    })
}
