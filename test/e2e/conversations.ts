/** Conversations that have to go on, whatever happens to the director. */
import assert from 'node:assert/strict'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import type { LabService } from '../../lab/rules.ts'
import type { ConversationReport } from '../../lab/talk.ts'
import { FAMILIES, METHODS } from '../../lab/topology.ts'

/** One by each forwarding method and family. */
export const SERVICES: readonly LabService[] = METHODS.flatMap((method) =>
  FAMILIES.map((family) => ({ method, protocol: 'tcp', family, serverFamily: family }) as const),
)

/** Waits until each of the conversations, `count` of them, has gone on, and returns their state. */
export async function allGoOn(
  lab: Lab,
  count: number,
  why: string,
  withinMs = 120_000,
): Promise<readonly ConversationReport[]> {
  const before = await lab.client.conversations()
  assert.equal(before.length, count)
  const after = await until(`every conversation to go on after: ${why}`, withinMs, async () => {
    const now = await lab.client.conversations()
    const broken = now.filter(({ failure }) => failure !== null)
    assert.deepEqual(broken, [], `broken after: ${why}`)
    return now.every((one, i) => one.requests >= (before[i]?.requests ?? 0) + 5) ? now : undefined
  })
  assert.equal(after.length, count)
  return after
}
