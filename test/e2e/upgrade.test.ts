/** An earlier version, whose maps have another layout, is exchanged for this one under traffic. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { PM_LAYOUT_VERSION } from '../../dataplane/layout/layout.gen.ts'
import type { Lab } from '../../lab/lab.ts'
import { ipBatch } from '../../lab/namespace.ts'
import { buildOlderVersion, type OlderVersion, skipWithoutHistory } from '../../lab/older-version.ts'
import { allRules, virtualEndpoint } from '../../lab/rules.ts'
import { FAMILIES, hostNamed, topology } from '../../lab/topology.ts'
import { allGoOn, SERVICES } from './conversations.ts'
import { pinDirectory } from './leftovers.ts'
import { missingFor, type Plane, withDirector } from './scene.ts'
import { seen } from './seen.ts'
import { readStatistics } from './statistics.ts'

const EACH = 3
const CONVERSATIONS = EACH * SERVICES.length

async function connections(lab: Lab): Promise<number> {
  return (await readStatistics(lab)).reduce((sum, { conns }) => sum + conns, 0)
}

async function drops(lab: Lab): Promise<Record<string, bigint>> {
  const all = Object.entries(await lab.director.verdicts())
  return Object.fromEntries(all.filter(([name, packets]) => name.startsWith('drop_') && packets > 0n))
}

/**
 * A kernel that knows many neighbours forgets one that it has not sent to for a minute, whoever's namespace it is in.
 * The daemon has those of real servers kept, and of clients each connection's line knows its own, but not over a change
 * of layout: the first packets to one that was forgotten meanwhile are dropped as ever.
 */
async function rememberClient(lab: Lab): Promise<void> {
  const { clients } = hostNamed('client')
  const device = topology.wires.clients.interface
  const entries = FAMILIES.map(
    (family) => `neigh replace ${clients[family]} lladdr ${clients.mac} dev ${device}`,
  )
  await ipBatch(
    lab.director.namespace,
    entries.map((entry) => `${entry} nud permanent`),
  )
}

describe('upgrade', { skip: skipWithoutHistory || missingFor('xdp') || missingFor('userspace') }, () => {
  let older: OlderVersion
  before(() => {
    older = buildOlderVersion()
  })
  after(() => older.remove())

  const upgrade = (
    from: Plane,
    to: Plane,
    then: (lab: Lab, rules: string) => Promise<void>,
    first: (lab: Lab) => Promise<void> = async () => {},
  ): Promise<void> =>
    withDirector(
      from,
      async (lab) => {
        const { director, client } = lab
        await rememberClient(lab)
        await director.restore(SERVICES.flatMap((service) => allRules(service)))
        for (const service of SERVICES) {
          for (let i = 0; i < EACH; i++) await client.converse({ ...virtualEndpoint(service), intervalMs: 5 })
        }
        await allGoOn(lab, CONVERSATIONS, 'the start')
        const rules = await director.rule('-Sn')
        const dropped = await drops(lab)
        assert.equal(await connections(lab), CONVERSATIONS)

        assert.equal(await director.end('SIGTERM'), 0)
        await allGoOn(lab, CONVERSATIONS, "the older daemon's end")
        await first(lab)
        await director.start({ dataplane: to })
        await allGoOn(lab, CONVERSATIONS, 'the upgrade')
        assert.equal(await director.rule('-Sn'), rules)
        assert.equal(await connections(lab), CONVERSATIONS, 'every connection is counted once')
        assert.deepEqual(await drops(lab), dropped)
        for (const service of SERVICES) await client.http(virtualEndpoint(service))
        await then(lab, rules)
      },
      { bin: older.bin },
    )

  for (const [from, to] of [
    ['userspace', 'userspace'],
    ['userspace', 'xdp'],
  ] as const)
    test(`from ${from} of another layout to ${to}: conversations and rules go on`, () =>
      upgrade(from, to, async () => {}))

  /** The next start finishes what was begun, and connections do not notice either. */
  const killedOnTheWay = async (lab: Lab): Promise<void> => {
    const beside = `${await pinDirectory(lab)}-new`
    for (const name of ['settings', 'program']) {
      const starting = lab.director.start({ dataplane: 'xdp' }).catch(() => {})
      await seen(join(beside, name), starting)
      await lab.director.end('SIGKILL')
      await starting
      await allGoOn(lab, CONVERSATIONS, `kill -9 when ${name} was pinned beside`)
    }
  }

  test('from xdp of another layout to xdp, killed on the way; the way back is refused', () => {
    const then = async (lab: Lab, rules: string): Promise<void> => {
      const { director } = lab
      await director.end('SIGTERM')
      await assert.rejects(
        director.start({ dataplane: 'auto', bin: older.bin }),
        // The earlier version's own words: it names the first record that has another size, where it may read types.
        new RegExp(
          `(layout has version ${PM_LAYOUT_VERSION}|struct \\w+ is \\d+ bytes, expected \\d+).*pointsman detach`,
        ),
      )
      await allGoOn(lab, CONVERSATIONS, "the older version's refusal")
      await director.start({ dataplane: 'xdp' })
      assert.equal(await director.rule('-Sn'), rules)
      await allGoOn(lab, CONVERSATIONS, 'one more start')
    }
    return upgrade('xdp', 'xdp', then, killedOnTheWay)
  })
})
