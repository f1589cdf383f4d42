/** What `npm install -g` of the packed tarball gives on a machine that cannot build anything. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { must, run } from '../../lab/command.ts'
import { allRules, describe as inWords, type LabService, virtualEndpoint } from '../../lab/rules.ts'
import { METHODS } from '../../lab/topology.ts'
import { missingForLab, PLANES, withDirector } from '../e2e/scene.ts'
import { buildTools, installGlobally, layEverydayTools, pack, repository } from './installation.ts'
import { builtFiles, named } from './product.ts'

const scratch = mkdtempSync(join(tmpdir(), 'pointsman-package-'))
const prefix = join(scratch, 'prefix')
const bare = join(scratch, 'bare')
const home = join(prefix, 'lib/node_modules/pointsman')
const bin = join(prefix, 'bin')
const MACHINES = { x86_64: 0x3e, aarch64: 0xb7 } as const

/** Every package that the product imports. */
const importedPackages = (): string[] => named(/from '((?:@[a-z-]+\/)?[a-z][a-z-]*)(?:\/[^']*)?'/g)

function packed(): string[] {
  return readdirSync(home, { recursive: true, encoding: 'utf8' })
    .filter((path) => !path.startsWith('node_modules/') && statSync(join(home, path)).isFile())
    .sort()
}

before(async () => {
  layEverydayTools(bare)
  const tarball = await pack(scratch)
  const installed = await installGlobally(tarball, prefix, bare)
  assert.equal(installed.status, 0, installed.stderr + installed.stdout)
})
after(() => rmSync(scratch, { recursive: true, force: true }))

test('the machine it was installed on has nothing to build with', () => {
  assert.deepEqual(buildTools(bare), [])
})

test('what runs is in it, and nothing else', () => {
  const files = packed()
  for (const name of builtFiles()) assert.ok(files.includes(`dist/${name}`), `dist/${name} is not packed`)
  const strange = files.filter(
    (path) =>
      !/^(bin|deploy|examples|man)\//.test(path) &&
      !/^dist\/([a-z-]+\.js|(pointsman(-cut|-out|-own|-relay|(-tc)?(-recording)?)|steer|failures)\.bpf\.o|page\.(html|css)|playground\.html|pointsman\.wasm|ipvsadm-(x86_64|aarch64)|pointsman-preload-(x86_64|aarch64)\.so|THIRD-PARTY\.txt)$/.test(
        path,
      ) &&
      ![
        ...['CHANGELOG.md', 'LICENSE', 'README.md', 'control/cli/ipvsadm.c', 'package.json'],
        // Its words are what explain says of a verdict.
        'docs/verdicts.md',
      ].includes(path),
  )
  assert.deepEqual(strange, [])
  assert.deepEqual(
    readdirSync(join(home, 'node_modules')).filter((name) => !name.startsWith('.')),
    ['@koromix', 'koffi'],
    'koffi is all that is needed at run time',
  )
})

test('every bundled package has its licence in THIRD-PARTY.txt', () => {
  const text = readFileSync(join(home, 'dist/THIRD-PARTY.txt'), 'utf8')
  assert.ok(importedPackages().includes('koffi'))
  for (const name of importedPackages())
    assert.match(text, new RegExp(`^${name} [\\d.]+\nlicence: (?:MIT|ISC)\n\n.*Copyright`, 'ms'))
})

test('commands and man pages are where npm users look for them', async () => {
  const env = { PATH: bare }
  const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
    version: string
  }
  for (const name of ['pointsmand', 'pointsman'])
    assert.equal((await must([join(bin, name), '--version'], { env })).trim(), version)
  for (const page of ['ipvsadm.8', 'pointsman.8', 'pointsmand.8'])
    assert.ok(existsSync(join(prefix, 'share/man/man8', page)), `${page} is not installed`)
})

describe('ipvsadm', () => {
  const env = { PATH: `${bin}:${bare}`, POINTSMAN_SOCKET: join(scratch, 'nobody.sock') }

  for (const [name, program] of [
    ["through npm's link", join(bin, 'ipvsadm')],
    ['by its own path', join(home, 'bin/ipvsadm')],
    ['found in PATH', 'ipvsadm'],
  ] as const)
    test(`starts ${name}`, async () => {
      const alone = await run(['env', program, '-Ln'], { env })
      assert.equal(alone.status, 2, alone.stderr)
      assert.match(alone.stderr, /no pointsmand answers at .*nobody\.sock/)
    })

  for (const [machine, code] of Object.entries(MACHINES))
    test(`is a static program for ${machine}`, () => {
      const bytes = readFileSync(join(home, `dist/ipvsadm-${machine}`))
      assert.equal(bytes.readUInt32BE(0), 0x7f454c46)
      assert.equal(bytes.readUInt16LE(18), code)
      const headers = Number(bytes.readBigUInt64LE(32))
      const types = Array.from({ length: bytes.readUInt16LE(56) }, (_, i) =>
        bytes.readUInt32LE(headers + i * bytes.readUInt16LE(54)),
      )
      assert.ok(!types.includes(3), 'PT_INTERP: it would need a dynamic linker')
    })

  test('of the other machine runs too', {
    skip: existsSync('/usr/bin/qemu-aarch64-static')
      ? false
      : 'qemu-aarch64-static is not installed (apt-get install qemu-user-static)',
  }, async () => {
    const alone = await run(['/usr/bin/qemu-aarch64-static', join(home, 'dist/ipvsadm-aarch64'), '-Ln'], {
      env,
    })
    assert.equal(alone.status, 2, alone.stderr)
    assert.match(alone.stderr, /no pointsmand answers at .*nobody\.sock/)
  })

  test('on a machine it was not built for says so', async () => {
    const broken = join(scratch, 'broken')
    await must(['mkdir', '-p', join(broken, 'bin')])
    await must(['cp', join(home, 'bin/ipvsadm'), join(broken, 'bin/ipvsadm')])
    const answer = await run([join(broken, 'bin/ipvsadm'), '-Ln'], { env })
    assert.equal(answer.status, 2)
    assert.match(answer.stderr, /dist\/ipvsadm-\w+ is missing: run npm run build/)
  })
})

describe('the lab with the installed programs', { skip: missingForLab() }, () => {
  for (const plane of PLANES)
    test(`${plane}: a request through every forwarding method`, async () => {
      process.env.POINTSMAN_BIN = bin
      process.env.PATH = bare
      await withDirector(plane, async (lab) => {
        const words = readFileSync(`/proc/${lab.director.pid()}/cmdline`, 'utf8').split('\0')
        assert.ok(words[1]?.startsWith(home), `what runs is ${words.join(' ')}`)
        const named = await lab.director.ipvsadm(['bogus'])
        assert.equal(
          named.stderr.split(' ')[1],
          `\`${bin}/ipvsadm`,
          'the client has the name it was called by',
        )
        for (const method of METHODS) {
          const service: LabService = { method, protocol: 'tcp', family: 'ipv4', serverFamily: 'ipv4' }
          await lab.director.restore(allRules(service))
          const { server } = await lab.client.http(virtualEndpoint(service))
          assert.match(server, /^rs/, inWords(service))
        }
      })
    })
})
