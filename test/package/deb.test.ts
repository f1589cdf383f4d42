/** The Debian package: what is in it, and what it does to a machine, with and without Debian's own ipvsadm. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { must, run } from '../../lab/command.ts'
import { repository } from './installation.ts'
import { inCopy, missingForCopy } from './machine-copy.ts'
import { builtFiles } from './product.ts'

const scratch = mkdtempSync(join(tmpdir(), 'pointsman-deb-test-'))
const packages = join(scratch, 'packages')
const place = join(scratch, 'place')
mkdirSync(packages)
mkdirSync(place)
const missing = await missingForCopy(place)
const architecture = execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim()
const DEB = '/tmp/packages/pointsman.deb'
let deb = ''

async function build(...options: string[]): Promise<string> {
  const words = ['run', '--silent', 'package', '--', '--output', packages, ...options]
  const text = await must(['npm', ...words], { cwd: repository, timeoutMs: 280_000 })
  return text.trim().split('\n').at(-1)!
}

/** A package of one kind of file: shell scripts that say who they are. */
async function fake(name: string, version: string, paths: readonly string[], says: string): Promise<void> {
  const root = join(scratch, `fake-${name}-${says}`)
  for (const path of paths) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), `#!/bin/sh\necho ${says}\n`)
    chmodSync(join(root, path), 0o755)
  }
  mkdirSync(join(root, 'DEBIAN'), { recursive: true })
  writeFileSync(
    join(root, 'DEBIAN/control'),
    `Package: ${name}\nVersion: ${version}\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a stand-in\n`,
  )
  await must(['dpkg-deb', '--root-owner-group', '--build', root, join(packages, `${says}.deb`)])
}

/** Runs a script in a copy of this machine that has neither ipvsadm nor pointsman, but all pointsman needs. */
async function onMachine(script: string): Promise<string> {
  const prepare = `
    exec 3>&1 1>&2
    # The index of man pages, made anew after every change.
    rm -f /var/lib/man-db/auto-update
    # ldirectord, for one, would keep ipvsadm from going.
    needing=$(dpkg-query -W -f '\${Package}\t\${Depends}\n' | awk -F '\t' '$2 ~ /(^|[ ,|])ipvsadm([ ,|]|$)/ { print $1 }')
    dpkg --purge $needing ipvsadm pointsman
    dpkg-query -W -f '\${Status}' nodejs | grep -q 'ok installed' || dpkg -i /tmp/packages/node.deb
    exec 1>&3 3>&-
    quietly() { "$@" >/tmp/log 2>&1 || { cat /tmp/log >&2; return 1; }; }
  `
  const { status, stdout, stderr } = await inCopy(place, packages, prepare + script)
  assert.equal(status, 0, stderr)
  return stdout
}

before(async () => {
  deb = await build()
  await must(['cp', deb, join(packages, 'pointsman.deb')])
  const programs = ['ipvsadm', 'ipvsadm-save', 'ipvsadm-restore']
  const pages = programs.map((name) => `usr/share/man/man8/${name}.8.gz`)
  // Where Debian 12 has them, and Debian 13.
  for (const folder of ['sbin', 'usr/sbin'])
    await fake(
      'ipvsadm',
      '1:1.31-1',
      [...programs.map((name) => `${folder}/${name}`), ...pages],
      `kernel-${folder.replace('/', '-')}`,
    )
  await fake('nodejs', '20.0.0', [], 'node')
})
after(() => rmSync(scratch, { recursive: true, force: true }))

test('it is named, versioned and owned as it should be', async () => {
  const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
    version: string
  }
  const field = async (name: string): Promise<string> => (await must(['dpkg-deb', '-f', deb, name])).trim()
  assert.equal(await field('Package'), 'pointsman')
  assert.equal(await field('Version'), version)
  assert.equal(await field('Architecture'), architecture)
  assert.match(await field('Depends'), /^nodejs \(>= 20\), libbpf1, nftables,/)
  const files = (await must(['dpkg-deb', '-c', deb])).trim().split('\n')
  assert.deepEqual(
    files.filter((line) => !/^[-dl]rw[-x]r[-x w]/.test(line) || !line.includes(' root/root ')),
    [],
  )
  for (const path of [
    'etc/default/pointsmand',
    'usr/lib/systemd/system/pointsmand.service',
    'usr/sbin/pointsmand',
    'usr/share/bash-completion/completions/ipvsadm',
    'usr/share/man/man8/pointsmand.8.gz',
    'usr/share/doc/pointsman/copyright',
    ...builtFiles().map((name) => `usr/lib/pointsman/dist/${name}`),
  ])
    assert.ok(
      files.some((line) => line.split(' -> ')[0]!.endsWith(` ./${path}`)),
      `${path} is not in it`,
    )
})

const lintian = await run(['lintian', '--version']).then(
  ({ status }) => status === 0,
  () => false,
)
test('lintian finds nothing', {
  skip: lintian ? false : 'lintian is not installed (apt-get install lintian)',
}, async () => {
  const { stdout, status } = await run([
    'lintian',
    '--fail-on',
    'error,warning',
    '--tag-display-limit',
    '0',
    deb,
  ])
  assert.deepEqual([stdout, status], ['', 0])
})

test('it is made for the other machine too', async (t) => {
  const other = architecture === 'amd64' ? 'arm64' : 'amd64'
  const built = await build('--arch', other).catch((error: Error) => error)
  if (built instanceof Error) {
    if (!/E(NOTFOUND|AI_AGAIN|TIMEDOUT|CONNREFUSED)|network/.test(built.message)) throw built
    return t.skip('the registry is out of reach, and koffi for the other machine is there')
  }
  const root = join(scratch, 'other')
  await must(['dpkg-deb', '-x', built, root])
  const code = { arm64: 0xb7, amd64: 0x3e }[other]
  const native = (await must(['find', root, '-name', '*.node'])).trim()
  for (const file of [native, join(root, 'usr/lib/pointsman/bin/ipvsadm')])
    assert.equal(readFileSync(file).readUInt16LE(18), code, file)
})

describe('on a machine', { skip: missing }, () => {
  for (const partner of ['kernel-sbin', 'kernel-usr-sbin']) {
    const WHO = `who() { for name; do out=$("/usr/sbin/$name" -Ln 2>&1 || true); echo "$name: $(echo "$out" | head -n 1)"; done; }`
    const OURS =
      /^ipvsadm: Can't initialize ipvs: no pointsmand answers at \/run\/pointsman\/pointsman.sock: No such file or directory$/m

    test(`${partner}: ours is ipvsadm, Debian's steps aside, whichever comes first`, async () => {
      const theirs = `/tmp/packages/${partner}.deb`
      for (const order of [`${theirs} ${DEB}`, `${DEB} ${theirs}`]) {
        const output = await onMachine(`${WHO}
          for package in ${order}; do quietly dpkg -i $package; done
          who ipvsadm ipvsadm.ipvs ipvsadm-save.ipvs`)
        assert.match(output, OURS, order)
        assert.match(output, new RegExp(`^ipvsadm.ipvs: ${partner}$`, 'm'), order)
        assert.match(output, new RegExp(`^ipvsadm-save.ipvs: ${partner}$`, 'm'), order)
      }
    })

    test(`${partner}: whichever goes leaves the other whole`, async () => {
      const both = `quietly dpkg -i /tmp/packages/${partner}.deb ${DEB}`
      const ours = await onMachine(`${WHO}
        ${both}
        quietly dpkg -P ipvsadm
        who ipvsadm
        ls /usr/sbin | grep ipvs`)
      assert.match(ours, OURS)
      assert.doesNotMatch(ours, /\.ipvs/)
      for (const way of ['-r', '-P']) {
        const theirs = await onMachine(`${WHO}
          ${both}
          quietly dpkg -i ${DEB}
          quietly dpkg ${way} pointsman
          who ipvsadm ipvsadm-restore
          ls /usr/sbin /usr/share/man/man8 | grep ipvs
          dpkg-divert --list | grep ipvsadm || echo no diversion
          dpkg --verify ipvsadm && echo verified`)
        assert.match(theirs, new RegExp(`^ipvsadm: ${partner}\nipvsadm-restore: ${partner}$`, 'm'), way)
        assert.doesNotMatch(theirs, /\.ipvs/, way)
        assert.match(theirs, /^no diversion$/m, way)
        assert.match(theirs, /^verified$/m, way)
      }
    })
  }

  test('installed twice it is as installed once, and what was configured is kept until the purge', async () => {
    const output = await onMachine(`
      quietly dpkg -i ${DEB}
      echo 'POINTSMAND_OPTIONS="--interface lan0"' >/etc/default/pointsmand
      quietly dpkg -i ${DEB}
      cat /etc/default/pointsmand
      getent group pointsman | cut -d: -f1
      ls /etc/systemd/system/multi-user.target.wants | grep pointsman
      pointsmand --version
      quietly dpkg -r pointsman
      cat /etc/default/pointsmand
      quietly dpkg -P pointsman
      [ -e /etc/default/pointsmand ] || echo gone`)
    const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
      version: string
    }
    const configured = 'POINTSMAND_OPTIONS="--interface lan0"'
    assert.equal(
      output,
      `${[configured, 'pointsman', 'pointsmand.service', version, configured, 'gone'].join('\n')}\n`,
    )
  })

  test('a removal leaves pins and forwarding, a purge leaves nothing', async () => {
    const output = await onMachine(`
      list() { find /etc /usr /var /run /sys -path /var/log -prune -o -path /var/lib/dpkg -prune -o -path /var/cache -prune -o -print | sort; }
      mkdir -p /sys/fs/bpf
      list >/tmp/before
      cp /etc/group /tmp/group
      quietly dpkg -i ${DEB}
      mkdir -p /sys/fs/bpf/pointsman/netns-1 /run/pointsman /var/lib/pointsman
      touch /sys/fs/bpf/pointsman/netns-1/maps /run/pointsman/state.json
      dpkg -r pointsman 2>&1 | grep '^pointsman'
      ls /sys/fs/bpf/pointsman/netns-1
      quietly dpkg -P pointsman
      ls -d /run/pointsman /sys/fs/bpf/pointsman 2>/dev/null || true
      list >/tmp/after
      diff /tmp/before /tmp/after || true
      diff /tmp/group /etc/group && echo same`)
    assert.match(output, /^pointsman: packets are still forwarded.*purging the package ends that\nmaps\n/)
    const left = output
      .split('\n')
      .slice(2)
      // Backups that groupadd makes of its files, whoever calls it.
      .filter((line) => /^[<>]/.test(line) && !/^[<>] \/etc\/g?(shadow|group)-$/.test(line))
    assert.deepEqual(left, [])
    assert.match(output, /^same$/m)
  })
})
