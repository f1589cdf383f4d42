/**
 * The smallest network with a director in it: client and real server, a wire from each to the director,
 * and a daemon that may be told of interfaces before there are any. For what happens to interfaces.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { call } from '../../control/front/api/client.ts'
import type { Status } from '../../control/front/api/schema/status.ts'
import { must, run, until } from '../../lab/command.ts'
import { executable } from '../../lab/director.ts'
import { isListening } from '../../lab/listening.ts'
import { createNamespace, destroyNamespace, inNamespace, setParameters } from '../../lab/namespace.ts'

export const VIP = '192.0.2.100'
const ROUTER = '192.0.2.1'
const CLIENT = '192.0.2.50'
const REAL = '10.0.2.11'
const REAL_GATEWAY = '10.0.2.1'
/** The kernel's verifier alone takes ten seconds of a machine on which twenty others want it, too. */
const PATIENCE_MS = 120_000
const ANSWERING = `require('net').createServer((s) => { s.on('error', () => {}); s.end('served') }).listen(80)`

export class Wires {
  readonly #prefix = `pmw${process.pid}`
  readonly director = `${this.#prefix}d`
  readonly client = `${this.#prefix}c`
  readonly server = `${this.#prefix}s`
  readonly #folder = mkdtempSync(join(tmpdir(), 'pointsman-wires-'))
  readonly #children: ChildProcess[] = []
  readonly #log: string[] = []
  #daemon: ChildProcess | null = null

  /** The client's wire ends in c0 of the director, the server's in s0. */
  async make(): Promise<void> {
    for (const name of [this.director, this.client, this.server]) {
      await createNamespace(name)
      await this.ip(name, 'link set lo up')
    }
    await setParameters(this.director, { 'ipv4/ip_forward': 1 })
    await this.makeServerWire()
    await this.makeClientWire()
    this.#children.push(this.#spawn(this.server, [process.execPath, '-e', ANSWERING]))
  }

  async makeClientWire(name = 'c0'): Promise<void> {
    await this.ip(
      null,
      `link add ${name} netns ${this.director} type veth peer name eth0 netns ${this.client}`,
    )
    for (const address of [`${ROUTER}/24`, `${VIP}/32`]) {
      await this.ip(this.director, `addr add ${address} dev ${name}`)
    }
    await this.#bringUp(this.client, 'eth0')
    await this.ip(this.client, `addr add ${CLIENT}/24 dev eth0`)
    await this.#bringUp(this.director, name)
  }

  async makeServerWire(): Promise<void> {
    await this.ip(null, `link add s0 netns ${this.director} type veth peer name eth0 netns ${this.server}`)
    await this.ip(this.director, `addr add ${REAL_GATEWAY}/24 dev s0`)
    await this.ip(this.server, `addr add ${REAL}/24 dev eth0`)
    await this.#bringUp(this.director, 's0')
    await this.#bringUp(this.server, 'eth0')
    await this.ip(this.server, `route add default via ${REAL_GATEWAY}`)
  }

  /** Checksums must be finished and frames of XDP awaited (GRO) at both ends of a veth. */
  async #bringUp(namespace: string, name: string): Promise<void> {
    await this.ip(namespace, `link set ${name} up`)
    await must(inNamespace(namespace, ['ethtool', '-K', name, 'tx', 'off', 'gro', 'on']))
  }

  async ip(namespace: string | null, words: string): Promise<string> {
    const where = namespace === null ? [] : ['-n', namespace]
    return await must(['ip', ...where, ...words.split(' ')])
  }

  #spawn(namespace: string, command: readonly string[]): ChildProcess {
    const [program, ...args] = inNamespace(namespace, command)
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => this.#log.push(text))
    }
    return child
  }

  /** Runs a script of Node's for as long as the scene is there, once it has said something. */
  async serve(namespace: string, script: string): Promise<void> {
    const child = this.#spawn(namespace, [process.execPath, '-e', script])
    this.#children.push(child)
    await once(child.stdout!, 'data')
  }

  /** Starts the daemon and gives it a NAT service, unless it has one. */
  async start(...words: string[]): Promise<void> {
    const daemon = this.#spawn(this.director, [
      executable('pointsmand'),
      '--run-dir',
      this.#folder,
      '--connections',
      '1024',
      ...words,
    ])
    this.#daemon = daemon
    await until(`pointsmand to answer: ${this.log}`, PATIENCE_MS, async () => {
      if (daemon.exitCode !== null || daemon.signalCode !== null)
        throw new Error(`pointsmand ended with ${daemon.exitCode ?? daemon.signalCode}: ${this.log}`)
      if (!(await isListening(this.#socket))) return undefined
      return (await this.#ask('ipvsadm', '-Ln')).status === 0 ? true : undefined
    })
    if ((await this.#ask('ipvsadm', '-Ln')).stdout.includes(VIP)) return
    await this.rules(`-A -t ${VIP}:80 -s rr`, `-a -t ${VIP}:80 -r ${REAL}:80 -m`)
  }

  /** Exit status of a daemon that is expected to refuse, and what it said. */
  async refusal(...words: string[]): Promise<string> {
    const command = [executable('pointsmand'), '--run-dir', this.#folder, ...words]
    const { status, stdout, stderr } = await run(inNamespace(this.director, command), {
      timeoutMs: PATIENCE_MS,
    })
    if (status !== 1) throw new Error(`exit status ${status}: ${stdout}${stderr}`)
    return stdout + stderr
  }

  get log(): string {
    return this.#log.join('')
  }

  environment(): NodeJS.ProcessEnv {
    return { ...process.env, POINTSMAN_SOCKET: this.#socket }
  }

  get #socket(): string {
    return join(this.#folder, 'pointsman.sock')
  }

  call(method: 'GET', path: string): Promise<unknown> {
    return call(this.#socket, method, path)
  }

  #ask(program: 'ipvsadm' | 'pointsman', ...words: string[]) {
    return run(inNamespace(this.director, [executable(program), ...words]), {
      env: this.environment(),
    })
  }

  async rules(...lines: string[]): Promise<void> {
    for (const line of lines) {
      const { status, stderr } = await this.#ask('ipvsadm', ...line.split(' '))
      if (status !== 0) throw new Error(`ipvsadm ${line}: ${stderr}`)
    }
  }

  async status(): Promise<Status> {
    return JSON.parse((await this.#ask('pointsman', 'status', '--json')).stdout)
  }

  async statusText(): Promise<string> {
    return (await this.#ask('pointsman', 'status')).stdout
  }

  /** One request; what it answers, or why not. */
  async request(address = VIP, timeoutMs = 1000): Promise<string> {
    const script = `const s = require('net').connect(80, '${address}'); s.setTimeout(${timeoutMs}, () => { console.log('late'); process.exit() }); s.on('error', (e) => console.log(e.code)); s.on('data', (d) => console.log(String(d)))`
    return (await run(inNamespace(this.client, [process.execPath, '-e', script]))).stdout.trim()
  }

  /** Waits until requests are served; how long it took (ms). */
  async served(what: string, timeoutMs = PATIENCE_MS): Promise<number> {
    const began = performance.now()
    let last = ''
    await until(`to be served ${what}`, timeoutMs, async () => {
      await run(['ip', '-n', this.client, 'neigh', 'flush', 'dev', 'eth0'])
      last = await this.request()
      return last === 'served' ? true : undefined
    }).catch(async (cause) => {
      throw new Error(`${cause.message}: ${last}\n${await this.statusText()}\n${this.log}`)
    })
    return performance.now() - began
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const daemon = this.#daemon
    if (daemon === null || daemon.exitCode !== null || daemon.signalCode !== null) return
    const ended = new Promise((resolve) => daemon.once('exit', resolve))
    daemon.kill(signal)
    await ended
    this.#daemon = null
  }

  async remove(): Promise<void> {
    await this.#ask('pointsman', 'detach')
    await this.stop('SIGKILL')
    for (const child of this.#children) child.kill('SIGKILL')
    for (const name of [this.director, this.client, this.server]) await destroyNamespace(name)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** Packets in a verdict. */
  async verdict(name: string): Promise<number> {
    return JSON.parse((await this.#ask('pointsman', 'verdicts', '--json')).stdout)[name] ?? 0
  }

  /** Processor time that the daemon's own thread has had, ms. */
  busyMs(): number {
    const pid = this.#daemon?.pid
    const [ns] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')
    return Number(ns) / 1e6
  }

  /** Resident memory of the daemon, MiB. */
  memoryMiB(): number {
    const text = readFileSync(`/proc/${this.#daemon?.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(text)?.[1]) / 1024
  }
}
