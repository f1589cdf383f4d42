/** The examples of the manual pages, as pasted, on a machine of their own that has what they name. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { packageRoot } from '../../dataplane/assets.ts'
import { executable } from '../../lab/director.ts'
import { missingFor } from './scene.ts'

/** Literal blocks below EXAMPLES, one list of lines for each page. */
function examplesOf(page: string): string {
  const text = readFileSync(new URL(`../../man/${page}`, import.meta.url), 'utf8')
  const examples = text.slice(text.indexOf('.Sh EXAMPLES'), text.indexOf('.Sh SEE ALSO'))
  const blocks = [...examples.matchAll(/^\.Bd -literal[^\n]*\n(.*?)^\.Ed$/gms)].map(([, lines]) => lines!)
  return blocks.join('').replaceAll('\\e\n', '\\\n').replaceAll('\\-', '-')
}

/** Two interfaces, addresses, rules of an earlier director, and somebody who sends all the time. */
const MACHINE = `
mount --make-rprivate /
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs run /run
cp -a /etc "$SCRATCH/etc" && mount --bind "$SCRATCH/etc" /etc
mkdir "$SCRATCH/tmp" && mount -t tmpfs tmp "$SCRATCH/tmp"
case $PACKAGE in /tmp/*) mkdir -p "$SCRATCH$PACKAGE" && mount --bind "$PACKAGE" "$SCRATCH$PACKAGE" ;; esac
mount --rbind "$SCRATCH/tmp" /tmp
ip link set lo up
ip link add eth0 type veth peer name clients
ip link add eth1 type veth peer name servers
for one in eth0 clients eth1 servers; do ip link set $one up; done
ip addr add 192.0.2.1/24 dev eth0
ip addr add 10.0.2.1/24 dev eth1
ip addr add 203.0.113.1/24 dev clients
printf -- '-A -t 192.0.2.100:80 -s rr\\n-a -t 192.0.2.100:80 -r 10.0.2.11:80 -m -w 1\\n' > /etc/ipvsadm.rules
ip neigh add 203.0.113.9 lladdr $(cat /sys/class/net/eth0/address) dev clients
ping -q -i 0.02 203.0.113.9 > /dev/null &
`

test('every command among the examples of the manual pages works', { skip: missingFor('xdp') }, () => {
  const [daemon, client] = ['pointsmand.8', 'pointsman.8'].map(examplesOf) as [string, string]
  assert.match(daemon, /^pointsmand .*--metrics-listen .*--web /ms)
  for (const word of ['top', 'events', 'explain', 'snapshot', 'record'])
    assert.match(client, new RegExp(`^pointsman ${word}\\b`, 'm'))
  const scratch = mkdtempSync(join(tmpdir(), 'pointsman-manuals-'))
  try {
    const { status, stdout, stderr } = spawnSync(
      'unshare',
      // Who ends first takes all others along.
      [
        '--net',
        '--mount',
        '--pid',
        '--fork',
        '--kill-child',
        '--mount-proc',
        'bash',
        '-e',
        '-x',
        '-c',
        MACHINE + daemon + client,
      ],
      {
        encoding: 'utf8',
        // unshare heeds no other, once it has forked.
        ...{ timeout: 120_000, killSignal: 'SIGKILL' },
        env: {
          ...process.env,
          ...{
            SCRATCH: scratch,
            PACKAGE: packageRoot(),
            PATH: `${dirname(executable('ipvsadm'))}:${process.env.PATH}`,
          },
        },
      },
    )
    assert.equal(status, 0, `${stdout}\n${stderr}`)
    assert.match(stdout, /^pointsman_real_servers 1$/m)
    assert.match(stdout, /forward_nat|drop_next_hop/, 'what becomes of the packet')
  } finally {
    rmSync(scratch, { recursive: true })
  }
})
