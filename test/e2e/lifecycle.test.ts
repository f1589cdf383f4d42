/** Starting, stopping, taking off: what the host is left with. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lab } from '../../lab/lab.ts'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { METHODS, topology } from '../../lab/topology.ts'
import { stepsOf } from '../chain.ts'
import { missingFor, withDirector } from './scene.ts'

const NAT: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
const DEVICES = [topology.wires.clients.interface, topology.wires.servers.interface]
const skip = missingFor('xdp')

interface LinkDetails {
  readonly xdp?: { readonly mode: number; readonly attached?: readonly object[] }
}

/** Interfaces of the director that have an XDP program, with the mode as `ip` numbers it (1 native, 2 generic). */
async function attachedModes(lab: Lab): Promise<(number | undefined)[]> {
  const links = await Promise.all(
    DEVICES.map((device) => lab.exec('director', ['ip', '-json', '-details', 'link', 'show', 'dev', device])),
  )
  return links.map(({ stdout }) => (JSON.parse(stdout) as LinkDetails[])[0]?.xdp?.mode)
}

/** The host as it is without a director: the plain stack answers at the virtual addresses, and at once. */
async function isPlain({ exec, client }: Lab, modes: () => Promise<(number | undefined)[]>): Promise<void> {
  assert.deepEqual(await modes(), [undefined, undefined])
  await assert.rejects(client.http(virtualEndpoint(NAT)), /ECONNREFUSED/)
  const ping = await exec('client', ['ping', '-c', '1', '-w', '20', topology.virtual.nat.ipv4])
  assert.equal(ping.status, 0, ping.stdout)
}

test('xdp: the life of a director', { skip }, (t) =>
  withDirector('xdp', async (lab) => {
    const step = stepsOf(t)
    const { director, client } = lab
    const serves = async () => assert.match((await client.http(virtualEndpoint(NAT))).server, /^rs/)
    const detach = async () => {
      const detached = await director.pointsman(['detach'])
      assert.equal(detached.status, 0, detached.stderr)
      await isPlain(lab, () => attachedModes(lab))
    }

    await step('the doctor finds nothing to mend', async () => {
      const result = await director.pointsman(['doctor'])
      assert.equal(result.status, 0, result.stdout + result.stderr)
    })

    await director.restore(allRules(NAT))
    await step('status tells plane, interfaces and what is served', async () => {
      await serves()
      const text = await director.pointsman(['status'])
      assert.equal(text.status, 0, text.stderr)
      for (const word of ['xdp', 'native', ...DEVICES]) assert.match(text.stdout, new RegExp(`\\b${word}\\b`))
      const json = await director.pointsman(['status', '--json'])
      assert.equal(json.status, 0, json.stderr)
      const status: unknown = JSON.parse(json.stdout)
      assert.ok(typeof status === 'object' && status !== null)
    })

    await step('a second daemon is refused', async () => {
      const second = await director.command(director.daemonCommand({ dataplane: 'xdp' }))
      assert.equal(second.status, 1, second.stderr)
      assert.notEqual(second.stderr + second.stdout, '')
      assert.equal((await director.ipvsadm(['-Ln'])).status, 0, 'the first goes on')
    })

    await step('a stopped daemon leaves forwarding on, and detach works without it', async () => {
      assert.equal(await director.end('SIGTERM'), 0)
      for (let i = 0; i < 6; i++) await serves()
      assert.deepEqual(await attachedModes(lab), [1, 1])
      await detach()
    })

    await step('detach takes the packet program off under a daemon, too', async () => {
      await director.start({ dataplane: 'xdp' })
      assert.equal(await director.rule('-Sn'), '', 'what was taken off does not come back')
      await director.restore(allRules(NAT))
      assert.deepEqual(await attachedModes(lab), [1, 1])
      await serves()
      await detach()
      assert.notEqual((await director.pointsman(['status'])).status, 0, 'status is 0 only when forwarding')
    })
  }),
)

test('xdp: generic mode forwards too', { skip }, () =>
  withDirector(
    'xdp',
    async (lab) => {
      assert.deepEqual(await attachedModes(lab), [2, 2])
      for (const method of METHODS) {
        const service = { ...NAT, method }
        await lab.director.restore(allRules(service))
        const answer = await lab.client.http({ ...virtualEndpoint(service), upload: 100_000 })
        assert.equal(answer.bytes, 100_000)
      }
    },
    { xdpMode: 'generic' },
  ),
)
