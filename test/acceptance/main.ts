/**
 * `npm run acceptance`: the Debian package on a Debian under a real systemd, in a virtual machine that QEMU
 * emulates, so that it runs where there is no virtualization. Takes some minutes; not part of `npm test`.
 *
 *     npm run acceptance [-- --machine DIRECTORY] [--console]
 *
 * The machine is made of Debian's packages once and kept in DIRECTORY; every run starts from it afresh.
 */
import { execFileSync, spawn } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { build as bundle } from 'esbuild'
import { must } from '../../lab/command.ts'
import { buildPackage } from '../../scripts/package.ts'
import type { StepResult } from './result.ts'

const here = fileURLToPath(new URL('.', import.meta.url))
const LIMIT_MS = 40 * 60_000
const MEMORY_MIB = 2048

/** Node as a package: this machine's own program, since Debian 12's is too old. */
async function nodePackage(job: string, scratch: string): Promise<void> {
  const root = join(scratch, 'node')
  mkdirSync(join(root, 'usr/bin'), { recursive: true })
  mkdirSync(join(root, 'DEBIAN'))
  copyFileSync(process.execPath, join(root, 'usr/bin/node'))
  const architecture = execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim()
  const control = {
    Package: 'nodejs',
    Version: process.versions.node,
    Architecture: architecture,
    Maintainer: 'nobody <nobody@localhost>',
    Description: 'the Node of the machine that runs the acceptance',
  }
  const text = Object.entries(control).map(([field, value]) => `${field}: ${value}\n`)
  writeFileSync(join(root, 'DEBIAN/control'), text.join(''))
  await must(['dpkg-deb', '-Znone', '--root-owner-group', '--build', root, join(job, 'node.deb')])
}

/** The second disk: packages, the story, and the script that plays it. */
async function layJob(scratch: string): Promise<string> {
  const job = join(scratch, 'job')
  mkdirSync(job)
  const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64'
  copyFileSync(buildPackage(architecture, scratch), join(job, 'pointsman.deb'))
  await nodePackage(job, scratch)
  await must(['apt-get', 'download', '-q', 'ipvsadm'], { cwd: scratch })
  const theirs = readdirSync(scratch).find((name) => /^ipvsadm_.*\.deb$/.test(name))
  if (theirs === undefined) throw new Error("Debian's ipvsadm did not come")
  copyFileSync(join(scratch, theirs), join(job, 'ipvsadm.deb'))
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
    'dpkg -i /job/node.deb && exec node /job/scenario.mjs >/dev/ttyS1\necho "Node did not start" >/dev/ttyS1\n',
  )
  const disk = join(scratch, 'job.disk')
  await must(['mke2fs', '-q', '-t', 'ext4', '-d', job, disk, '320M'])
  return disk
}

/** Boots, and hears every step as it ends. */
function play(
  machine: string,
  disk: string,
  console: string,
  heard: (step: StepResult) => void,
): Promise<void> {
  const drive = (file: string, snapshot: string): string[] => [
    '-drive',
    `file=${file},format=raw,if=virtio,snapshot=${snapshot}`,
  ]
  const child = spawn(
    'qemu-system-x86_64',
    [
      ...['-machine', 'q35', '-accel', 'tcg', '-cpu', 'max', '-m', String(MEMORY_MIB)],
      ...['-smp', String(Math.min(2, availableParallelism()))],
      ...[
        '-nodefaults',
        '-no-user-config',
        '-display',
        'none',
        '-monitor',
        'none',
        '-net',
        'none',
        '-no-reboot',
      ],
      ...['-serial', `file:${console}`, '-serial', 'stdio', '-device', 'virtio-rng-pci'],
      ...['-kernel', join(machine, 'kernel'), '-initrd', join(machine, 'initrd')],
      // The emulated clock jumps; the kernel must not mistrust it, nor write to a terminal that is not read.
      ...[
        '-append',
        'console=ttyS0 quiet mitigations=off no_timer_check tsc=reliable panic=-1 systemd.show_status=0',
      ],
      ...drive(join(machine, 'disk'), 'on'),
      ...drive(disk, 'on'),
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let rest = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split(/\r?\n/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.startsWith('{')) heard(JSON.parse(line) as StepResult)
      else if (line.trim() !== '') process.stderr.write(`${line}\n`)
    }
  })
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS)
    child.on('error', (cause) => reject(new Error(`Cannot start QEMU: ${cause.message}`, { cause })))
    child.on('close', (status) => {
      clearTimeout(late)
      if (status === 0) resolve()
      else reject(new Error(`The machine did not end by itself: its console is ${console}`))
    })
  })
}

function show({ name, passed, detail, seconds }: StepResult): void {
  const [first = '', ...more] = detail.split('\n')
  console.log(`${passed ? '✔' : '✖'} ${name}  ${first}  (${seconds} s)`)
  for (const line of more) console.log(`      ${line}`)
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      machine: { type: 'string', default: join(tmpdir(), 'pointsman-acceptance') },
      console: { type: 'boolean', default: false },
    },
  })
  const scratch = mkdtempSync(join(tmpdir(), 'pointsman-acceptance.'))
  const console_ = join(values.machine, 'console')
  const steps: StepResult[] = []
  try {
    if (!existsSync(join(values.machine, 'disk'))) console.log('making the machine of Debian packages, once')
    await must(['bash', join(here, 'build-machine.sh'), values.machine], { timeoutMs: 900_000 })
    const disk = await layJob(scratch)
    await play(values.machine, disk, console_, (step) => {
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
