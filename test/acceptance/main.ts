/**
 * `npm run acceptance`: the Debian package on a Debian under a real systemd, in a virtual machine that QEMU
 * emulates, so that it runs where there is no virtualization. Takes some minutes; not part of `npm test`.
 *
 *     npm run acceptance [-- --machine DIRECTORY] [--only package|stacked|packets] [--console]
 *
 * The machine is made of Debian's packages once and kept in DIRECTORY; every run starts from it afresh. There are two
 * parts: the package under systemd, and a director with a bond, a VLAN device and a bridge.
 */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { build as bundle } from 'esbuild'
import { packageRoot } from '../../dataplane/assets.ts'
import {
  debianPackage,
  isMade,
  layDisk,
  MACHINE,
  makeMachine,
  nodePackage,
  play,
} from '../../lab/emulator/emulator.ts'
import { buildPackage } from '../../scripts/package.ts'
import { PACKET_TESTS, PARTS, type Part, type StepResult } from './result.ts'

const here = fileURLToPath(new URL('.', import.meta.url))
const LIMIT_MS = 120 * 60_000

/** The tests that ask the packet program in the kernel, and what they read. */
async function layPacketTests(job: string): Promise<void> {
  const from = (path: string): string => join(packageRoot(), path)
  const to = (path: string): string => join(job, PACKET_TESTS, path)
  const sources = readdirSync(from('test/packets'))
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => from(join('test/packets', name)))
    .filter((path) => readFileSync(path, 'utf8').includes('openKernelProgram'))
  await bundle({
    entryPoints: sources,
    outdir: to('test/packets'),
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: ['koffi'],
    // Some of what they use is CommonJS.
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  })
  for (const path of ['package.json', 'docs/spec', 'node_modules/koffi', 'node_modules/@koromix'])
    cpSync(from(path), to(path), { recursive: true })
  for (const name of readdirSync(from('dist')))
    if (/\.(bpf\.o|wasm)$/.test(name)) cpSync(from(join('dist', name)), to(join('dist', name)))
}

/** The second disk: packages, the story, and the script that plays it. */
async function layJob(scratch: string, parts: readonly Part[]): Promise<string> {
  const job = join(scratch, 'job')
  mkdirSync(job)
  const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64'
  copyFileSync(buildPackage(architecture, scratch), join(job, 'pointsman.deb'))
  await nodePackage(job, scratch)
  await debianPackage('ipvsadm', join(job, 'ipvsadm.deb'), scratch)
  if (parts.includes('packets')) await layPacketTests(job)
  await bundle({
    entryPoints: [join(here, 'scenario.ts')],
    outfile: join(job, 'scenario.mjs'),
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    logLevel: 'warning',
  })
  writeFileSync(
    join(job, 'run'),
    `dpkg -i /job/node.deb && exec node /job/scenario.mjs ${parts.join(' ')} >/dev/ttyS1\necho "Node did not start" >/dev/ttyS1\n`,
  )
  const disk = join(scratch, 'job.disk')
  await layDisk(job, disk)
  return disk
}

function show({ name, passed, detail, seconds }: StepResult): void {
  const [first = '', ...more] = detail.split('\n')
  console.log(`${passed ? '✔' : '✖'} ${name}  ${first}  (${seconds} s)`)
  for (const line of more) console.log(`      ${line}`)
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      machine: { type: 'string', default: MACHINE },
      only: { type: 'string' },
      console: { type: 'boolean', default: false },
    },
  })
  const parts = PARTS.filter((part) => values.only === undefined || part === values.only)
  if (parts.length === 0) throw new Error(`No part "${values.only}": there are ${PARTS.join(' and ')}`)
  const scratch = mkdtempSync(join(tmpdir(), 'pointsman-acceptance.'))
  const console_ = join(values.machine, 'console')
  const steps: StepResult[] = []
  try {
    if (!isMade(values.machine)) console.log('making the machine of Debian packages, once')
    await makeMachine(values.machine)
    const disk = await layJob(scratch, parts)
    await play(values.machine, disk, console_, LIMIT_MS, (said) => {
      const step = said as StepResult
      steps.push(step)
      show(step)
    })
  } finally {
    rmSync(scratch, { recursive: true, force: true })
    if (values.console && existsSync(console_)) process.stderr.write(readFileSync(console_, 'utf8'))
  }
  const failed = steps.filter(({ passed }) => !passed).length
  console.log(`${steps.length - failed} passed, ${failed} failed, 0 skipped`)
  return failed > 0 || steps.length === 0 ? 1 : 0
}

process.exitCode = await main()
