/** A daemon with a configuration file: what it starts with, what a reload does, what is shown. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { sourcesText } from '../../../control/cli/text.ts'
import { call, get } from '../../../control/front/api/client.ts'
import { servicesAnswer } from '../../../control/front/api/schema/service.ts'
import { sourcesAnswer } from '../../../control/front/api/schema/source.ts'
import { withDaemon } from './process.ts'

test('a daemon serves its file, and goes on with it when a reload finds it wrong', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-config-'))
  const file = join(folder, 'pm.yaml')
  const say = (services: string) => writeFileSync(file, `services:\n${services}`)
  try {
    say('  - { tcp: "192.0.2.10:80", real_servers: [10.0.0.1] }\n')
    await withDaemon({ options: ['--config', file] }, async ({ socket, child }) => {
      const services = async () =>
        (await get(socket, '/v1/services', servicesAnswer)).value.map(
          ({ port, source, servers }) => `${port} ${source} ${servers.length}`,
        )
      const source = async () =>
        (await get(socket, '/v1/sources', sourcesAnswer)).value.find((one) => one.source === 'file')!
      const reloaded = async (until: () => Promise<boolean>) => {
        child.kill('SIGHUP')
        for (let tries = 0; tries < 2400 && !(await until()); tries++) await sleep(50)
        assert.ok(await until())
      }
      assert.deepEqual(await services(), ['80 file 1'])
      await assert.rejects(
        call(socket, 'DELETE', '/v1/services/tcp/192.0.2.10/80'),
        /belongs to the file .*pm\.yaml: change it there, then: pointsman apply/,
      )
      await call(socket, 'PUT', '/v1/services/tcp/192.0.2.11/81', {})

      say('  - { tcp: "192.0.2.10:80", real_server: [10.0.0.1] }\n  - { tcp: "192.0.2.12:82" }\n')
      await reloaded(async () => (await source()).state === 'refused')
      assert.deepEqual(await services(), ['81 manual 0', '80 file 1'])
      assert.match(
        sourcesText([await source()]),
        /^file: .*pm\.yaml\n {2}refused for \d+ s, 1 services\n {2}what it said before is in force\n {2}.*pm\.yaml:2:29: Unknown key "real_server": did you mean "real_servers"\?\n$/,
      )

      say('  - { tcp: "192.0.2.12:82" }\n')
      await reloaded(async () => (await source()).state === 'in force')
      assert.deepEqual((await services()).sort(), ['81 manual 0', '82 file 0'])
    })
    // A wrong one is no reason not to start.
    say('  - { tcp: nonsense }\n')
    await withDaemon({ options: ['--config', file] }, async ({ socket, log }) => {
      assert.deepEqual((await get(socket, '/v1/services', servicesAnswer)).value, [])
      assert.match(log(), /Cannot apply, nothing has changed: .*pm\.yaml:2:12: tcp: expected an address/)
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a daemon that boots with a file half written starts with what was last in force, and says so', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-config-'))
  const file = join(folder, 'pm.yaml')
  const state = join(folder, 'state')
  const whole =
    'services:\n  - tcp: 192.0.2.10:80\n    scheduler: rr\n    real_servers: [10.0.0.1, "10.0.0.2:8080"]\n'
  mkdirSync(state)
  // Each has a run directory of its own, which is gone with it, as over a reboot.
  const settings = { options: ['--config', file], env: { STATE_DIRECTORY: state } }
  const ports = async (socket: string) =>
    (await get(socket, '/v1/services', servicesAnswer)).value.flatMap(({ servers }) =>
      servers.map(({ address, port }) => `${address} ${port}`),
    )
  try {
    writeFileSync(file, whole)
    await withDaemon(settings, async ({ socket }) => {
      assert.deepEqual((await ports(socket)).sort(), ['10.0.0.1 80', '10.0.0.2 8080'])
    })
    writeFileSync(file, whole.slice(0, -10))
    await withDaemon(settings, async ({ socket, log }) => {
      assert.deepEqual((await ports(socket)).sort(), ['10.0.0.1 80', '10.0.0.2 8080'])
      assert.match(log(), /Cannot apply, nothing has changed.*pm\.yaml:4/)
      assert.match(log(), /Going on with what was last in force of it/)
      const [source] = (await get(socket, '/v1/sources', sourcesAnswer)).value.filter(
        (one) => one.source === 'file',
      )
      assert.equal(source?.state, 'refused')
      assert.match(sourcesText([source]), /what it said before the daemon started is in force/)
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})
