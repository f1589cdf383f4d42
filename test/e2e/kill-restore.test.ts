/** kill -9 in the midst of a restore under traffic: what is served goes on, and the next start is a fixed point. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sleep } from '../../lab/command.ts'
import { executable } from '../../lab/director.ts'
import { addServer, addService, virtualEndpoint } from '../../lab/rules.ts'
import { hostNamed } from '../../lab/topology.ts'
import { allGoOn, SERVICES } from './conversations.ts'
import { missingFor, PLANES, withDirector } from './scene.ts'

/** So many that bringing them in force takes some hundred milliseconds. */
const OTHERS = 1500
/** Of the time that one takes that nobody interrupts: before anything is read, while it is, while maps are written, done. */
const MOMENTS = [0.1, 0.3, 0.5, 0.8, 1.3]

/** What is served, and others by the port that their real servers have. */
function rules(port: number): string[] {
  const served = SERVICES.flatMap((service) => [
    addService(service),
    addServer(service, hostNamed('rs1')),
    ...(port % 2 === 0 ? [] : [addServer(service, hostNamed('rs2'))]),
  ])
  const others = Array.from({ length: OTHERS }, (_, i) => {
    const service = `-t 203.0.113.${i % 250}:${1000 + Math.floor(i / 250)}`
    return [`-A ${service} -s rr`, `-a ${service} -r 10.9.${i % 250}.1:${port} -m`]
  })
  return ['-C', ...served, ...others.flat()]
}

for (const dataplane of PLANES)
  test(
    `${dataplane}: kill -9 in the midst of a restore breaks no connection`,
    { skip: missingFor(dataplane) },
    () =>
      withDirector(dataplane, async (lab) => {
        const { director } = lab
        const restore = (port: number) =>
          director.command(
            [executable('ipvsadm-restore')],
            rules(port)
              .map((rule) => `${rule}\n`)
              .join(''),
          )
        const began = performance.now()
        assert.equal((await restore(8000)).status, 0)
        const wholeMs = performance.now() - began
        for (const service of SERVICES)
          await lab.client.converse({ ...virtualEndpoint(service), intervalMs: 10 })
        await allGoOn(lab, SERVICES.length, 'the start')
        let [port, interrupted] = [8000, 0]
        for (const share of MOMENTS) {
          port++
          const moment = Math.round(share * wholeMs)
          const restoring = restore(port)
          await sleep(moment)
          await director.end('SIGKILL')
          if ((await restoring).status !== 0) interrupted++
          await allGoOn(lab, SERVICES.length, `kill -9 ${moment} ms after the restore began`)
          await director.start({ dataplane })
          await allGoOn(lab, SERVICES.length, 'the start after it')
          const found = await director.rule('-Sn')
          for (const service of SERVICES) await lab.client.http(virtualEndpoint(service))
          // Each service is as it was, or as it was to be; none is half of both, and none is lost.
          const servers = [...found.matchAll(/-r 10\.9\.\d+\.1:(\d+) /g)].map((match) => Number(match[1]))
          assert.equal(servers.length, OTHERS, `${moment} ms`)
          assert.deepEqual(
            servers.filter((one) => one !== port && one !== port - 1),
            [],
          )
          const repairs = JSON.parse((await director.api('GET', '/v1/status')).body).repairs
          assert.deepEqual(repairs, {}, 'nothing was left for the comparison to find')
          await director.end('SIGKILL')
          await director.start({ dataplane })
          assert.equal(await director.rule('-Sn'), found, 'one start was enough')
          const again = await restore(port)
          assert.equal(again.status, 0, again.stderr)
        }
        assert.ok(interrupted > 0, 'a restore was interrupted')
        await allGoOn(lab, SERVICES.length, 'all of it')
      }),
  )
