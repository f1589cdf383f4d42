/** What must be refused is refused as ipvsadm would, changes nothing, and harms nobody. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lab } from '../../lab/lab.ts'
import { addServer, addService, allRules, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { FAMILIES, hostNamed, METHODS, topology } from '../../lab/topology.ts'
import { Random } from '../differential/random.ts'
import { concat, macBytes } from '../packets/bytes.ts'
import { ethernet, ipv4, ipv6, PROTOCOL, padOptions, raw, tcp, udp } from '../packets/frame.ts'
import { SEED } from '../property.ts'
import { everyFrameHasVerdict, missingFor, PLANES, sendFrames, takeAccount, withDirector } from './scene.ts'

const NAT: LabService = { method: 'nat', protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
const VIP = '10.9.9.9:80'
const EINVAL = 'Invalid operation.  Possibly wrong module version, address not unicast, ...'

/** Command line, exit status, what standard error holds. */
const REFUSED: readonly (readonly [string, number, string | RegExp])[] = [
  ['--bogus', 255, /^Try `.*ipvsadm -h' or '.*ipvsadm --help' for more information\.$/],
  ['-n -L', 255, /^Try `/],
  ['-A -E', 2, "invalid option `-E'"],
  ['-A', 2, "You need to supply the 'service-address' option for the 'add-service' command"],
  [`-A -t ${VIP} -r 10.0.2.11:80`, 2, "Illegal 'real-server' option with the 'add-service' command"],
  [`-A -t ${VIP} -t ${VIP}`, 2, "multiple 'service-address' options specified"],
  [`-A -t ${VIP} -s`, 255, /missing argument/],
  [`-A -t ${VIP} --bogus`, 255, '--bogus: unknown option'],
  [`-A -t ${VIP} left over`, 2, 'unexpected argument left'],
  ['-A -t 10.9.9.9:70000', 2, 'illegal virtual server address[:port] specified'],
  ['-A -t 10.9.9.9.9:80', 2, 'illegal virtual server address[:port] specified'],
  ['-A -t [2001:db8::1', 2, 'illegal virtual server address[:port] specified'],
  ['-A -t 10.9.9.9', 2, 'Zero port specified for non-persistent service'],
  ['-A -f 0', 2, "invalid fwmark value `0' specified"],
  [`-A -t ${VIP} -p 0`, 2, "invalid timeout value `0' specified"],
  [`-A -t ${VIP} -s nonsense`, 255, 'Scheduler or persistence engine not found'],
  [`-A -t ${VIP} -o`, 2, 'One-Packet Scheduling is only for UDP virtual services'],
  [`-A -t ${VIP} -s rr -b sh-port`, 2, "incompatible scheduler flag `sh-port'"],
  ['-A -t 192.0.2.100:80', 255, 'Service already exists'],
  [`-E -t ${VIP} -s rr`, 255, 'No such service'],
  [`-D -t ${VIP}`, 255, 'No such service'],
  [`-Z -t ${VIP}`, 255, 'No such service'],
  [`-L -t ${VIP}`, 1, 'No such service'],
  [`-a -t ${VIP} -r 10.0.2.11:80 -m`, 255, 'Service not defined'],
  ['-a -t 192.0.2.100:80 -r 10.0.2.11:8080 -m', 255, 'Destination already exists'],
  ['-e -t 192.0.2.100:80 -r 10.0.2.99:8080 -m', 255, 'No such destination'],
  ['-d -t 192.0.2.100:80 -r 10.0.2.99:8080', 255, 'No such destination'],
  ['-a -t 192.0.2.100:80 -r 0.0.0.0:80 -m', 255, EINVAL],
  ['-a -t 192.0.2.100:80 -r 224.0.0.1:80 -m', 255, EINVAL],
  ['-a -t 192.0.2.100:80 -r 10.0.2.99:80 -m -w -1', 2, 'illegal weight specified'],
  ['-a -t 192.0.2.100:80 -r 10.0.2.99:80 -m -g', 2, "multiple 'forwarding-method' options specified"],
  ['-a -t 192.0.2.100:80 -r 10.0.2.99:80 -m -x 1 -y 2', 255, 'Numerical result out of range'],
  [
    '-a -t 192.0.2.100:80 -r [2001:db8:2::11]:80 -m',
    2,
    'Different address family is allowed only for tunneling servers',
  ],
  [
    '-a -t 192.0.2.100:80 -r 10.0.2.99:80 -m --tun-type gre',
    2,
    'Tunnel options conflict with forward method',
  ],
  [
    '-a -t 192.0.2.100:80 -r 10.0.2.99:80 -i --tun-type gue',
    2,
    "You need to supply the 'tun-port' option for the 'gue' tunnel type",
  ],
  ['--set 1 2', 2, '--set option requires 3 timeout values'],
  ['--set 1 2 9999999', 2, "invalid timeout value `9999999' specified"],
  ['--stop-daemon master', 255, 'No daemon is running'],
  ['-L -c --stats', 2, 'options conflicts in the list command'],
  [
    '-L --timeout --daemon',
    2,
    "The option 'daemon' conflicts with the 'timeout' option in the 'list' command",
  ],
]

/** Everything a refused command might have changed. */
async function everything(lab: Lab): Promise<string> {
  const parts = ['-Sn', '-Ln --thresholds', '-L --timeout', '-L --daemon', '-Ln --stats --exact']
  return (await Promise.all(parts.map((words) => lab.director.rule(words)))).join('\n')
}

test('xdp: wrong command lines exit as ipvsadm does and change nothing', { skip: missingFor('xdp') }, (t) =>
  withDirector('xdp', async (lab) => {
    await lab.director.restore(allRules(NAT))
    const before = await everything(lab)
    for (const [words, status, message] of REFUSED)
      await t.test(`ipvsadm ${words}`, async () => {
        const result = await lab.director.ipvsadm(words.split(' '))
        assert.equal(result.status, status, result.stderr)
        if (typeof message === 'string') assert.equal(result.stderr.trimEnd(), message)
        else assert.match(result.stderr.trimEnd(), message)
        assert.equal(result.stdout, '')
        assert.equal(await everything(lab), before)
      })

    await t.test('ipvsadm without a daemon says how to start one', async () => {
      const { director } = lab
      await director.end('SIGTERM')
      const result = await director.ipvsadm(['-Ln'])
      assert.equal(result.status, 2)
      assert.match(result.stderr, /pointsmand/)
      assert.ok(result.stderr.includes(director.socket), 'it names the socket it tried')
    })
  }),
)

/** Method, path, body, status, path of what is wrong (null: any). */
const MALFORMED: readonly (readonly [string, string, string | undefined, number, string | null])[] = [
  ['GET', '/v1/nothing', undefined, 404, null],
  ['PUT', '/v1/services/tcp/10.9.9.9/80', '{', 400, null],
  ['PUT', '/v1/services/tcp/10.9.9.9/80', '[]', 400, 'body'],
  ['PUT', '/v1/services/tcp/10.9.9.9/80', '{"scheduler":7}', 400, 'body.scheduler'],
  ['PUT', '/v1/services/tcp/10.9.9.9/80', '{"scheduler":"rr","colour":"red"}', 400, 'body.colour'],
  ['PUT', '/v1/services/tcp/10.9.9.9/80', '{"scheduler":"nonsense"}', 404, 'body'],
  ['PUT', '/v1/services/tcp/10.9.9.9/70000', '{"scheduler":"rr"}', 400, 'params.port'],
  ['PUT', '/v1/services/tcp/10.9.9.999/80', '{"scheduler":"rr"}', 400, 'params.address'],
  ['PUT', '/v1/services/icmp/10.9.9.9/80', '{"scheduler":"rr"}', 400, 'params.protocol'],
  [
    'PUT',
    '/v1/services/tcp/10.9.9.9/80',
    '{"scheduler":"rr","servers":[{"address":"10.0.2.11","port":80,"weight":-1}]}',
    400,
    'body.servers.0.weight',
  ],
  ['PUT', '/v1/services/tcp/10.9.9.9/80/servers/10.0.2.11/80', '{"method":"nat"}', 404, null],
  ['DELETE', '/v1/services/tcp/10.9.9.9/80', undefined, 404, null],
  ['PUT', '/v1/timeouts', '{"tcp":"long"}', 400, 'body.tcp'],
  ['PUT', '/v1/sysctls/no_such_thing', '{"value":1}', 404, null],
]

test(
  'xdp: a malformed API request gets a 4xx with the path of what is wrong',
  { skip: missingFor('xdp') },
  (t) =>
    withDirector('xdp', async (lab) => {
      await lab.director.restore(allRules(NAT))
      const before = await everything(lab)
      for (const [method, path, body, status, where] of MALFORMED)
        await t.test(`${method} ${path} ${body ?? ''}`, async () => {
          const answer = await lab.director.api(method, path, body)
          assert.equal(answer.status, status, answer.body)
          const { error } = JSON.parse(answer.body) as { error: { path: string; message: string } }
          assert.notEqual(error.message, '')
          if (where !== null) assert.equal(error.path, where, answer.body)
          assert.equal(await everything(lab), before)
        })
    }),
)

/** Frames that are wrong in a way of their own, and then pure noise, addressed to the director. */
function garbage(): Uint8Array[] {
  const to = { src: hostNamed('client').clients.mac, dst: hostNamed('director').clients.mac }
  const { ipv4: src, ipv6: src6 } = hostNamed('client').clients
  const { ipv4: dst, ipv6: dst6 } = topology.virtual.nat
  const header = concat(macBytes(to.dst), macBytes(to.src))
  const random = new Random(SEED)
  const whole = [
    ethernet(to, ipv4({ src, dst }, tcp({ sport: 4000, dport: 80, flags: 'S' }))),
    ethernet(to, ipv4({ src, dst, df: true }, udp({ sport: 4000, dport: 7 }))),
    ethernet(to, ipv6({ src: src6, dst: dst6 }, tcp({ sport: 4000, dport: 80, flags: 'S' }))),
  ]
  return [
    // every length a frame can be cut to
    ...whole.flatMap((frame) =>
      Array.from({ length: frame.length }, (_, length) => frame.subarray(0, length + 1)),
    ),
    ...[0, 1, 4, 15].map((headerLength) =>
      ethernet(to, ipv4({ src, dst, headerLength }, tcp({ sport: 4001, dport: 80, flags: 'S' }))),
    ),
    ...[0, 19, 20, 39, 65535].map((totalLength) =>
      ethernet(to, ipv4({ src, dst, totalLength }, tcp({ sport: 4002, dport: 80, flags: 'S' }))),
    ),
    ethernet(to, ipv4({ src, dst, version: 5 }, tcp({ sport: 4003, dport: 80, flags: 'S' }))),
    ethernet(to, ipv4({ src, dst, checksum: 0xdead }, tcp({ sport: 4004, dport: 80, flags: 'S' }))),
    ethernet(to, ipv4({ src: dst, dst }, tcp({ sport: 80, dport: 80, flags: 'S' }))),
    ethernet(to, ipv4({ src: '255.255.255.255', dst }, tcp({ sport: 4005, dport: 80, flags: 'S' }))),
    ethernet(to, ipv4({ src, dst, mf: true }, tcp({ sport: 4006, dport: 80, flags: 'S' }))),
    ethernet(to, ipv4({ src, dst, fragmentOffset: 65528 }, raw(PROTOCOL.tcp, 'xxxx'))),
    ethernet(
      to,
      ipv6({ src: src6, dst: dst6, payloadLength: 65535 }, tcp({ sport: 4007, dport: 80, flags: 'S' })),
    ),
    ethernet(
      to,
      ipv6({ src: src6, dst: dst6, nextHeader: PROTOCOL.hopByHop }, raw(PROTOCOL.tcp, new Uint8Array(2))),
    ),
    ethernet(
      to,
      ipv6(
        {
          src: src6,
          dst: dst6,
          extensions: Array.from({ length: 30 }, () => padOptions(PROTOCOL.destination)),
        },
        tcp({ sport: 4008, dport: 80, flags: 'S' }),
      ),
    ),
    // noise of any length behind every ethertype that is looked into
    ...[0x0800, 0x86dd, 0x8100, 0x88a8, 0x0806, 0xffff].flatMap((type) =>
      Array.from({ length: 300 }, (_, i) =>
        concat(header, Uint8Array.of(type >> 8, type & 0xff), random.bytes((i * 5) % 1501)),
      ),
    ),
    // noise that begins like a packet for the service
    ...whole.flatMap((frame) =>
      Array.from({ length: 300 }, (_, i) => {
        const at = 14 + (i % (frame.length - 14))
        return concat(frame.subarray(0, at), random.bytes(Math.max(1, (i * 7) % 400)))
      }),
    ),
  ]
}

for (const plane of PLANES)
  test(`${plane}: garbage frames harm neither the director nor its stack`, { skip: missingFor(plane) }, () =>
    withDirector(plane, async (lab) => {
      const { director } = lab
      for (const method of METHODS)
        for (const family of FAMILIES) {
          const service = { ...NAT, method, family, serverFamily: family }
          await director.restore([addService(service), addServer(service, hostNamed('rs1'))])
        }
      const before = await takeAccount(lab)
      const sent = await sendFrames(lab, 'client', topology.wires.clients.interface, garbage())
      assert.ok(sent > 2000, `only ${sent} frames were sent`)

      // Each has a verdict, and none of them ended anything.
      await everyFrameHasVerdict(lab, before)
      assert.ok(director.running())
      for (const family of FAMILIES) {
        const ping = await lab.exec('client', ['ping', '-c', '1', '-w', '20', topology.virtual.nat[family]])
        assert.equal(ping.status, 0, ping.stdout)
      }
      for (const method of METHODS)
        for (const family of FAMILIES) {
          const answer = await lab.client.http(virtualEndpoint({ ...NAT, method, family }))
          assert.equal(answer.server, 'rs1')
        }
    }),
  )
