/** A keepalived.conf as the daemon's source, and what the command makes of one. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { get } from '../../../control/front/api/client.ts'
import { servicesAnswer } from '../../../control/front/api/schema/service.ts'
import { until } from '../../../lab/command.ts'
import { withDaemon } from './process.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const dir = mkdtempSync(join(tmpdir(), 'pointsman-keepalived-'))
after(() => rmSync(dir, { recursive: true }))

const CONF = join(dir, 'keepalived.conf')
const configuration = (weight: number): string => `virtual_server 10.66.0.1 80 {
  lb_algo wrr
  lb_kind DR
  protocol TCP
  nonsense
  real_server 10.66.0.2 80 {
    weight ${weight}
  }
}
`

interface Ran {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

function pointsman(...args: readonly string[]): Promise<Ran> {
  const words = ['--import', 'tsx', join(root, 'control/cli/pointsman.ts'), ...args]
  return new Promise((resolve) => {
    execFile(process.execPath, words, { cwd: root }, (error, stdout, stderr) =>
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr }),
    )
  })
}

test('the daemon serves a keepalived.conf, and reads it again when it is told to', async () => {
  writeFileSync(CONF, configuration(3))
  await withDaemon({ options: ['--keepalived', CONF] }, async ({ socket, child, log }) => {
    const weight = async (): Promise<number | undefined> =>
      (await get(socket, '/v1/services', servicesAnswer)).value[0]?.servers[0]?.weight
    assert.equal(await weight(), 3)
    assert.match(log(), /keepalived\.conf:5:1: Unknown word \\"nonsense\\"/)
    writeFileSync(CONF, configuration(4))
    child.kill('SIGHUP')
    await until('the new weight', 60_000, async () => ((await weight()) === 4 ? true : undefined))
  })
})

test('check says what is not taken, and ends as keepalived -t does', async () => {
  writeFileSync(CONF, configuration(3))
  const remarked = await pointsman('check', '--keepalived', CONF)
  assert.equal(remarked.status, 5)
  assert.equal(remarked.stdout, `${CONF}:5:1: Unknown word "nonsense"\n${CONF}: 1 services, 1 real servers\n`)
  writeFileSync(CONF, configuration(3).replace('nonsense', '@me nonsense'))
  assert.equal((await pointsman('check', '--keepalived', CONF)).status, 0)
  assert.equal((await pointsman('check', '--keepalived', '--config-id', 'me', CONF)).status, 5)
  const absent = await pointsman('check', '--keepalived', join(dir, 'absent'))
  assert.equal(absent.status, 1)
  assert.match(absent.stdout, /Cannot read ".*absent"/)
})

test('import writes saved rules as a file of ours', async () => {
  const rules = join(dir, 'rules')
  writeFileSync(rules, '-A -t 10.0.0.1:80 -s wrr\n-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 3\n')
  const { status, stdout } = await pointsman('import', rules)
  assert.equal(status, 0)
  const file = join(dir, 'imported.yaml')
  writeFileSync(file, stdout)
  assert.deepEqual(await pointsman('check', file), {
    ...{ status: 0, stderr: '' },
    stdout: `${file}: 1 services, 1 real servers\n`,
  })
  assert.match(
    stdout,
    /address: 10\.0\.0\.2:8080, weight: 3|address: 10\.0\.0\.2:8080, method: nat, weight: 3/,
  )
})
