/** A daemon whose machine asks a name server that never answers, as resolv.conf(5) names it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ask } from '../front/ask.ts'
import { withDaemon } from './process.ts'

const skip = process.geteuid?.() === 0 ? false : 'needs root for a network and a mount namespace'

/** Far from the five seconds on a busy machine, and from the minutes that forty names take one after another. */
const LATE_MS = 20_000

/** Ends with the daemon whose namespaces it is in. */
const SILENT = `
  require('dgram').createSocket('udp4').bind(53, '127.0.0.1')
  const parent = process.ppid
  setInterval(() => process.ppid === parent || process.exit(), 100)
`
/** Becomes the command behind it, in namespaces of its own. */
const ELSEWHERE = [
  'unshare',
  ...['--net', '--mount', '--propagation', 'private', 'bash', '-ec'],
  `ip link set lo up
   mount -t tmpfs none /mnt
   echo 'nameserver 127.0.0.1' > /mnt/resolv.conf
   mount --bind /mnt/resolv.conf /etc/resolv.conf
   "$0" -e "${SILENT}" 2>/dev/null & exec "$@"`,
  process.execPath,
]

async function ipvsadm(socket: string, line: string, limitMs = 60_000): Promise<[string, number]> {
  const argv = ['ipvsadm', ...line.split(' ')]
  const startedAt = performance.now()
  const { headers, body } = await ask(socket, 'POST', '/v1/ipvsadm', {
    headers: { 'pointsman-argc': String(argv.length), 'content-type': 'application/octet-stream' },
    body: argv.map((word) => `${word}\0`).join(''),
    limitMs,
  })
  return [`${headers['pointsman-status']} ${body}`, performance.now() - startedAt]
}

test('a name server that never answers costs a command five seconds, and others nothing', { skip }, () =>
  withDaemon({ within: ELSEWHERE }, async ({ socket, child, ended }) => {
    for (let i = 1; i <= 40; i++) await ipvsadm(socket, `-A -t 10.0.0.${i}:80 -s rr`)
    await assert.rejects(ipvsadm(socket, '-L', 1000), /given up/)

    let isListed = false
    const listing = ipvsadm(socket, '-L').finally(() => {
      isListed = true
    })
    const [numbers] = await ipvsadm(socket, '-Ln')
    assert.match(numbers, /^0 .*10\.0\.0\.40:80/s)
    assert.equal(isListed, false, 'what needs no name comes before what waits for one')

    const [refused, refusedMs] = await ipvsadm(socket, '-A -t no-such-host.example:80')
    assert.match(refused, /^2 illegal virtual server address/)
    assert.ok(refusedMs < LATE_MS, `${refusedMs} ms`)
    const [listed, listedMs] = await listing
    assert.match(listed, /10\.0\.0\.40:http/)
    assert.ok(listedMs < LATE_MS, `${listedMs} ms`)

    void ipvsadm(socket, '-A -t another-host.example:80').catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 200))
    child.kill('SIGTERM')
    assert.equal(await ended(), 0)
  }),
)
