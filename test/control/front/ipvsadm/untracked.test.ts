/** `--untracked`, ours: said, listed, saved, and refused where connections have to be known. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { namesFrom } from '../../../../control/front/ipvsadm/names.ts'
import { runIpvsadm } from '../../../../control/front/ipvsadm/run.ts'
import { createDirector } from '../../../../control/rules/director.ts'
import { fixedHost } from '../../../../control/rules/host.ts'

function console() {
  const director = createDirector({ host: fixedHost() })
  return async (line: string): Promise<{ status: number; stdout: string; stderr: string }> => {
    const argv = ['ipvsadm', ...line.split(' ')]
    const result = await runIpvsadm({ argv, stdin: '', director, names: () => namesFrom('', '') })
    assert.ok(typeof result !== 'string')
    return { status: result.status, stdout: String(result.stdout), stderr: String(result.stderr) }
  }
}

const WEB = '-t 192.0.2.1:80'

test('it is listed, and saved as it is said', async () => {
  const run = console()
  await run(`-A ${WEB} -s mh -b mh-port --untracked`)
  await run(`-a ${WEB} -r 10.0.0.1 -i`)
  assert.match((await run('-Ln')).stdout, /^TCP {2}192\.0\.2\.1:80 mh \(mh-port\) untracked$/m)
  const saved = (await run('-Sn')).stdout
  assert.equal(saved.split('\n')[0], '-A -t 192.0.2.1:80 -s mh --untracked -b mh-port')
  const again = console()
  for (const line of saved.trimEnd().split('\n')) assert.equal((await again(line)).status, 0, line)
  assert.equal((await again('-Sn')).stdout, saved)
  await again(`-E ${WEB} -s mh -b mh-port`)
  assert.doesNotMatch((await again('-Ln')).stdout, /untracked/)
})

for (const [what, line, why] of [
  [
    'a scheduler that counts',
    `-A ${WEB} -s wlc --untracked`,
    /scheduler wlc chooses by more than the packet/,
  ],
  ['the default scheduler', `-A ${WEB} --untracked`, /use sh, dh or mh/],
  ['persistence', `-A ${WEB} -s sh -p 60 --untracked`, /persistence remembers clients/],
  ['one-packet scheduling', '-A -u 192.0.2.1:53 -s sh -o --untracked', /leave out -o/],
  ['a firewall mark', '-A -f 7 -s sh --untracked', /which packets have its mark may change/],
  ['SCTP', '-A --sctp-service 192.0.2.1:80 -s sh --untracked', /expected tcp or udp/],
] as const) {
  test(`${what} is refused`, async () => {
    const { status, stderr } = await console()(line)
    assert.notEqual(status, 0)
    assert.match(stderr, why)
  })
}

test('real servers that need tracking are refused, and the flag where there are some', async () => {
  const run = console()
  await run(`-A ${WEB} -s mh --untracked`)
  assert.match(
    (await run(`-a ${WEB} -r 10.0.0.1 -m`)).stderr,
    /"10\.0\.0\.1:80" are translated back; use -g or -i/,
  )
  assert.match((await run(`-a ${WEB} -r 10.0.0.1 -g -x 5`)).stderr, /are not counted; leave out -x and -y/)
  await run(`-a ${WEB} -r 10.0.0.1 -g`)
  assert.match((await run(`-e ${WEB} -r 10.0.0.1 -m`)).stderr, /are translated back/)
  await run(`-E ${WEB} -s mh`)
  await run(`-e ${WEB} -r 10.0.0.1 -m`)
  assert.match((await run(`-E ${WEB} -s mh --untracked`)).stderr, /"10\.0\.0\.1:80" are translated back/)
})
