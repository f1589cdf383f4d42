/**
 * Kernel IPVS and the packet program in one emulated machine (Debian 12, Linux 6.1): wires, generator
 * and contenders of the section `e2e`, by the same code. Numbers of an emulated processor mean nothing; their ratios say how much work each
 * does for a packet.
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
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build as bundle } from 'esbuild'
import { builtFile, packageRoot } from '../dataplane/assets.ts'
import { run } from '../lab/command.ts'
import {
  debianPackage,
  layDisk,
  MACHINE,
  makeMachine,
  nodePackage,
  play,
  TOOLS,
} from '../lab/emulator/emulator.ts'
import { forward, type Message, type Section, Skip } from './section.ts'

const SECONDS_MAX = 2400
/** Of the machine itself: the rest is for making it, and for cleaning up. */
const PLAY_MS = 1_800_000
async function needMachine(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Skip('laying out a file system takes root')
  if (process.arch !== 'x64') throw new Skip('the emulated machine is for x86-64: it has a kernel for that')
  const missing: string[] = []
  for (const [command, name] of Object.entries(TOOLS)) {
    if ((await run(['sh', '-c', `command -v ${command}`])).status !== 0) missing.push(name)
  }
  if (missing.length > 0) throw new Skip(`not installed: apt-get install ${missing.join(' ')}`)
}

/** The second disk: Node, ipvsadm, this bench in one file with what it loads. */
async function layJob(scratch: string): Promise<string> {
  const job = join(scratch, 'job')
  const home = join(job, 'bench')
  mkdirSync(join(home, 'dist'), { recursive: true })
  await nodePackage(job, scratch)
  await debianPackage('ipvsadm', join(job, 'ipvsadm.deb'), scratch)
  copyFileSync(join(packageRoot(), 'package.json'), join(home, 'package.json'))
  for (const name of readdirSync(dirname(builtFile('pointsman.bpf.o')))) {
    if (name.endsWith('.bpf.o')) copyFileSync(builtFile(name), join(home, 'dist', name))
  }
  for (const name of ['koffi', `@koromix/koffi-linux-${process.arch}`]) {
    const from = join(packageRoot(), 'node_modules', name)
    if (existsSync(from)) cpSync(from, join(home, 'node_modules', name), { recursive: true })
  }
  await bundle({
    entryPoints: [fileURLToPath(new URL('./guest-main.ts', import.meta.url))],
    outfile: join(home, 'guest.mjs'),
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: ['koffi'],
    logLevel: 'warning',
  })
  const script = [
    'export DEBIAN_FRONTEND=noninteractive',
    'dpkg -i /job/node.deb /job/ipvsadm.deb',
    'node /job/bench/guest.mjs >/dev/ttyS1 && exit',
    'echo "The bench did not run: see the console" >/dev/ttyS1',
    '',
  ]
  writeFileSync(join(job, 'run'), script.join('\n'))
  const disk = join(scratch, 'job.disk')
  await layDisk(job, disk)
  return disk
}

export const guest: Section = {
  name: 'guest',
  about: 'the packet program beside kernel IPVS in an emulated machine with Linux 6.1: ratios only',
  secondsMax: SECONDS_MAX,
  onlyByName: true,
  async run(report) {
    await needMachine()
    const scratch = mkdtempSync(join(tmpdir(), 'pointsman-guest.'))
    const console = join(scratch, 'console')
    let said = 0
    try {
      await makeMachine(MACHINE)
      const disk = await layJob(scratch)
      await play(MACHINE, disk, console, PLAY_MS, (message) => {
        said++
        forward(report, message as Message)
      })
      if (said > 0) return
      const tail = existsSync(console) ? readFileSync(console, 'utf8').slice(-2000) : ''
      throw new Error(`the machine said nothing; its console: ${tail}`)
    } finally {
      rmSync(scratch, { recursive: true, force: true })
    }
  },
}
