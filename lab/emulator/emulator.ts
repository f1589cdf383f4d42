/**
 * A Debian 12 with its own kernel in QEMU, which emulates the processor: for what wants another kernel or a
 * real systemd, where there is no virtualization. It is made of Debian's packages once, by `build-machine.sh`;
 * every run starts from it afresh, with a second disk that holds the job.
 */
import { execFileSync, spawn } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { must } from '../command.ts'

/** Where the machine is kept unless somebody says otherwise. */
export const MACHINE = join(tmpdir(), 'pointsman-acceptance')
const MEMORY_MIB = 2048
const MAKE_TIMEOUT_MS = 900_000

/** Commands that making and running it takes, by the Debian package each is in. */
export const TOOLS: Readonly<Record<string, string>> = {
  'qemu-system-x86_64': 'qemu-system-x86',
  mmdebstrap: 'mmdebstrap',
  cpio: 'cpio',
  mke2fs: 'e2fsprogs',
}

export const isMade = (machine: string): boolean => existsSync(join(machine, 'disk'))

export async function makeMachine(machine: string): Promise<void> {
  const script = fileURLToPath(new URL('./build-machine.sh', import.meta.url))
  await must(['bash', script, machine], { timeoutMs: MAKE_TIMEOUT_MS })
}

/** A package of Debian's as a file. */
export async function debianPackage(name: string, file: string, scratch: string): Promise<void> {
  await must(['apt-get', 'download', '-q', name], { cwd: scratch })
  const theirs = readdirSync(scratch).find((found) => found.startsWith(`${name}_`) && found.endsWith('.deb'))
  if (theirs === undefined) throw new Error(`Debian's ${name} did not come`)
  copyFileSync(join(scratch, theirs), file)
}

/** The second disk, of what is in a folder; `run` there is the script that the machine plays. */
export async function layDisk(job: string, disk: string): Promise<void> {
  await must(['mke2fs', '-q', '-t', 'ext4', '-d', job, disk, '320M'])
}

/** Node as a package: this machine's own program, since Debian 12's is too old. */
export async function nodePackage(job: string, scratch: string): Promise<void> {
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

/** Boots, hears every line of JSON that the job says on its terminal, and waits until the machine is off. */
export function play(
  machine: string,
  disk: string,
  console: string,
  limitMs: number,
  heard: (said: unknown) => void,
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
      if (line.startsWith('{')) heard(JSON.parse(line))
      else if (line.trim() !== '') process.stderr.write(`${line}\n`)
    }
  })
  // Whoever is ended meanwhile ends the machine, and cleans up after it.
  const stop = (): void => void child.kill('SIGKILL')
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  return new Promise((resolve, reject) => {
    const late = setTimeout(stop, limitMs)
    child.on('error', (cause) => reject(new Error(`Cannot start QEMU: ${cause.message}`, { cause })))
    child.on('close', (status) => {
      clearTimeout(late)
      process.off('SIGINT', stop)
      process.off('SIGTERM', stop)
      if (status === 0) resolve()
      else reject(new Error(`The machine did not end by itself: its console is ${console}`))
    })
  })
}
