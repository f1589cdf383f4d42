import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { namesFrom } from '../../../../control/front/ipvsadm/names.ts'
import { runIpvsadm, STDIN_WANTED } from '../../../../control/front/ipvsadm/run.ts'
import type { Director } from '../../../../control/model/director.ts'
import { createDirector } from '../../../../control/rules/director.ts'
import { fixedHost } from '../../../../control/rules/host.ts'
import fc from '../../../property.ts'
import { commandLine, restoreInput } from './command-lines.ts'

const HOSTS = '10.0.0.1 vip.example\n10.0.0.9 localhost\n'
const SERVICES = 'http 80/tcp www\ndomain 53/tcp\ndomain 53/udp\n'
const STATUSES = new Set([0, 1, 2, 255])
const RUNS = 2000

function newDirector(): Director {
  return createDirector({
    host: fixedHost({
      interfaces: [{ name: 'eth0', ifindex: 2, mac: null, mtu: 1500, up: true, addresses: [] }],
    }),
  })
}

async function run(director: Director, argv: readonly (string | Uint8Array)[], stdin = '') {
  const result = await runIpvsadm({ argv, stdin, director, names: () => namesFrom(HOSTS, SERVICES) })
  if (result === STDIN_WANTED) throw new Error('standard input is there')
  return { ...result, stdout: result.stdout.toString('latin1'), stderr: result.stderr.toString('latin1') }
}

/** Everything a client can see of the desired state. */
function snapshot(director: Director): string {
  return JSON.stringify([director.rules(), director.timeouts(), director.daemons()])
}

describe('any command line', () => {
  test('ends with a status of ipvsadm and changes nothing when it is refused', async () => {
    const director = newDirector()
    await fc.assert(
      fc.asyncProperty(commandLine, async (words) => {
        const before = snapshot(director)
        const result = await run(director, ['ipvsadm', ...words], '')
        assert.ok(STATUSES.has(result.status), `status ${result.status}`)
        assert.equal(result.status === 0, result.stderr === '', result.stderr)
        if (result.status !== 0) assert.equal(snapshot(director), before)
      }),
      { numRuns: RUNS },
    )
  })

  test('of any words and bytes ends with a status of ipvsadm', async () => {
    const word = fc.uint8Array({ maxLength: 12 })
    await fc.assert(
      fc.asyncProperty(
        fc.array(word, { maxLength: 6 }),
        fc.constantFrom('-A', '-a', '-L', '-R', '-S', '--set'),
        async (words, first) => {
          const argv = [Buffer.from('ipvsadm'), Buffer.from(first), ...words]
          const result = await run(newDirector(), argv, Buffer.concat(words).toString('latin1'))
          assert.ok(STATUSES.has(result.status))
        },
      ),
      { numRuns: RUNS },
    )
  })

  test('of a restore ends with a status of ipvsadm', async () => {
    await fc.assert(
      fc.asyncProperty(restoreInput, async (input) => {
        const result = await run(newDirector(), ['ipvsadm', '-R'], input)
        assert.ok(STATUSES.has(result.status))
      }),
      { numRuns: RUNS / 4 },
    )
  })
})

/** What `-S` does not print: thresholds, masks and flags without effect, tunnels of other methods. */
const option = (name: string, values: readonly string[]) =>
  fc.option(fc.constantFrom(...values), { nil: null }).map((value) => (value === null ? [] : [name, value]))
const host4 = fc
  .nat(0x6fffffff)
  .map((n) => `${(n >>> 24) + 1}.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`)
const host6 = fc.nat(0xffff).map((n) => `[2001:db8::${n.toString(16)}]`)
const rule = fc.record({
  service: fc.oneof(
    fc
      .tuple(
        fc.constantFrom('-t', '-u', '--sctp-service'),
        fc.oneof(host4, host6),
        fc.integer({ min: 1, max: 65535 }),
      )
      .map(([kind, host, port]) => [kind, `${host}:${port}`]),
    fc.integer({ min: 1, max: 0x7fffffff }).map((mark) => ['-f', String(mark)]),
    fc.integer({ min: 1, max: 0x7fffffff }).map((mark) => ['-f', String(mark), '-6']),
  ),
  attributes: fc
    .tuple(
      fc.constantFrom(
        ['-s', 'rr'],
        ['-s', 'wlc', '-b', 'flag-1,flag-3'],
        ['-s', 'sh', '-b', 'sh-fallback,sh-port'],
        ['-s', 'mh', '-b', 'mh-port'],
        ['-s', 'none'],
      ),
      option('-p', ['1', '360', '2678400']),
      option('--pe', ['sip']),
    )
    .map((parts) => parts.flat()),
  servers: fc.array(
    fc
      .tuple(
        fc.oneof(host4, host6),
        fc.nat(65535),
        fc.constantFrom(
          ['-i'],
          ['-i', '--tun-type', 'gue', '--tun-port', '6080', '--tun-csum'],
          ['-i', '--tun-type', 'gue', '--tun-port', '1', '--tun-remcsum'],
          ['-i', '--tun-type', 'gre', '--tun-nocsum'],
          ['-m'],
          ['-g'],
        ),
        fc.integer({ min: 0, max: 2147483647 }),
      )
      .map(([host, port, method, weight]) => ['-r', `${host}:${port}`, ...method, '-w', String(weight)]),
    { maxLength: 5 },
  ),
})

test('what is saved restores to what is saved', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(rule, { maxLength: 6 }), async (rules) => {
      const director = newDirector()
      const lines = rules.flatMap(({ service, attributes, servers }) => [
        ['-A', ...service, ...attributes],
        ...servers.map((server) => ['-a', ...service, ...server]),
      ])
      for (const line of lines) await run(director, ['ipvsadm', ...line])
      const saved = await run(director, ['ipvsadm', '-Sn'])
      const other = newDirector()
      const restored = await run(other, ['ipvsadm', '-R'], saved.stdout)
      assert.deepEqual([restored.status, restored.stderr], [0, ''])
      assert.equal((await run(other, ['ipvsadm', '-Sn'])).stdout, saved.stdout)
    }),
    { numRuns: RUNS / 10 },
  )
})

test('a restore of 1,000 services with 10 real servers each is complete and listed', async () => {
  const lines: string[] = []
  for (let i = 0; i < 1000; i++) {
    const service = `-t 10.1.${i >> 8}.${i & 255}:80`
    lines.push(`-A ${service} -s wrr`)
    for (let j = 1; j <= 10; j++) lines.push(`-a ${service} -r 10.2.${i & 255}.${j}:8080 -m -w ${j}`)
  }
  const director = newDirector()
  const result = await run(director, ['ipvsadm', '-R'], lines.join('\n'))
  assert.deepEqual([result.status, result.stderr], [0, ''])
  const saved = await run(director, ['ipvsadm', '-Sn'])
  assert.equal(saved.stdout, `${lines.join('\n')}\n`)
})
