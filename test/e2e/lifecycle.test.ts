/** Starting, stopping, taking off: what the host is left with. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lab } from '../../lab/lab.ts'
import { allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { METHODS, topology } from '../../lab/topology.ts'
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

test('xdp: detach takes the packet program off and leaves the plain stack', { skip }, () =>
  withDirector('xdp', async (lab) => {
    const { director, client } = lab
    await director.restore(allRules(NAT))
    assert.deepEqual(await attachedModes(lab), [1, 1])
    assert.match((await client.http(virtualEndpoint(NAT))).server, /^rs/)

    const detached = await director.pointsman(['detach'])
    assert.equal(detached.status, 0, detached.stderr)
    assert.deepEqual(await attachedModes(lab), [undefined, undefined])
    // Nobody listens at the virtual address itself: the stack says so at once.
    await assert.rejects(client.http(virtualEndpoint(NAT)), /ECONNREFUSED/)
    const ping = await lab.exec('client', ['ping', '-c', '1', '-W', '2', topology.virtual.nat.ipv4])
    assert.equal(ping.status, 0, ping.stdout)
    assert.notEqual((await director.pointsman(['status'])).status, 0, 'status is 0 only when forwarding')
  }),
)

test('xdp: a stopped daemon leaves forwarding on, and detach works without it', { skip }, () =>
  withDirector('xdp', async (lab) => {
    const { director, client } = lab
    await director.restore(allRules(NAT))
    assert.equal((await director.pointsman(['status'])).status, 0)
    assert.equal(await director.end('SIGTERM'), 0)
    for (let i = 0; i < 6; i++) assert.match((await client.http(virtualEndpoint(NAT))).server, /^rs/)
    assert.deepEqual(await attachedModes(lab), [1, 1])

    const detached = await director.pointsman(['detach'])
    assert.equal(detached.status, 0, detached.stderr)
    assert.deepEqual(await attachedModes(lab), [undefined, undefined])
    await assert.rejects(client.http(virtualEndpoint(NAT)), /ECONNREFUSED/)
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

test('xdp: pointsman status tells plane, interfaces and what is served', { skip }, () =>
  withDirector('xdp', async (lab) => {
    await lab.director.restore(allRules(NAT))
    await lab.client.http(virtualEndpoint(NAT))
    const text = await lab.director.pointsman(['status'])
    assert.equal(text.status, 0, text.stderr)
    for (const word of ['xdp', 'native', ...DEVICES]) assert.match(text.stdout, new RegExp(`\\b${word}\\b`))
    const json = await lab.director.pointsman(['status', '--json'])
    assert.equal(json.status, 0, json.stderr)
    const status: unknown = JSON.parse(json.stdout)
    assert.ok(typeof status === 'object' && status !== null)
  }),
)

test('xdp: doctor finds nothing to mend in the lab', { skip }, () =>
  withDirector('xdp', async (lab) => {
    const result = await lab.director.pointsman(['doctor'])
    assert.equal(result.status, 0, result.stdout + result.stderr)
  }),
)

test('xdp: a second daemon on the same director is refused', { skip }, () =>
  withDirector('xdp', async (lab) => {
    const second = await lab.director.command(lab.director.daemonCommand({ dataplane: 'xdp' }))
    assert.notEqual(second.status, 0)
    assert.notEqual(second.stderr + second.stdout, '')
    assert.equal((await lab.director.ipvsadm(['-Ln'])).status, 0, 'the first goes on')
  }),
)

test('xdp: an interface that does not exist is named in the error', { skip }, () =>
  withDirector('xdp', async (lab) => {
    await lab.director.end('SIGTERM')
    const command = lab.director.daemonCommand({ dataplane: 'xdp' })
    const result = await lab.director.command([...command, '--interface', 'nowhere0'])
    assert.notEqual(result.status, 0)
    assert.match(result.stdout + result.stderr, /nowhere0/)
  }),
)
