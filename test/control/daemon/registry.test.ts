/** A daemon whose pools follow a registry: what it serves, what it says of them, what it does without the registry. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { applyFile } from '../../../control/cli/site.ts'
import { sourcesText, statusText } from '../../../control/cli/text.ts'
import { get } from '../../../control/front/api/client.ts'
import { servicesAnswer } from '../../../control/front/api/schema/service.ts'
import { sourcesAnswer } from '../../../control/front/api/schema/source.ts'
import { statusAnswer } from '../../../control/front/api/schema/status.ts'
import { EtcdGateway } from '../../../control/registry/etcd/gateway.ts'
import { etcdAddress } from '../registry/addresses.ts'
import { answering, type Etcd, etcdMissing, startEtcd } from '../registry/etcd-process.ts'
import { withDaemon } from './process.ts'

const LIMIT_MS = 60_000

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const began = Date.now()
  while (!(await condition())) {
    if (Date.now() - began > LIMIT_MS) assert.fail(`${what}: not within ${LIMIT_MS} ms`)
    await sleep(20)
  }
}

describe('a daemon with a pool in etcd', { skip: etcdMissing }, () => {
  let etcd: Etcd
  let gateway: EtcdGateway
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-registry-'))
  const file = join(folder, 'pm.yaml')
  before(async () => {
    etcd = await startEtcd()
    gateway = new EtcdGateway(etcdAddress([etcd.url]))
  })
  after(async () => {
    gateway.close()
    await etcd.remove()
    rmSync(folder, { recursive: true })
  })

  const write = (more = '', url = etcd.url) =>
    writeFileSync(
      file,
      `registries:
  main: { kind: etcd, endpoints: ${url} }
pools:
  web: { registry: main, name: /web/, method: nat }
services:
  - { tcp: "192.0.2.10:80", scheduler: rr, pools: [web], real_servers: [10.0.9.9] }
  - { tcp: "[2001:db8::10]:80", pools: [web] }
${more}`,
    )
  const servers = async (socket: string) =>
    (await get(socket, '/v1/services', servicesAnswer)).value
      .flatMap((one) =>
        one.servers.map(({ address, port, weight, method }) => `${address} ${port} ${weight} ${method}`),
      )
      .sort()
  const sources = async (socket: string) => (await get(socket, '/v1/sources', sourcesAnswer)).value
  const pool = async (socket: string) => (await sources(socket)).at(-1)?.pools[0]

  test('serves what is written there, says how it stands, and goes on without it', async () => {
    write()
    await gateway.put('/web/a', '{"address":"10.0.0.1","port":8080,"weight":2}')
    await gateway.put('/web/six', '[2001:db8::1]:80')
    await withDaemon({ options: ['--config', file] }, async ({ socket, log }) => {
      const has = (...wanted: string[]) =>
        until(wanted.join(', '), async () => {
          const now = await servers(socket)
          return JSON.stringify(now) === JSON.stringify([...wanted].sort())
        })
      const own = '10.0.9.9 80 1 direct-routing'
      // Each service takes those of its family.
      await has('10.0.0.1 8080 2 nat', own, '2001:db8::1 80 1 nat')
      await gateway.put('/web/b', '10.0.0.2')
      await has('10.0.0.1 8080 2 nat', '10.0.0.2 80 1 nat', own, '2001:db8::1 80 1 nat')
      await until('it is told', async () => (await pool(socket))?.servers === 3)
      assert.match(
        sourcesText(await sources(socket)),
        /pool web: etcd \/web\/, 3 real servers, changed \d+ s ago\n/,
      )

      // One that the director cannot take keeps none of the others out, and nor do those that are none.
      await gateway.put('/web/c', '169.254.0.0')
      await gateway.put('/web/d', 'nonsense')
      await gateway.put('/web/e', '10.0.0.3:80')
      await until('the good one', async () => (await servers(socket)).includes('10.0.0.3 80 1 nat'))
      await until('the bad one is told', async () => (await pool(socket))?.skipped === 1)
      assert.match(
        sourcesText(await sources(socket)),
        /1 entries skipped.*\n {4}skipped d: expected ADDRESS:PORT/,
      )

      // Most of it is gone at once: that is not believed.
      for (const name of ['a', 'b', 'c', 'd', 'e']) await gateway.remove(`/web/${name}`)
      await until('held back', async () => (await pool(socket))?.state === 'held')
      assert.ok((await servers(socket)).length >= 4)
      assert.match(log(), /Pool web \(etcd \/web\/\): held back, it has shrunk from \d to \d/)
      for (const n of [1, 2, 3, 4]) await gateway.put(`/web/n${n}`, `10.0.1.${n}:80`)
      await until('no longer', async () => (await pool(socket))?.state === 'current')
      const now = ['1', '2', '3', '4'].map((n) => `10.0.1.${n} 80 1 nat`)
      await has(own, ...now, '2001:db8::1 80 1 nat')

      // It goes, and nothing else does.
      await etcd.kill()
      await until('away', async () => (await pool(socket))?.state === 'away')
      const { value } = await get(socket, '/v1/status', statusAnswer)
      assert.match(
        statusText(value),
        /pool +web: 5 real servers, registry away for \d+ s \(last heard \d+ s ago\)/,
      )
      assert.match((await applyFile(socket, undefined, false, () => {})).text(), /nothing has changed/)
      write('  - { tcp: "192.0.2.11:80" }\n')
      assert.match((await applyFile(socket, undefined, false, () => {})).text(), /add service 1/)
      // What is asked for the first time, and cannot be had, must not empty what is there.
      write('', 'http://127.0.0.1:1')
      await assert.rejects(
        applyFile(socket, undefined, false, () => {}),
        /Pool "web" is not known yet/,
      )
      await has(own, ...now, '2001:db8::1 80 1 nat')
      etcd.start()
      await answering(etcd)
      write()
      await gateway.remove('/web/n4')
      await has(own, ...now.slice(0, 3), '2001:db8::1 80 1 nat')
    })
  })

  test('starts without its registry: with what it knew, if there is such, and else with nobody', async () => {
    write()
    await etcd.kill()
    await withDaemon({ options: ['--config', file] }, async ({ socket, folder: run, child, ended, log }) => {
      assert.deepEqual(await servers(socket), ['10.0.9.9 80 1 direct-routing'])
      await until('told', async () => (await pool(socket))?.state === 'away')
      etcd.start()
      await answering(etcd)
      await until('there', async () => (await servers(socket)).length === 5)
      await etcd.kill()
      child.kill('SIGTERM')
      assert.equal(await ended(), 0, log())
      // The next one in the same folder.
      const first = `import { cpSync } from 'node:fs'
        const folder = process.argv[process.argv.indexOf('--run-dir') + 1]
        cpSync(${JSON.stringify(join(run, 'pools.json'))}, folder + '/pools.json')`
      await withDaemon({ options: ['--config', file], first }, async (next) => {
        assert.equal((await servers(next.socket)).length, 5)
        await until('told', async () => (await pool(next.socket))?.state === 'away')
      })
      etcd.start()
      await answering(etcd)
    })
  })
})
