/**
 * What an operator does with the package, in order, on the virtual machine. Bundled and run there; prints
 * one line of JSON per step.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { type CommandResult, run, sleep, until } from '../../lab/command.ts'
import { packetTests } from './packets.ts'
import { stackedDevices } from './stacked.ts'
import { expect, PATIENCE_MS, sh, showWithFailures, step, tell, Wrong } from './story.ts'
import { type Asked, inNamespace, Traffic } from './talking.ts'
import { isTraffic, SERVER_PORT } from './traffic.ts'

const DEB = '/job/pointsman.deb'
const VIRTUAL = '10.9.0.1'
const SERVERS = ['10.2.0.11', '10.2.0.12']
/** CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON and CAP_BPF, as /proc prints a set. */
const FOUR = ((1n << 12n) | (1n << 13n) | (1n << 38n) | (1n << 39n)).toString(16).padStart(16, '0')

const RULES = [
  `-A -t ${VIRTUAL}:80 -s rr`,
  ...SERVERS.map((server) => `-a -t ${VIRTUAL}:80 -r ${server}:${SERVER_PORT} -m -w 1`),
]

const CLIENTS: Asked = {
  namespace: 'clients',
  address: VIRTUAL,
  restore: async () => {
    await run(['ipvsadm-restore'], { input: `${RULES.join('\n')}\n` })
  },
}

const INTERFACES = '--interface c0 --interface s0'
const OPTIONS = `${INTERFACES} --socket-group pointsman --read-only-socket`

/** Of `systemd-analyze security`: 0 is a program that can do nothing, 10 one that can do everything. */
const EXPOSURE_MOST = 3

// ---- the service

async function property(name: string): Promise<string> {
  return sh(`systemctl show --value -p ${name} pointsmand`)
}

function systemctl(...words: readonly string[]): Promise<CommandResult> {
  return run(['systemctl', ...words], { timeoutMs: PATIENCE_MS })
}

async function succeeds(...words: readonly string[]): Promise<void> {
  const result = await systemctl(...words)
  if (result.status === 0) return
  throw new Wrong(`systemctl ${words.join(' ')}: ${result.stderr}`)
}

function log(lines: number): Promise<string> {
  return sh(`journalctl --no-pager -o cat -u pointsmand -n ${lines}`)
}

async function configure(options: string): Promise<void> {
  writeFileSync('/etc/default/pointsmand', `POINTSMAND_OPTIONS="${options}"\n`)
}

async function untilForwarding(what: string, seconds = PATIENCE_MS / 1000): Promise<number> {
  const startedAt = performance.now()
  await until(what, seconds * 1000, async () =>
    (await run(['pointsman', 'status'])).status === 0 ? true : undefined,
  ).catch(async (error: Error) => {
    const status = await run(['pointsman', 'status'])
    throw new Wrong(`${error.message}\n${status.stdout}${status.stderr}`)
  })
  return Math.round((performance.now() - startedAt) / 100) / 10
}

async function attachedPrograms(): Promise<string[]> {
  const links = JSON.parse(await sh('ip -json -details link show')) as { ifname: string; xdp?: object }[]
  return links.filter(({ xdp }) => xdp !== undefined).map(({ ifname }) => ifname)
}

// ---- the network

/** Clients and servers in namespaces of their own, this machine between them. */
async function layNetwork(): Promise<void> {
  await sh(`
    sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
    for side in c:clients:10.1.0 s:servers:10.2.0; do
      letter=\${side%%:*}; rest=\${side#*:}; name=\${rest%%:*}; net=\${rest#*:}
      ip netns add $name
      ip link add \${letter}0 type veth peer name \${letter}1 netns $name
      ip addr add $net.1/24 dev \${letter}0
      ip netns exec $name ip link set lo up
      ip netns exec $name ip link set \${letter}1 up
      ip link set \${letter}0 up
      # Frames that XDP sends out of one end arrive only where the other takes them by NAPI.
      ip netns exec $name ethtool -K \${letter}1 gro on tx off >/dev/null
      ethtool -K \${letter}0 tx off >/dev/null
    done
    ip netns exec clients ip addr add 10.1.0.2/24 dev c1
    ip netns exec clients ip route add default via 10.1.0.1
    for address in ${SERVERS.join(' ')}; do ip netns exec servers ip addr add $address/24 dev s1; done
    ip netns exec servers ip route add default via 10.2.0.1`)
}

// ---- the story

async function installAndStart(): Promise<void> {
  await step('dpkg -i: installed, enabled, running', async () => {
    await sh(`dpkg -i ${DEB}`)
    const [enabled, active] = await Promise.all([
      systemctl('is-enabled', 'pointsmand'),
      systemctl('is-active', 'pointsmand'),
    ])
    expect(enabled.stdout.trim() === 'enabled', `is ${enabled.stdout.trim()}`)
    expect(active.stdout.trim() === 'active', `is ${active.stdout.trim()}`)
    return `systemd ${await sh(`systemctl --version | awk 'NR == 1 { print $2 }'`)}, Linux ${await sh('uname -r')}, Node ${process.version}`
  })
  await step('the process has four capabilities and is in the sandbox', async () => {
    const status = readFileSync(`/proc/${await property('MainPID')}/status`, 'utf8')
    const value = (name: string): string => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? ''
    for (const set of ['CapEff', 'CapPrm', 'CapBnd']) expect(value(set) === FOUR, `${set} is ${value(set)}`)
    expect(value('NoNewPrivs') === '1', 'new privileges are possible')
    expect(value('Seccomp') === '2', 'system calls are not filtered')
    const exposure = await sh(
      `systemd-analyze security --no-pager pointsmand | sed -n 's/.*exposure level[^:]*: //p'`,
    )
    const number = Number.parseFloat(exposure)
    expect(number <= EXPOSURE_MOST, `systemd-analyze security says ${exposure}`)
    return `CapEff ${FOUR}, exposure ${exposure}`
  })
  await step('interfaces that come later are waited for', async () => {
    await configure(OPTIONS)
    const started = await systemctl('restart', '--no-block', 'pointsmand')
    expect(started.status === 0, started.stderr)
    await sleep(8000)
    await layNetwork()
    const seconds = await untilForwarding('both interfaces to be attached')
    const attached = await attachedPrograms()
    expect(
      ['c0', 's0'].every((name) => attached.includes(name)),
      `attached: ${attached.join(' ')}`,
    )
    expect((await property('NRestarts')) === '0', `${await property('NRestarts')} restarts until then`)
    expect((await property('StartLimitIntervalUSec')) === '0', 'a service that fails for long is given up')
    return `attached ${seconds} s after they came, no restart until then`
  })
  await step('rules in the words of ipvsadm', async () => {
    for (const rule of RULES) await sh(`ipvsadm ${rule}`)
    const saved = await sh('ipvsadm-save -n')
    expect(saved === RULES.join('\n'), `saved are\n${saved}`)
    const listing = await sh('ipvsadm -Ln')
    expect(listing.split('\n').length === 6, listing)
    return `${RULES.length} rules saved as they were given`
  })
}

async function onePlane(name: string, traffic: Traffic): Promise<void> {
  const mainPid = (): Promise<string> => property('MainPID')
  const on = async (what: string, body: () => Promise<string>): Promise<void> => {
    if (!(await step(`${name}: ${what}`, () => traffic.through(body)))) await traffic.mend()
  }
  const keepsRules = async (): Promise<void> => {
    const saved = await sh('ipvsadm -Sn')
    expect(saved === RULES.join('\n'), `rules are now\n${saved}`)
  }

  await on('traffic flows', async () => {
    const { dataplane } = JSON.parse(await sh('pointsman status --json')) as {
      readonly dataplane: { readonly kind: string; readonly reason: string }
    }
    expect(dataplane.kind === name, `the data plane is ${dataplane.kind}: ${dataplane.reason}`)
    return dataplane.reason
  })
  await on('systemctl restart under traffic', async () => {
    const before = await mainPid()
    await succeeds('restart', 'pointsmand')
    expect((await mainPid()) !== before, 'it is the same process')
    await keepsRules()
    return `ready after ${await untilForwarding('forwarding after a restart')} s`
  })
  await on('systemctl reload keeps the process', async () => {
    const before = await mainPid()
    await succeeds('reload', 'pointsmand')
    await sleep(1500)
    expect((await mainPid()) === before, 'it is another process')
    await keepsRules()
    return ''
  })
  await on('kill -9 is followed by a start', async () => {
    const before = await mainPid()
    const restarts = Number(await property('NRestarts'))
    await sh(`kill -9 ${before}`)
    await until('another process', 30_000, async () =>
      ['0', before].includes(await mainPid()) ? undefined : true,
    )
    const seconds = await untilForwarding('forwarding after a kill')
    expect(
      Number(await property('NRestarts')) === restarts + 1,
      `NRestarts is ${await property('NRestarts')}`,
    )
    await keepsRules()
    return `forwarding is confirmed after ${seconds} s`
  })
  await on('stopped and started again', async () => {
    await succeeds('stop', 'pointsmand')
    await traffic.flows()
    await succeeds('start', 'pointsmand')
    await untilForwarding('forwarding after a start')
    await keepsRules()
    return 'traffic went on while it was stopped'
  })
}

async function lessUsual(traffic: Traffic): Promise<void> {
  await step('a member of the group operates it, others look', async () => {
    await sh('useradd --no-user-group -G pointsman attendant; useradd --no-user-group visitor')
    const as = (user: string, command: string): Promise<CommandResult> =>
      run(['setpriv', `--reuid=${user}`, '--regid=nogroup', '--init-groups', 'sh', '-c', command])
    const may = await as(
      'attendant',
      `ipvsadm -E -t ${VIRTUAL}:80 -s wrr && ipvsadm -E -t ${VIRTUAL}:80 -s rr`,
    )
    expect(may.status === 0, `attendant: ${may.stderr}`)
    const sockets = await sh("stat -c '%G %a %n' /run/pointsman/*.sock")
    for (const socket of ['pointsman 660 pointsman.sock', 'root 666 pointsman-read.sock'])
      expect(sockets.replaceAll('/run/pointsman/', '').includes(socket), sockets)
    const may2 = await as('visitor', 'pointsman status')
    expect(may2.status === 0, `visitor: ${may2.stderr}${may2.stdout}`)
    for (const command of ['ipvsadm -C', 'pointsman set sloppy_tcp=1', 'pointsman detach']) {
      const mayNot = await as('visitor', command)
      expect(mayNot.status !== 0, `visitor may do: ${command}`)
    }
    await sh('userdel attendant; userdel visitor')
    return 'a visitor sees the status and changes nothing'
  })
  await step('a frozen daemon is found by the watchdog', () =>
    traffic.through(async () => {
      const before = await property('MainPID')
      await sh(`kill -STOP ${before}`)
      await until('the watchdog', 150_000, async () =>
        ['0', before].includes(await property('MainPID')) ? undefined : true,
      )
      const seconds = await untilForwarding('forwarding after that')
      return `started again, forwarding is confirmed after ${seconds} s`
    }),
  )
  await step('an upgrade under traffic', () =>
    traffic.through(async () => {
      const before = await property('MainPID')
      await sh(`dpkg -i ${DEB}`)
      expect((await property('MainPID')) !== before, 'the daemon was not started again')
      await untilForwarding('forwarding after an upgrade')
      return `the configured options stayed: ${readFileSync('/etc/default/pointsmand', 'utf8').trim()}`
    }),
  )
}

/** A director that was told to detach stays detached, until it is started. */
async function detach(name: string, traffic: Traffic): Promise<void> {
  await step(`${name}: detach stays detached`, async () => {
    await sh('pointsman detach')
    await traffic.stops()
    await sleep(4000)
    const [state, result] = [await property('ActiveState'), await property('Result')]
    expect(state === 'inactive' && result === 'success', `the service is ${state}, ${result}`)
    expect((await attachedPrograms()).length === 0, `attached: ${(await attachedPrograms()).join(' ')}`)
    const left = processesOf('/usr/lib/pointsman')
    expect(left.length === 0, `still running: ${left.join(', ')}`)
    const tables = await sh('nft list tables')
    expect(!tables.includes('pointsman'), tables)
    return `the service is ${state}, no program is attached, no table of nftables, no process`
  })
  traffic.end()
}

/** Processes whose command line is about a folder. */
function processesOf(folder: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      } catch {
        return ''
      }
    })
    .filter((line) => line.includes(folder))
}

async function start(options: string): Promise<Traffic> {
  await configure(options)
  await succeeds('start', 'pointsmand')
  await untilForwarding('forwarding')
  const restored = await run(['ipvsadm-restore'], { input: `${RULES.join('\n')}\n` })
  expect(restored.status === 0, restored.stderr)
  return new Traffic(CLIENTS)
}

async function fromKernelIpvs(): Promise<void> {
  await step("Debian's ipvsadm beside ours: rules move over from kernel IPVS", async () => {
    await sh('dpkg -i /job/ipvsadm.deb')
    await sh('modprobe ip_vs && modprobe ip_vs_rr')
    const rule = '-A -t 10.9.0.7:443 -s rr -p 300'
    await sh(`ipvsadm.ipvs ${rule}; ipvsadm.ipvs -a -t 10.9.0.7:443 -r 10.2.0.11:443 -m`)
    await sh('ipvsadm.ipvs -Sn | ipvsadm -R')
    const [theirs, ours] = [
      await sh('ipvsadm.ipvs -Sn'),
      await sh('ipvsadm -Sn -t 10.9.0.7:443 2>/dev/null || ipvsadm -Sn'),
    ]
    expect(
      theirs.split('\n').every((line) => ours.includes(line)),
      `theirs:\n${theirs}\nours:\n${ours}`,
    )
    await sh('ipvsadm -D -t 10.9.0.7:443; ipvsadm.ipvs -C; dpkg -P ipvsadm; modprobe -r ip_vs_rr ip_vs')
    return `${theirs.split('\n').length} rules; ${readlinkSync('/usr/sbin/ipvsadm')} is still ours afterwards`
  })
}

async function leave(traffic: Traffic): Promise<void> {
  await step('what the daemon logged as errors', async () => {
    const lines = (await sh('journalctl --no-pager -o cat -u pointsmand')).split('\n')
    const errors = lines.filter((line) => /"level":(50|60)/.test(line))
    expect(errors.length === 0, errors.slice(0, 8).join('\n'))
    return `none in ${lines.length} lines`
  })
  await step('dpkg -r: the service is gone, packets are still forwarded', () =>
    traffic.through(async () => {
      await sh('dpkg -r pointsman')
      expect((await systemctl('is-active', 'pointsmand')).stdout.trim() !== 'active', 'it still runs')
      expect(!existsSync('/usr/lib/pointsman'), '/usr/lib/pointsman is still there')
      return `attached: ${(await attachedPrograms()).join(' ')}`
    }),
  )
  await step('dpkg -P: nothing is left', async () => {
    await sh('dpkg -P pointsman')
    await traffic.stops()
    traffic.end()
    const left = (
      await sh(`find / -xdev -name '*pointsman*' -not -path '/job/*' -not -path '/proc/*' -not -path '/var/log/*' -not -path '/var/cache/*'
        find /run /sys/fs/bpf /dev/shm -name '*pointsman*' 2>/dev/null || true
        getent group pointsman || true; nft list tables | grep pointsman || true; dpkg-divert --list | grep ipvs || true`)
    )
      .split('\n')
      .filter((line) => line !== '')
    const processes = processesOf('pointsman').filter((line) => !line.includes('/job/'))
    const attached = await attachedPrograms()
    const all = [...left, ...processes, ...attached]
    expect(all.length === 0, `left: ${all.join(', ')}`)
    return 'no file, pin, group, table, diversion, process or program'
  })
}

async function main(parts: readonly string[]): Promise<void> {
  if (!parts.includes('package')) {
    // Its programs, and no service.
    await sh(`dpkg -x ${DEB} /`)
    if (parts.includes('stacked')) await stackedDevices()
    if (parts.includes('packets')) await packetTests()
    return
  }
  showWithFailures(() => log(20))
  await installAndStart()
  const server = inNamespace('servers', 'server', ...SERVERS)
  await new Promise((resolve) => server.once('message', resolve))
  let traffic = new Traffic(CLIENTS)
  await onePlane('xdp', traffic)
  await lessUsual(traffic)
  await detach('xdp', traffic)
  await step('a configuration that is wrong is said, and mended without anything else', async () => {
    await configure(`${OPTIONS} --dataplane wheelbarrow`)
    await systemctl('start', '--no-block', 'pointsmand')
    await until('two starts to fail', PATIENCE_MS, async () =>
      Number(await property('NRestarts')) >= 2 ? true : undefined,
    )
    expect((await log(40)).includes('wheelbarrow'), 'the log does not name it')
    await configure(`${OPTIONS} --dataplane userspace`)
    await until('it to start by itself', PATIENCE_MS, async () =>
      (await property('ActiveState')) === 'active' ? true : undefined,
    )
    return `after ${await property('NRestarts')} failures`
  })
  await step('userspace: started by a word in the default file', async () => {
    traffic = await start(`${OPTIONS} --dataplane userspace`)
    return `attached by XDP: ${(await attachedPrograms()).length}`
  })
  await onePlane('userspace', traffic)
  await detach('userspace', traffic)
  await step('xdp again', async () => {
    traffic = await start(OPTIONS)
    return `attached: ${(await attachedPrograms()).join(' ')}`
  })
  await fromKernelIpvs()
  if (parts.includes('stacked')) await stackedDevices()
  if (parts.includes('packets')) await packetTests()
  showWithFailures(() => log(20))
  await leave(traffic)
  server.kill('SIGKILL')
}

const words = process.argv.slice(2)
if (!isTraffic(words)) {
  await main(words).catch((error: Error) =>
    tell({ name: 'the story', passed: false, detail: error.message, seconds: 0 }),
  )
  process.exit(0)
}
