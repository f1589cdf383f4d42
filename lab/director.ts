/** The director of the lab: its daemon, and the commands an operator would type there. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type CommandResult, must, run, until } from './command.ts'
import { isListening } from './listening.ts'
import { inNamespace } from './namespace.ts'
import { topology } from './topology.ts'

export type DataplaneName = 'auto' | 'xdp' | 'tc' | 'userspace'

export interface DirectorOptions {
  readonly dataplane?: DataplaneName
  /** The director's own sockets are clients, too. */
  readonly ownClients?: boolean
  /** Interfaces beside those of the wires. */
  readonly also?: readonly string[]
  readonly xdpMode?: 'auto' | 'native' | 'generic'
  /** Starts the daemon without the capabilities that loading BPF programs takes. */
  readonly withoutBpf?: boolean
  /** Starts the daemon with exactly these capabilities (`net_admin`). */
  readonly capabilities?: readonly string[]
  /** Path of a configuration file. */
  readonly config?: string
  /** Path of a keepalived.conf. */
  readonly keepalived?: string
  /** Path of the settings of a cluster. */
  readonly kubernetes?: string
  /** How many real servers there is room for. */
  readonly realServers?: number
  /** For the daemon, beside this process's. */
  readonly environment?: Readonly<Record<string, string>>
  /** Where another version's executables are. */
  readonly bin?: string
}

/** The kernel's verifier alone takes ten seconds of a machine on which twenty others want it, too. */
const START_TIMEOUT_MS = 120_000
/** A daemon ends within five seconds of processor time that it gets. */
const END_TIMEOUT_MS = 60_000

function withCapabilities(names: readonly string[]): string[] {
  const set = ['-all', ...names.map((name) => `+${name}`)].join(',')
  return ['setpriv', `--bounding-set=${set}`, '--inh-caps=-all']
}

/** Path of one of the executables: the repository's, or those of an installation in `POINTSMAN_BIN`. */
export function executable(name: 'pointsmand' | 'pointsman' | 'ipvsadm' | 'ipvsadm-restore'): string {
  const installed = process.env.POINTSMAN_BIN
  if (installed !== undefined) return join(installed, name)
  return fileURLToPath(new URL(`../bin/${name}`, import.meta.url))
}

export class LabDirector {
  readonly namespace: string
  readonly runDir: string
  readonly socket: string
  readonly logFile: string
  readonly #outlive: boolean
  #daemon: ChildProcess | null = null

  constructor(namespace: string, runDir: string, outlive = false) {
    this.#outlive = outlive
    this.namespace = namespace
    this.runDir = runDir
    this.socket = `${runDir}/pointsman.sock`
    this.logFile = `${runDir}.log`
  }

  /** What a shell in the director needs to reach this daemon rather than the machine's own. */
  environment(): NodeJS.ProcessEnv {
    return { ...process.env, POINTSMAN_SOCKET: this.socket }
  }

  daemonCommand(options: DirectorOptions): string[] {
    const { clients, servers } = topology.wires
    const interfaces = [clients.interface, servers.interface, ...(options.also ?? [])]
    const lost = '-bpf,-perfmon,-sys_admin'
    return [
      ...(options.withoutBpf ? ['setpriv', `--bounding-set=${lost}`, `--inh-caps=${lost}`] : []),
      ...(options.capabilities === undefined ? [] : withCapabilities(options.capabilities)),
      options.bin === undefined ? executable('pointsmand') : join(options.bin, 'pointsmand'),
      ...interfaces.flatMap((name) => ['--interface', name]),
      ...(options.ownClients === true ? ['--own-clients'] : []),
      '--run-dir',
      this.runDir,
      '--dataplane',
      options.dataplane ?? 'auto',
      ...(options.xdpMode === undefined ? [] : ['--xdp-mode', options.xdpMode]),
      ...(options.config === undefined ? [] : ['--config', options.config]),
      ...(options.keepalived === undefined ? [] : ['--keepalived', options.keepalived]),
      ...(options.kubernetes === undefined ? [] : ['--kubernetes', options.kubernetes]),
      ...(options.realServers === undefined ? [] : ['--real-servers', String(options.realServers)]),
    ]
  }

  /** Starts the daemon and returns when it answers. */
  async start(options: DirectorOptions = {}): Promise<void> {
    if (this.running()) throw new Error('The daemon is running already')
    mkdirSync(this.runDir, { recursive: true, mode: 0o755 })
    const [program, ...args] = inNamespace(this.namespace, this.daemonCommand(options))
    const log = openSync(this.logFile, 'a')
    const daemon = spawn(program, args, {
      stdio: ['ignore', log, log],
      env: { ...this.environment(), ...options.environment },
      detached: this.#outlive,
    })
    closeSync(log)
    this.#daemon = daemon
    await until('pointsmand to answer', START_TIMEOUT_MS, async () => {
      if (daemon.exitCode !== null || daemon.signalCode !== null)
        throw new Error(`pointsmand ended with ${daemon.exitCode ?? daemon.signalCode}`)
      // A command each time would cost more than the start.
      if (!(await isListening(this.socket))) return undefined
      return (await this.ipvsadm(['-Ln'])).status === 0 ? true : undefined
    }).catch((cause: unknown) => {
      throw new Error(`${cause instanceof Error ? cause.message : cause}\n${this.logTail()}`, { cause })
    })
  }

  running(): boolean {
    return this.#daemon !== null && this.#daemon.exitCode === null && this.#daemon.signalCode === null
  }

  /** Process id of the daemon; nsenter has replaced itself by it. */
  pid(): number {
    const pid = this.#daemon?.pid
    if (pid === undefined || !this.running()) throw new Error('The daemon is not running')
    return pid
  }

  /** Ends the daemon with a signal and waits until it is gone. Returns exit status or signal. */
  async end(signal: 'SIGTERM' | 'SIGKILL' | 'SIGINT'): Promise<number | string | null> {
    const daemon = this.#daemon
    if (daemon === null || !this.running()) return null
    const gone = new Promise<void>((resolve) => daemon.once('exit', () => resolve()))
    daemon.kill(signal)
    const late = setTimeout(() => daemon.kill('SIGKILL'), END_TIMEOUT_MS)
    await gone
    clearTimeout(late)
    this.#daemon = null
    return daemon.signalCode ?? daemon.exitCode
  }

  /** Process id of the userspace plane's forwarder, which outlives the daemon; null without one. */
  forwarder(): number | null {
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue
      try {
        const words = readFileSync(`/proc/${name}/cmdline`, 'utf8')
        if (words.includes('pointsman-forwarder') && words.includes(`"${this.runDir}"`)) return Number(name)
      } catch {
        // It has just ended.
      }
    }
    return null
  }

  /** Lets the daemon go on without this process. */
  release(): void {
    this.#daemon?.unref()
  }

  /** Runs a command inside the director. */
  command(argv: readonly string[], input?: string): Promise<CommandResult> {
    return run(inNamespace(this.namespace, argv), {
      env: this.environment(),
      ...(input === undefined ? {} : { input }),
    })
  }

  ipvsadm(args: readonly string[], input?: string): Promise<CommandResult> {
    return this.command([executable('ipvsadm'), ...args], input)
  }

  /** `ipvsadm` with its options in one string; throws unless it exits with 0. */
  async rule(words: string): Promise<string> {
    const result = await this.ipvsadm(words.split(' '))
    if (result.status !== 0)
      throw new Error(
        `\`ipvsadm ${words}\` exited with ${result.status}: ${result.stderr.trim()}\n${this.logTail()}`,
      )
    return result.stdout
  }

  /** Loads rules in the format of `ipvsadm -S`. */
  async restore(rules: readonly string[]): Promise<void> {
    const result = await this.ipvsadm(['-R'], rules.map((rule) => `${rule}\n`).join(''))
    if (result.status !== 0 || result.stderr !== '')
      throw new Error(
        `\`ipvsadm -R\` exited with ${result.status}: ${result.stderr.trim()}\n${this.logTail()}`,
      )
  }

  pointsman(args: readonly string[]): Promise<CommandResult> {
    return this.command([executable('pointsman'), ...args])
  }

  /** Whether packets meet every service as it is listed: what a command is still waiting for is not yet. */
  async isInForce(): Promise<boolean> {
    const { status, body } = await this.api('GET', '/v1/services')
    if (status !== 200) throw new Error(`GET /v1/services answered ${status}: ${body}`)
    return (JSON.parse(body) as { state: string }[]).every(({ state }) => state === 'in force')
  }

  /** Packets by verdict; those that never occurred are left out. */
  async verdicts(): Promise<Record<string, bigint>> {
    const { status, body } = await this.api('GET', '/v1/verdicts')
    if (status !== 200) throw new Error(`GET /v1/verdicts answered ${status}: ${body}`)
    const counts = JSON.parse(body) as Record<string, number>
    return Object.fromEntries(Object.entries(counts).map(([name, packets]) => [name, BigInt(packets)]))
  }

  logTail(): string {
    try {
      return readFileSync(this.logFile, 'utf8').split('\n').slice(-30).join('\n')
    } catch {
      return '(no log)'
    }
  }

  /** Ends the daemon, takes the packet program off and removes what it left in the file system. */
  async remove(): Promise<void> {
    // Whoever forwards does so without the daemon too.
    await this.pointsman(['detach']).catch(() => undefined)
    await this.end('SIGTERM')
    removeTraces(this.runDir)
  }

  /** A request to the API with curl, for answers that a well-behaved client would never provoke. */
  async api(method: string, path: string, body?: string): Promise<{ status: number; body: string }> {
    const argv: [string, ...string[]] = [
      'curl',
      '--silent',
      '--show-error',
      // A daemon on a busy machine has the kernel verify a program for ten seconds and more.
      '--max-time',
      '120',
      '--unix-socket',
      this.socket,
      '--request',
      method,
      '--write-out',
      '\n%{http_code}',
      ...(body === undefined ? [] : ['--header', 'content-type: application/json', '--data-binary', '@-']),
      `http://pointsman${path}`,
    ]
    const text = await must(argv, body === undefined ? {} : { input: body })
    const split = text.lastIndexOf('\n')
    return { status: Number(text.slice(split + 1)), body: text.slice(0, split) }
  }
}

/** Removes run directory and log of a director that is no more. */
export function removeTraces(runDir: string): void {
  rmSync(runDir, { recursive: true, force: true, maxRetries: 5 })
  rmSync(`${runDir}.log`, { force: true })
}
