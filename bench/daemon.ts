/** `pointsmand` in a namespace of the bench. */
import { type ChildProcess, spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { builtFile, packageRoot } from '../dataplane/assets.ts'
import { detachPinned } from '../dataplane/kernel/plane.ts'
import { type CommandResult, must, run, until } from '../lab/command.ts'
import { defaultPinDirectory } from '../linux/bpffs.ts'
import { inNetns } from '../linux/netns.ts'
import { Skip } from './section.ts'

/** The first answer may wait for a cluster of thousands to be in force, beside other work. */
const START_TIMEOUT_MS = 120_000
/** Characters of the last line of the log that an error quotes. */
const LOG_SHOWN = 600

export interface DaemonChoice {
  /** Path of its network namespace. */
  readonly namespace: string
  readonly interfaces: readonly string[]
  readonly dataplane: 'xdp' | 'tc' | 'userspace'
  readonly options?: readonly string[]
}

export function executable(name: 'pointsmand' | 'pointsman' | 'ipvsadm'): string {
  return join(packageRoot(), 'bin', name)
}

/** Memory of a process in kilobytes. */
export interface MemoryUse {
  /** All of it that is resident, mapped BPF maps included. */
  readonly resident: number
  /** Its own: heap and stacks. */
  readonly own: number
}

export class Daemon {
  readonly #choice: DaemonChoice
  readonly #directory = mkdtempSync(join(tmpdir(), 'pmbench-'))
  readonly socket = join(this.#directory, 'run', 'pointsman.sock')
  readonly #log = join(this.#directory, 'log')
  #process: ChildProcess | null = null

  constructor(choice: DaemonChoice) {
    this.#choice = choice
  }

  async start(): Promise<void> {
    for (const file of ['pointsmand.js', 'pointsman.bpf.o', 'pointsman.wasm']) builtFile(file)
    if (!existsSync(executable('ipvsadm'))) throw new Skip('bin/ipvsadm is missing: npm run build')
    const { namespace, interfaces, dataplane, options = [] } = this.#choice
    const log = openSync(this.#log, 'a')
    const child = spawn(
      'nsenter',
      [
        `--net=${namespace}`,
        '--',
        executable('pointsmand'),
        ...interfaces.flatMap((name) => ['--interface', name]),
        '--run-dir',
        join(this.#directory, 'run'),
        '--dataplane',
        dataplane,
        ...options,
      ],
      { stdio: ['ignore', log, log] },
    )
    closeSync(log)
    this.#process = child
    await until('pointsmand to answer', START_TIMEOUT_MS, async () => {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`pointsmand ended with ${child.exitCode ?? child.signalCode}`)
      }
      return (await this.ipvsadm(['-Ln'])).status === 0 ? true : undefined
    }).catch((cause: unknown) => {
      throw new Error(`${cause instanceof Error ? cause.message : cause}: ${this.logTail()}`, { cause })
    })
  }

  get pid(): number {
    const pid = this.#process?.pid
    if (pid === undefined) throw new Error('The daemon does not run')
    return pid
  }

  /** The process that moves the packets of the userspace plane: it is another, since it outlives the daemon. */
  get forwarderPid(): number {
    const network = readlinkSync(`/proc/${this.pid}/ns/net`)
    const pid = readdirSync('/proc').find((name) => /^\d+$/.test(name) && isForwarder(name, network))
    if (pid === undefined) throw new Error('No forwarder runs in the network namespace of the daemon')
    return Number(pid)
  }

  environment(): NodeJS.ProcessEnv {
    return { ...process.env, POINTSMAN_SOCKET: this.socket }
  }

  ipvsadm(args: readonly string[], input?: string): Promise<CommandResult> {
    return run([executable('ipvsadm'), ...args], {
      env: this.environment(),
      ...(input === undefined ? {} : { input }),
    })
  }

  /** Loads rules in the format of `ipvsadm -S`. */
  async restore(rules: readonly string[]): Promise<void> {
    const input = rules.map((rule) => `${rule}\n`).join('')
    await must([executable('ipvsadm'), '-R'], { env: this.environment(), input })
  }

  /** Totals of all verdicts by name. */
  async verdicts(): Promise<Record<string, number>> {
    const text = await must([executable('pointsman'), 'verdicts', '--json'], { env: this.environment() })
    const found: Record<string, number> = {}
    for (const [, name, count] of text.matchAll(/"(\w+)":\s*"?(\d+)/g)) found[name!] = Number(count)
    return found
  }

  memory(): MemoryUse {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8')
    const field = (name: string): number =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1])
    return { resident: field('VmRSS'), own: field('RssAnon') }
  }

  /** User and system time of the process in nanoseconds, all threads. */
  cpuNs(): number {
    const fields = readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    // In ticks of a hundredth of a second (USER_HZ).
    return (Number(fields[11]) + Number(fields[12])) * 1e7
  }

  logTail(): string {
    try {
      return readFileSync(this.#log, 'utf8').trimEnd().split('\n').at(-1)!.slice(0, LOG_SHOWN)
    } catch {
      return '(no log)'
    }
  }

  async stop(): Promise<void> {
    const child = this.#process
    this.#process = null
    if (child === null) return
    if (child.exitCode === null && child.signalCode === null) {
      const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
      await gone
      clearTimeout(late)
    }
    if (this.#choice.dataplane !== 'userspace') {
      inNetns(this.#choice.namespace, () => detachPinned(defaultPinDirectory()))
    }
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

function isForwarder(pid: string, network: string): boolean {
  try {
    return (
      readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('pointsman-forwarder') &&
      readlinkSync(`/proc/${pid}/ns/net`) === network
    )
  } catch {
    return false // it has ended meanwhile
  }
}
