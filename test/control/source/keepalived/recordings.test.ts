/** What Debian's keepalived set up in the kernel's IPVS, and what we make of the same files. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Turns } from '../../../../control/apply/turns.ts'
import { namesFrom } from '../../../../control/front/ipvsadm/names.ts'
import { runIpvsadm, STDIN_WANTED } from '../../../../control/front/ipvsadm/run.ts'
import type { Site } from '../../../../control/model/site.ts'
import { NO_DIRECTOR_SETTINGS } from '../../../../control/model/site.ts'
import { createDirector, DEFAULT_TIMEOUTS, type RuleDirector } from '../../../../control/rules/director.ts'
import { fixedHost } from '../../../../control/rules/host.ts'
import { readKeepalived } from '../../../../control/source/keepalived/read.ts'
import { stage } from '../../health/stage.ts'

const FOLDER = fileURLToPath(new URL('../../../recordings/keepalived', import.meta.url))
const files = {
  read: (path: string) => readFileSync(path, 'utf8'),
  list: (folder: string) => readdirSync(folder),
}

interface Recorded {
  readonly sha256: string
  /** Rules before the first answer of a check, and when nothing changed any more. */
  readonly start: readonly string[]
  readonly settled: readonly string[]
  readonly timeouts: string
}

const { cases } = JSON.parse(readFileSync(join(FOLDER, 'recorded.json'), 'utf8')) as {
  readonly cases: Readonly<Record<string, Recorded>>
}
/** Of the recording: nobody answers at 10.0.0.200 and above. */
const DEAD = Array.from({ length: 10 }, (_, host) => `10.0.0.${200 + host}`)
/** Time for all tries of real servers that are down. */
const SETTLED_MS = 25_000

/** What is in force, in the words of `ipvsadm -Sn`, which itself prints what was said. */
async function inForce(director: RuleDirector): Promise<readonly string[]> {
  const mirror = createDirector({ host: fixedHost() })
  for (const service of director.services()) {
    assert.ok(mirror.addService(service).ok)
    for (const server of service.servers) assert.ok(mirror.addServer(service.id, server).ok)
  }
  const names = () => namesFrom('', '')
  const result = await runIpvsadm({ argv: ['ipvsadm', '-Sn'], stdin: '', director: mirror, names })
  if (result === STDIN_WANTED) throw new Error('ipvsadm -S asks for nothing')
  return result.stdout.toString().trimEnd().split('\n')
}

async function bring(site: Site) {
  const director = createDirector({ host: fixedHost() })
  const made = stage({ overlay: (overlays, services) => director.overlay(overlays, services) })
  for (const address of DEAD) made.say(address, 'bad', 'refused')
  const statement = site.services.map(({ service, servers }) => ({
    service,
    servers: servers.map(({ real }) => real),
  }))
  const { refused } = await director.restate(
    { source: 'keepalived', services: statement, takeOver: false, filters: [], limits: [], marks: [] },
    site.director ?? NO_DIRECTOR_SETTINGS,
    new Turns(),
    {
      became: () => {
        made.health.want(site.services)
        director.overlay(made.health)
      },
    },
  )
  assert.deepEqual(refused, [])
  return { director, ...made }
}

describe('keepalived in an emulated machine', () => {
  const names = readdirSync(FOLDER)
    .filter((file) => file.endsWith('.conf'))
    .map((file) => basename(file, '.conf'))

  test('has been asked about these files as they are (test/recordings/keepalived/record.py)', () => {
    assert.deepEqual(Object.keys(cases).sort(), names.sort())
    for (const name of names) {
      const digest = createHash('sha256').update(readFileSync(join(FOLDER, `${name}.conf`)))
      assert.equal(digest.digest('hex'), cases[name]?.sha256, name)
    }
  })

  for (const [name, recorded] of Object.entries(cases)) {
    test(`set up the same services: ${name}`, async () => {
      const path = join(FOLDER, `${name}.conf`)
      const { site, complaints } = readKeepalived(path, files, { configId: 'me', hostName: 'me' })
      assert.ok(site !== null, JSON.stringify(complaints, null, 1))
      const { director, health, pass } = await bring(site)
      assert.deepEqual((await inForce(director)).toSorted(), recorded.start.toSorted(), 'before any check')
      await pass(SETTLED_MS)
      assert.deepEqual((await inForce(director)).toSorted(), recorded.settled.toSorted(), 'after all checks')
      const { tcp, tcpFin, udp } = site.director.timeouts ?? DEFAULT_TIMEOUTS
      assert.equal(`Timeout (tcp tcpfin udp): ${tcp} ${tcpFin} ${udp}`, recorded.timeouts)
      health.stop()
    })
  }
})
