/** Debian's etcd as a process: a member of a cluster, or a cluster of one, with its data in a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inNamespace } from './namespace.ts'
import { endWithUs, killed } from './processes.ts'

const ETCD = '/usr/bin/etcd'

/** Why it cannot be run; false: it can. */
export const etcdMissing: string | false = existsSync(ETCD)
  ? false
  : 'etcd is missing: apt-get install etcd-server'

export interface EtcdSettings {
  readonly name: string
  /** `http://127.0.0.1:2379`: for clients. */
  readonly url: string
  readonly peer: string
  readonly words?: readonly string[]
  /** Where it runs; here, unless said. */
  readonly namespace?: string
  /** For its data; one of its own, unless said. */
  readonly folder?: string
  /** It may go on after this process. */
  readonly outlive?: boolean
}

export class Etcd {
  readonly name: string
  readonly url: string
  readonly peer: string
  readonly #settings: EtcdSettings
  readonly #folder: string
  #child: ChildProcess | null = null

  constructor(settings: EtcdSettings) {
    this.name = settings.name
    this.url = settings.url
    this.peer = settings.peer
    this.#settings = settings
    this.#folder = settings.folder ?? mkdtempSync(join(tmpdir(), 'pointsman-etcd-'))
  }

  /** Does not wait until it serves. */
  start(members: readonly Etcd[] = [this]): void {
    const { namespace, words = [], outlive = false } = this.#settings
    const command: [string, ...string[]] = [
      ETCD,
      ...['--name', this.name, '--data-dir', join(this.#folder, 'data'), '--log-level', 'error'],
      ...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
      ...['--listen-peer-urls', this.peer, '--initial-advertise-peer-urls', this.peer],
      ...['--initial-cluster', members.map(({ name, peer }) => `${name}=${peer}`).join(',')],
      ...['--heartbeat-interval', '50', '--election-timeout', '500'],
      ...words,
    ]
    const [program, ...rest] = namespace === undefined ? command : inNamespace(namespace, command)
    this.#child = spawn(program, rest, { stdio: 'ignore', detached: outlive })
    this.#child.unref()
    if (!outlive) endWithUs(this.#child)
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  /** Without a word; returns when it is gone. */
  async kill(): Promise<void> {
    const child = this.#child
    this.#child = null
    await killed(child)
  }

  async remove(): Promise<void> {
    await this.kill()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
