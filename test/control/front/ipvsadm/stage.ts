/**
 * Runs in namespaces of its own: `stage.ts RECORDING SCRATCH ours|debian` lays out the recording's
 * environment, starts a daemon, plays all scenarios through `bin/`, or through Debian's programs with the
 * preload library, and prints one JSON result per line.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { builtFile } from '../../../../dataplane/assets.ts'
import { PRELOAD_LIBRARY } from '../../../preload/library.ts'
import type { Whose } from './on-stage.ts'
import { type Player, playAll } from './play.ts'
import { loadRecording, type Output, type Recording } from './scenario.ts'

const root = fileURLToPath(new URL('../../../..', import.meta.url))
const bin = join(root, 'bin')
/** The kernel's verifier alone takes ten seconds of a machine on which twenty others want it, too. */
const DAEMON_START_MS = 120_000
const WRAPPERS = ['ipvsadm-save', 'ipvsadm-restore']

function ip(...args: string[]): void {
  execFileSync('ip', args)
}

/**
 * Interfaces as the recording lists them. The kernel may have no dummy devices, so each is one end of a
 * veth pair; addresses the kernel gives out itself are left to it.
 */
function layInterfaces(text: string): string[] {
  const up: string[] = []
  for (const line of text.split('\n')) {
    const [name, state, ...addresses] = line.split(' ').filter((word) => word !== '')
    if (name === undefined) continue
    if (name === 'lo') {
      ip('link', 'set', 'lo', 'up')
      continue
    }
    ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-far`)
    for (const address of addresses.filter((address) => !address.startsWith('fe80:'))) {
      ip('address', 'add', address, 'dev', name, ...(address.includes(':') ? ['nodad'] : []))
    }
    if (state === 'DOWN') continue
    ip('link', 'set', name, 'up')
    ip('link', 'set', `${name}-far`, 'up')
    up.push(name)
  }
  return up
}

/** Puts a file of this name in place of the machine's, for this mount namespace. */
function replaceFile(target: string, scratch: string, content: string): void {
  const source = join(scratch, target.replaceAll('/', '_'))
  writeFileSync(source, content)
  execFileSync('mount', ['--bind', source, target])
}

class StagePlayer implements Player {
  readonly programs = ['ipvsadm', ...WRAPPERS]
  readonly #bin: string
  readonly #env: NodeJS.ProcessEnv

  constructor(socket: string, whose: Whose) {
    this.#bin = whose === 'ours' ? bin : '/sbin'
    this.#env = {
      PATH: `${this.#bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      ...(whose === 'debian' ? { LD_PRELOAD: builtFile(PRELOAD_LIBRARY) } : {}),
      LC_ALL: 'C',
      HOME: '/root',
      POINTSMAN_SOCKET: socket,
    }
  }

  /** One restore does it all; that no daemon runs is reported and passed over. */
  async reset(): Promise<void> {
    await this.run(['ipvsadm', '-R'], '--stop-daemon master\n--stop-daemon backup\n--set 900 120 300\n-C\n')
  }

  async run(argv: readonly string[], stdin: string): Promise<Output> {
    const [program, ...args] = argv
    const child = spawn(join(this.#bin, program!), args, { argv0: program, env: this.#env })
    const output = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        output[name] += text
      })
    }
    // A program that does not read its input may be gone before it is written.
    child.stdin.on('error', () => {})
    child.stdin.end(stdin)
    const [status] = (await once(child, 'close')) as [number]
    return { status, ...output }
  }
}

/** The recordings' kernel had its default table of 2^12 buckets, and listings begin with that number. */
const CONNECTION_TABLE_SIZE = '4096'

async function startDaemon(scratch: string, interfaces: readonly string[]): Promise<ChildProcess> {
  const log = openSync(join(scratch, 'daemon.log'), 'w')
  const daemon = spawn(
    join(bin, 'pointsmand'),
    [
      '--run-dir',
      join(scratch, 'run'),
      '--connections',
      CONNECTION_TABLE_SIZE,
      ...interfaces.flatMap((name) => ['--interface', name]),
    ],
    { stdio: ['ignore', log, log] },
  )
  closeSync(log)
  return daemon
}

async function waitForDaemon(daemon: ChildProcess, player: Player, scratch: string): Promise<void> {
  const deadline = Date.now() + DAEMON_START_MS
  while (Date.now() < deadline && daemon.exitCode === null) {
    if ((await player.run(['ipvsadm', '-v'], '')).status === 0) return
    await wait(50)
  }
  throw new Error(`The daemon did not start:\n${readFileSync(join(scratch, 'daemon.log'), 'utf8')}`)
}

async function main(recording: Recording, scratch: string, whose: Whose): Promise<void> {
  // A bpffs of its own keeps what the daemon pins apart from the machine's.
  execFileSync('mount', ['-t', 'bpf', 'bpf', '/sys/fs/bpf'])
  const interfaces = layInterfaces(recording.environment.interfaces)
  replaceFile('/etc/hosts', scratch, recording.environment.hosts)
  replaceFile('/etc/nsswitch.conf', scratch, 'hosts: files\nservices: files\nprotocols: files\n')
  mkdirSync(join(scratch, 'run'))
  const daemon = await startDaemon(scratch, interfaces)
  try {
    const player = new StagePlayer(join(scratch, 'run/pointsman.sock'), whose)
    await waitForDaemon(daemon, player, scratch)
    await playAll(recording, player, (result) => console.log(JSON.stringify(result)))
  } finally {
    daemon.kill('SIGTERM')
    if (daemon.exitCode === null && daemon.signalCode === null) await once(daemon, 'exit')
  }
}

const [path, scratch, whose] = process.argv.slice(2)
await main(loadRecording(path!), scratch!, whose as Whose)
