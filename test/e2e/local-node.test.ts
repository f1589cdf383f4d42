/** Real servers on the director itself: their answers leave by the host's stack, and are translated on the way out. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Status } from '../../control/front/api/schema/status.ts'
import { must, run } from '../../lab/command.ts'
import type { Lab } from '../../lab/lab.ts'
import { inNamespace } from '../../lab/namespace.ts'
import { addServer, addService, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { type AddressFamily, FAMILIES, hostNamed, topology } from '../../lab/topology.ts'
import { ALL_PLANES, countedIn, missingFor, type Plane, textOf, withDirector } from './scene.ts'
import { VIP, Wires } from './wires.ts'

/** An address of the director that is not virtual. */
const OWN = '192.0.2.1'
/** More than a window, so that super-packets go both ways. */
const BYTES = 2_000_000
const LONG_ANSWER = 6000

/** Linux 6.11 sends super-packets of UDP also where the interface finishes no checksums. */
const SEGMENT = 1000

/**
 * TCP on :7001 and on :7002 (everything back, and its own address in front), UDP on :7003 (a long answer) and :7005
 * (segments of one super-packet, where the kernel sends such).
 */
const SERVER = `
const cut = require('dgram').createSocket('udp4')
const segment = (bytes) =>
  require('koffi').load('libc.so.6').func('int setsockopt(int, int, int, void *, int)')(
    cut._handle.fd, 17, 103, Buffer.from(Int32Array.of(bytes).buffer), 4)
cut.on('message', (m, from) => {
  segment(${SEGMENT})
  cut.send(Buffer.alloc(3 * ${SEGMENT}, 7), from.port, from.address, (error) => {
    if (!error) return
    segment(0)
    cut.send(Buffer.alloc(${SEGMENT}, 7), from.port, from.address)
  })
})
cut.bind(7005, '0.0.0.0')
const { createServer } = require('net')
for (const port of [7001, 7002])
  createServer((s) => { s.on('error', () => {}); s.write(s.localAddress.padEnd(16) + s.localPort + '\\n'); s.pipe(s) }).listen(port, '0.0.0.0')
const udp = require('dgram').createSocket('udp4')
udp.on('message', (m, from) => udp.send(Buffer.alloc(${LONG_ANSWER}, m.length % 251), from.port, from.address))
udp.bind(7003, '0.0.0.0', () => console.log('ready'))
`

/** For an answer, on a machine where much else goes on. */
const PATIENCE_MS = 30_000

/** What a client that sends \`BYTES\` bytes is told, and whether they come back. */
const ECHO = `
const [port, bytes] = process.argv.slice(1).map(Number)
const s = require('net').connect(port, '${VIP}')
const sent = Buffer.alloc(bytes, 'pointsman')
const got = []
s.setTimeout(${PATIENCE_MS}, () => { console.log('late'); process.exit() })
s.on('error', (e) => { console.log(e.code); process.exit() })
s.on('data', (d) => got.push(d))
s.on('end', () => {
  const all = Buffer.concat(got)
  console.log(all.subarray(0, 20).toString() + (all.subarray(21).equals(sent) ? ' all' : ' ' + all.length))
})
s.end(sent)
`

/** A datagram in fragments, and the answer to it. */
const DATAGRAM = `
const [port, bytes] = process.argv.slice(1).map(Number)
const s = require('dgram').createSocket('udp4')
s.on('error', (e) => { console.log(e.code); process.exit() })
s.on('message', (m) => { console.log(m.length + ' of ' + m[0]); process.exit() })
setTimeout(() => { console.log('late'); process.exit() }, ${PATIENCE_MS})
s.connect(port, '${VIP}', () => s.send(Buffer.alloc(bytes)))
`

for (const plane of ['xdp', 'tc'] as const) {
  const skip = missingFor(plane)

  test(`${plane}: real servers on the director answer by NAT to another port and by direct routing`, {
    skip,
  }, async () => {
    const wires = new Wires()
    const ask = async (script: string, port: number, bytes: number): Promise<string> => {
      const words = inNamespace(wires.client, [process.execPath, '-e', script, `${port}`, `${bytes}`])
      return (await run(words)).stdout.trim()
    }
    try {
      await wires.make()
      await wires.serve(wires.director, SERVER)
      await wires.start('--dataplane', plane, '--interface', 'c0', '--interface', 's0')
      const here = async () => (await wires.status()).dataplane.answers
      assert.equal(await here(), null, 'nobody asks for it')

      await wires.rules(
        `-A -t ${VIP}:7000 -s rr`,
        `-a -t ${VIP}:7000 -r ${OWN}:7001 -m`,
        `-A -t ${VIP}:7002 -s rr`,
        `-a -t ${VIP}:7002 -r ${OWN}:7002 -g`,
        `-A -u ${VIP}:7003 -s rr`,
        `-a -u ${VIP}:7003 -r ${OWN}:7003 -m`,
        `-A -u ${VIP}:7005 -s rr`,
        `-a -u ${VIP}:7005 -r ${OWN}:7005 -m`,
        `-A -u ${VIP}:7004 -s rr`,
        `-a -u ${VIP}:7004 -r ${OWN}:7999 -m`,
      )
      assert.deepEqual(await here(), { seen: true, interfaces: ['s0', 'c0'], refused: [] })
      assert.match(await wires.statusText(), /^local servers +their answers are seen at .*c0/m)
      assert.deepEqual((await wires.status()).unsupported, [])

      assert.equal(await ask(ECHO, 7000, BYTES), `${OWN.padEnd(16)}7001 all`)
      assert.equal(await ask(ECHO, 7002, BYTES), `${VIP.padEnd(16)}7002 all`)
      assert.equal(await ask(DATAGRAM, 7003, 100), `${LONG_ANSWER} of 100`)
      assert.equal(await ask(DATAGRAM, 7003, 4100), `${LONG_ANSWER} of ${4100 % 251}`, 'in fragments')
      assert.equal(await ask(DATAGRAM, 7005, 100), `${SEGMENT} of 7`, 'a super-packet')
      assert.equal(await ask(DATAGRAM, 7004, 100), 'ECONNREFUSED', 'errors of the stack are translated')
      // As drivers leave it: checksums and segments are the way out's business.
      await must(inNamespace(wires.director, ['ethtool', '-K', 'c0', 'tx', 'on', 'tso', 'on', 'gso', 'on']))
      assert.equal(await ask(ECHO, 7000, BYTES), `${OWN.padEnd(16)}7001 all`)
      assert.equal(
        await ask(DATAGRAM, 7005, 100),
        `${SEGMENT} of 7`,
        'a super-packet to be finished by the interface',
      )
      assert.ok((await wires.verdict('pass_local_node')) > 0)
      assert.ok((await wires.verdict('forward_nat_reply')) > 0)

      await wires.stop('SIGKILL')
      assert.equal(await ask(ECHO, 7000, BYTES), `${OWN.padEnd(16)}7001 all`, 'without a daemon')
      await wires.start('--dataplane', plane, '--interface', 'c0', '--interface', 's0')
      assert.equal(await ask(ECHO, 7000, BYTES), `${OWN.padEnd(16)}7001 all`, 'with the next one')
    } catch (error) {
      if (error instanceof Error) error.stack += `\n--- pointsmand:\n${wires.log}`
      throw error
    } finally {
      await wires.remove()
    }
  })
}

const DIRECTOR = hostNamed('director')
/** Datagrams of one case. */
const DATAGRAMS = 4n

/** TCP and UDP by the director itself as the only real server, NAT with a port of its own. */
async function checkMethod(
  lab: Lab,
  plane: Plane,
  method: 'nat' | 'direct-routing',
  family: AddressFamily,
): Promise<void> {
  const service = (protocol: 'tcp' | 'udp'): LabService => ({
    ...{ method, protocol, family, serverFamily: family },
  })
  const both = [service('tcp'), service('udp')]
  await lab.director.rule('-C')
  await lab.director.restore(both.flatMap((one) => [addService(one), addServer(one, DIRECTOR)]))
  const { unsupported } = JSON.parse((await lab.director.api('GET', '/v1/status')).body) as Status
  if (plane === 'userspace' && method === 'nat') {
    assert.equal(unsupported.length, both.length)
    for (const { reasons } of unsupported)
      assert.match(reasons.join(), /an address of this host: its answers are not seen by the userspace/)
    return
  }
  assert.deepEqual(unsupported, [])
  const local = method === 'nat' ? DIRECTOR.servers?.[family] : topology.virtual[method][family]
  const { http, echo, httpBehindNat, echoBehindNat } = topology.ports
  const ports = method === 'nat' ? [httpBehindNat, echoBehindNat] : [http, echo]
  const counts = await countedIn(lab, async () => {
    for (let i = 0n; i < DATAGRAMS; i++) {
      const answer = await lab.client.udp(virtualEndpoint(service('udp')))
      assert.deepEqual([answer.server, answer.local, answer.localPort], ['director', local, ports[1]])
      assert.equal(answer.client, hostNamed('client').clients[family])
    }
  })
  // What is counted beside datagrams depends on what neighbours ask meanwhile.
  assert.equal(counts.pass_local_node, DATAGRAMS, textOf(counts))
  assert.equal(counts.forward_nat_reply, method === 'nat' ? DATAGRAMS : undefined, textOf(counts))
  const answer = await lab.client.http({ ...virtualEndpoint(service('tcp')), upload: BYTES })
  assert.deepEqual([answer.server, answer.local, answer.localPort], ['director', local, ports[0]])
  assert.equal(answer.bytes, BYTES)
}

for (const plane of ALL_PLANES)
  test(`${plane}: the director as its own real server, of both families`, { skip: missingFor(plane) }, (t) =>
    withDirector(plane, async (lab) => {
      await lab.startServer('director')
      for (const method of ['nat', 'direct-routing'] as const)
        for (const family of FAMILIES)
          await t.test(`${plane}: ${method}, ${family}`, () => checkMethod(lab, plane, method, family))
    }),
  )
