/** What was last in force of a file is what the next daemon starts with, when the file is wrong by then. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Turns } from '../../../control/apply/turns.ts'
import { createDirector } from '../../../control/rules/director.ts'
import { SiteSource } from '../../../control/source/site-source.ts'
import { SiteReader } from '../../../control/source/thread/site-reader.ts'
import { until } from '../../../lab/command.ts'
import { testHost } from '../support.ts'

const MAIN = `
include: more.yaml
services:
  - tcp: 192.0.2.10:80
    checks: [{kind: tcp}]
    sorry_server: 10.0.0.99
    pools: [web]
pools:
  web: {file: web.json}
`
const MORE = 'services:\n  - tcp: 192.0.2.11:80\n    real_servers: [10.0.0.3]\n'
const BROKEN = 'services:\n  - tcp: 192.0.2.10:80\n    real_servers: [10.0.0.'

/** A daemon's part in it: what it reads with, and what it has in force. */
async function started(folder: string, file = join(folder, 'pm.yaml')) {
  const reader = new SiteReader({ poolFile: null, goodFolder: folder })
  const director = createDirector({ host: testHost() })
  const logged: string[] = []
  const source = new SiteSource({
    ...{ source: 'file', path: file, director, reader, pace: () => new Turns(), applied: () => {} },
    log: { info: () => {}, error: (_details, message) => void logged.push(message) },
  })
  const { complaints } = await source.start()
  const servers = () =>
    director
      .rules()
      .flatMap((rule) => rule.servers.map(({ id }) => id.address))
      .sort()
  return { reader, source, servers, complaints, logged }
}

/** Its state, or with what it goes on where that is wrong. */
function stands({ state }: SiteSource): string {
  return state.state === 'refused' ? state.goesOn : state.state
}

async function withFolder(
  act: (folder: string, write: (name: string, text: string) => void) => Promise<void>,
) {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-good-'))
  try {
    await act(folder, (name, text) => writeFileSync(join(folder, name), text))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('with includes, checks and pools, until the file is right again, and says so', () =>
  withFolder(async (folder, write) => {
    write('pm.yaml', MAIN)
    write('more.yaml', MORE)
    write('web.json', '["10.0.0.1"]')
    const first = await started(folder)
    assert.deepEqual([stands(first.source), first.complaints], ['in force', []])
    const kept = join(folder, 'last-good-file.json')
    await until('it to be kept', 60_000, async () => statSync(kept, { throwIfNoEntry: false }))
    assert.equal(statSync(kept).mode & 0o777, 0o600, 'registries have passwords')
    await first.reader.close()

    write('pm.yaml', BROKEN)
    write('more.yaml', 'services: 7\n')
    write('web.json', '["10.0.0.1", "10.0.0.2"]')
    const { reader, source, servers, complaints, logged } = await started(folder)
    assert.match(complaints[0]?.message ?? '', /Flow sequence/)
    assert.equal(stands(source), 'last good')
    assert.match(logged.join('\n'), /^Cannot apply, nothing has changed: .*pm\.yaml:3:.*\nGoing on with/)
    assert.deepEqual(servers(), ['10.0.0.1', '10.0.0.3'])
    const [web] = source.site?.services ?? []
    assert.equal(web?.health.sorryServer?.id.address, '10.0.0.99')
    assert.equal(web?.servers[0]?.checks.length, 1)

    // Files of pools are looked at as ever.
    await until('the pool to be read', 60_000, async () => {
      source.watch()
      return servers().some((address) => address === '10.0.0.2') ? true : undefined
    })
    assert.equal(stands(source), 'last good')

    write('more.yaml', MORE)
    write('pm.yaml', MAIN.replace('10.0.0.99', '10.0.0.98'))
    assert.deepEqual((await source.apply()).complaints, [])
    assert.equal(stands(source), 'in force')
    write('pm.yaml', BROKEN)
    await source.apply()
    assert.equal(stands(source), 'before')
    await reader.close()
  }))

test('nothing is made up: of another file, or where nothing was kept, rules alone go on', () =>
  withFolder(async (folder, write) => {
    write('pm.yaml', MORE)
    write('broken.yaml', BROKEN)
    const first = await started(folder)
    await until('it to be kept', 60_000, async () =>
      statSync(join(folder, 'last-good-file.json'), { throwIfNoEntry: false }),
    )
    await first.reader.close()
    const other = await started(folder, join(folder, 'broken.yaml'))
    assert.equal(stands(other.source), 'rules')
    assert.deepEqual(other.servers(), [])
    await other.reader.close()

    write('last-good-file.json', '{"version": 1, "path": ')
    write('pm.yaml', BROKEN)
    const third = await started(folder)
    assert.equal(third.source.site, null)
    await third.reader.close()
  }))
