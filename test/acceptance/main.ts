/**
 * `npm run acceptance`: the Debian package on a Debian under a real systemd, in a virtual machine that QEMU
 * emulates, so that it runs where there is no virtualization. Takes some minutes; not part of `npm test`.
 *
 *     npm run acceptance [-- --machine DIRECTORY] [--only package|stacked] [--console]
 *
 * The machine is made of Debian's packages once and kept in DIRECTORY; every run starts from it afresh. There are two
 * parts: the package under systemd, and a director with a bond, a VLAN device and a bridge.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { build as bundle } from 'esbuild'
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
import { PARTS, type Part, type StepResult } from './result.ts'

const here = fileURLToPath(new URL('.', import.meta.url))
const LIMIT_MS = 120 * 60_000

/** The second disk: packages, the story, and the script that plays it. */
async function layJob(scratch: string, parts: readonly Part[]): Promise<string> {
  const job = join(scratch, 'job')
  mkdirSync(job)
  const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64'
  copyFileSync(buildPackage(architecture, scratch), join(job, 'pointsman.deb'))
  await nodePackage(job, scratch)
  await debianPackage('ipvsadm', join(job, 'ipvsadm.deb'), scratch)
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
