/** Directors that share one configuration: what is published reaches all of them, and what is wrong none. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { publish, rollback, showFleet } from '../../../control/cli/fleet.ts'
import { call, get } from '../../../control/front/api/client.ts'
import { servicesAnswer } from '../../../control/front/api/schema/service.ts'
import { EtcdGateway } from '../../../control/registry/etcd/gateway.ts'
import { etcdAddress } from '../registry/addresses.ts'
import { answering, etcdMissing, startEtcd } from '../registry/etcd-process.ts'
import { type Daemon, withDaemon } from './process.ts'

const LIMIT_MS = 60_000

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const began = Date.now()
  while (!(await condition())) {
    if (Date.now() - began > LIMIT_MS) assert.fail(`${what}: not within ${LIMIT_MS} ms`)
    await sleep(20)
  }
}

const ports = async ({ socket }: Daemon): Promise<string> =>
  (await get(socket, '/v1/services', servicesAnswer)).value
    .map(({ port, source, servers }) => `${port}/${source}/${servers.length}`)
    .sort()
    .join(' ')

test('a fleet has one configuration: all directors take it, one that was away catches up, and back again', {
  skip: etcdMissing,
}, async () => {
  const etcd = await startEtcd()
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-fleet-'))
  const file = join(folder, 'site.yaml')
  const place = `${etcd.url.replace('http', 'etcd')}/fleet/prod`
  const options = (name: string) => ({ options: ['--config', `${place}?director=${name}`] })
  const write = (services: string, more = '') => {
    writeFileSync(
      join(folder, 'included.yaml'),
      `services:\n  - { tcp: "192.0.2.10:80", real_servers: ${services} }\n`,
    )
    writeFileSync(file, `include: included.yaml\n${more}`)
  }
  const say = () => {}
  try {
    write('[10.0.0.1]')
    // Nobody is there yet.
    assert.match((await publish(place, file, say)).text(), /no director follows it/)
    await withDaemon(options('a'), async (a) => {
      await withDaemon(options('b'), async (b) => {
        await withDaemon(options('c'), async (c) => {
          const all = [a, b, c]
          for (const one of all) await until('all serve it', async () => (await ports(one)) === '80/file/1')
          await assert.rejects(
            call(a.socket, 'DELETE', '/v1/services/tcp/192.0.2.10/80'),
            /belongs to the fleet's configuration in etcd:.*: pointsman apply --to etcd:.* FILE/,
          )
          write('[10.0.0.1, 10.0.0.2]')
          const second = await publish(place, file, say)
          assert.ok(second.good, second.text())
          assert.match(second.text(), /a +2 +for \d+ s +in force\nb +2 .*\nc +2 /)
          for (const one of all) assert.equal(await ports(one), '80/file/2')

          // What is wrong is not published at all.
          write('[10.0.0.1', '')
          await assert.rejects(publish(place, file, say), /nothing has changed:\n.*included\.yaml:2:\d+: /)
          // What one of them cannot take stays out there, and is told.
          await call(c.socket, 'PUT', '/v1/services/tcp/192.0.2.11/81', {})
          write('[10.0.0.1]', 'services:\n  - { tcp: "192.0.2.11:81", scheduler: rr }\n')
          const third = await publish(place, file, say)
          assert.equal(third.good, false)
          assert.match(
            third.text(),
            /a +3 .*in force\nb +3 .*in force\nc +2 .*refused 3: .*belongs to commands/,
          )
          assert.equal(await ports(a), '80/file/1 81/file/0')
          assert.equal(await ports(c), '80/file/2 81/manual/0')

          const back = await rollback(place, 2, say)
          assert.ok(back.good, back.text())
          for (const one of [a, b]) assert.equal(await ports(one), '80/file/2')
          assert.match((await showFleet(c.socket, null)).text(), /\* 4 .*as 2 was\n(?:.*\n)+c +4 .*in force/)
          await assert.rejects(rollback(place, 99, say), /Cannot go back to revision 99: there is no such/)

          // Etcd is away: they go on, and have what was published meanwhile when it is back.
          await etcd.kill()
          await sleep(300)
          for (const one of [a, b]) assert.equal(await ports(one), '80/file/2')
          etcd.start()
          await answering(etcd)
        })
        write('[10.0.0.7, 10.0.0.8, 10.0.0.9]')
        await publish(place, file, say)
        await until('b has it', async () => (await ports(b)) === '80/file/3')
        // Garbage is no configuration.
        const gateway = new EtcdGateway(etcdAddress([etcd.url]))
        await gateway.put('/fleet/prod/revisions/0000000099', 'garbage')
        await gateway.put('/fleet/prod/current', '99')
        await sleep(300)
        assert.equal(await ports(b), '80/file/3')
        await gateway.put('/fleet/prod/current', '5')
        gateway.close()
      })
      // One that was away.
      await withDaemon(options('c'), async (c) => {
        await until('c has caught up', async () => (await ports(c)) === '80/file/3')
      })
      assert.equal(await ports(a), '80/file/3')
    })
  } finally {
    await etcd.remove()
    rmSync(folder, { recursive: true })
  }
})
