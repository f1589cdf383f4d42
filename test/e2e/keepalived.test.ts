/** Debian's own keepalived, unmodified, with the preload library: it sets up pointsman as it would IPVS. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { hostNamed, topology } from '../../lab/topology.ts'
import { preloadObstacle } from '../preload/library.ts'
import { KEEPALIVED, Keepalived } from './keepalived-process.ts'
import { inList, members } from './listed.ts'
import { missingFor, withDirector } from './scene.ts'

const skip = missingFor('xdp') || preloadObstacle(KEEPALIVED, 'keepalived') || false
/** Checks come once a second, on a machine with much else to do. */
const WITHIN_MS = 60_000

const VIRTUAL = { address: topology.virtual.nat.ipv4, port: topology.ports.http }
const at = (name: string): string => `${hostNamed(name).servers!.ipv4} ${topology.ports.httpBehindNat}`
const member = (name: string): string => at(name).replace(' ', ':')

function configuration(script: string, weight: number): string {
  const server = (name: string): string => `
  real_server ${at(name)} {
    weight ${weight}
    HTTP_GET {
      url {
        path /
        status_code 200
      }
      connect_timeout 10
      retry 0
    }
  }`
  return `global_defs {
  script_user root
  enable_script_security
}
virtual_server ${VIRTUAL.address} ${VIRTUAL.port} {
  delay_loop 1
  warmup 0
  lb_algo rr
  lb_kind NAT
  protocol TCP
  quorum 1
  quorum_up "${script} up"
  quorum_down "${script} down"
  sorry_server ${at('rs3')}
${server('rs1')}${server('rs2')}
}
`
}

const answers = async (lab: Lab): Promise<Record<string, number>> => {
  const report = await lab.client.load({ ...VIRTUAL, requests: 20, concurrency: 2 })
  assert.deepEqual(report.failures, {})
  return report.answers
}

test('keepalived checks, replaces, reloads, dies and returns', { skip }, () =>
  withDirector('xdp', async (lab) => {
    const keepalived = new Keepalived(lab.director, ['-C'])
    const script = keepalived.writeScript()
    keepalived.write(configuration(script, 2))
    keepalived.start()
    try {
      const both = (weight: number) => `${member('rs1')} ${weight}, ${member('rs2')} ${weight}`
      await inList(lab, both(2), WITHIN_MS)
      assert.deepEqual(Object.keys(await answers(lab)).sort(), ['rs1', 'rs2'])

      await lab.stopServer('rs1')
      await inList(lab, `${member('rs2')} 2`, WITHIN_MS)
      assert.deepEqual(Object.keys(await answers(lab)), ['rs2'])

      await lab.stopServer('rs2')
      await inList(lab, `${member('rs3')} 1`, WITHIN_MS)
      assert.deepEqual(Object.keys(await answers(lab)), ['rs3'], 'the sorry server')

      await lab.startServer('rs1')
      await lab.startServer('rs2')
      await inList(lab, both(2), WITHIN_MS)
      await until('the quorum scripts', WITHIN_MS, async () =>
        keepalived.told.length >= 3 ? true : undefined,
      )
      assert.deepEqual(keepalived.told.slice(-2), ['down', 'up'])

      keepalived.write(configuration(script, 5))
      keepalived.reload()
      await inList(lab, both(5), WITHIN_MS)

      await lab.director.end('SIGKILL')
      await lab.stopServer('rs1')
      await lab.director.start({ dataplane: 'xdp' })
      await inList(lab, `${member('rs2')} 5`, WITHIN_MS)
      await lab.startServer('rs1')
      await inList(lab, both(5), WITHIN_MS)

      await keepalived.kill()
      assert.equal(await members(lab), both(5), 'rules outlive it, as in the kernel')
      await answers(lab)
      await lab.stopServer('rs1')
      keepalived.start()
      await inList(lab, `${member('rs2')} 5`, WITHIN_MS)
      await answers(lab)
      await keepalived.end()
      assert.equal(await members(lab), '', 'one that ends takes its rules along')
    } catch (error) {
      console.error(keepalived.log)
      throw error
    } finally {
      await keepalived.kill().catch(() => {})
    }
  }),
)
