/** `pointsman explain` beside real traffic: it says what then happens, and asking changes nothing. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { until } from '../../lab/command.ts'
import { executable } from '../../lab/director.ts'
import type { Lab } from '../../lab/lab.ts'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { connectionsOver, missingFor, ofFrames, PLANES, withDirector } from './scene.ts'

const NAT: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
const CLIENT = '192.0.2.50'

interface Said {
  readonly verdict: string
  readonly realServer: string | null
  readonly connection: string
  readonly leaves: string | null
}

async function pointsman(lab: Lab, words: readonly string[]): Promise<string> {
  const result = await lab.director.pointsman(words)
  assert.equal(result.status, 0, `pointsman ${words.join(' ')}\n${result.stderr}${result.stdout}`)
  return result.stdout
}

/** ARP comes and goes as it likes. */
async function forwarded(lab: Lab): Promise<object> {
  const verdicts = Object.entries(ofFrames(await lab.director.verdicts()))
  return Object.fromEntries(verdicts.filter(([name]) => !name.startsWith('pass_not_')))
}

for (const plane of PLANES) {
  test(
    `${plane}: explain says where the next connection goes, and changes nothing`,
    {
      skip: missingFor(plane),
    },
    () =>
      withDirector(plane, async (lab) => {
        const { director, client } = lab
        const service = virtualEndpoint(NAT)
        const to = `${service.address}:${service.port}`
        await director.restore(allRules(NAT))
        // Real servers are asked for their MAC addresses when they come.
        await client.http(service)
        for (const port of [40_000, 40_001]) {
          const words = ['explain', '--json', 'tcp', `${CLIENT}:${port}`, to]
          // What follows is said of next hops that the daemon has told the program of.
          await until('the next hop to be known', 60_000, async () =>
            (await pointsman(lab, words)).includes('known: by r0') ? true : undefined,
          )
          await connectionsOver(lab)
          const before = await forwarded(lab)
          const said: Said = JSON.parse(await pointsman(lab, words))
          assert.deepEqual(JSON.parse(await pointsman(lab, words)), said, 'asking has moved no scheduler')
          assert.deepEqual(await forwarded(lab), before, 'and counted no packet')
          const { server } = await client.http(service)
          assert.deepEqual(
            [said.verdict, said.connection, said.leaves, said.realServer],
            ['forward_nat', 'made', 'r0', `10.0.2.1${server.replace('rs', '')}:8080`],
          )
        }
        await snapshots(lab, to)
      }),
  )
}

/** A file is enough anywhere, without privileges and without a daemon. */
async function snapshots(lab: Lab, to: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-snapshot-'))
  try {
    const path = join(folder, 'director.snapshot')
    await pointsman(lab, ['snapshot', path])
    assert.equal(statSync(path).mode & 0o777, 0o600)
    const here = JSON.parse(await pointsman(lab, ['explain', '--json', 'tcp', `${CLIENT}:42000`, to]))
    const words = ['explain', '--json', '--snapshot', path, 'tcp', `${CLIENT}:42000`, to]
    const set = ['env', 'POINTSMAN_SOCKET=/nonexistent', executable('pointsman')]
    const result = await lab.exec('client', [...set, ...words])
    assert.equal(result.status, 0, result.stderr)
    assert.deepEqual(JSON.parse(result.stdout), here)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
