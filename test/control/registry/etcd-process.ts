/** Debian's etcd as a process of a test, on loopback, in a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdGateway } from '../../../control/registry/etcd/gateway.ts'
import { etcdAddress } from './addresses.ts'
import { endWithUs, freePorts, killed } from './processes.ts'

const ETCD = '/usr/bin/etcd'

/** Why it cannot be run; false: it can. */
export const etcdMissing: string | false = existsSync(ETCD)
  ? false
  : 'etcd is missing: apt-get install etcd-server'

export interface EtcdOptions {
  readonly words?: readonly string[]
  readonly scheme?: 'http' | 'https'
  /** Whom to trust when it is asked whether it answers. */
  readonly ca?: string
}

/** One member of a cluster, or a cluster of one. */
export class Etcd {
  readonly folder = mkdtempSync(join(tmpdir(), 'pointsman-etcd-'))
  readonly name: string
  readonly url: string
  readonly peer: string
  readonly #words: readonly string[]
  #child: ChildProcess | null = null

  constructor(name: string, client: number, peer: number, { words = [], scheme = 'http' }: EtcdOptions = {}) {
    this.name = name
    this.url = `${scheme}://127.0.0.1:${client}`
    this.peer = `http://127.0.0.1:${peer}`
    this.#words = words
  }

  /** Does not wait until it serves. */
  start(members: readonly Etcd[] = [this]): void {
    const words = [
      ...['--name', this.name, '--data-dir', join(this.folder, 'data'), '--log-level', 'error'],
      ...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
      ...['--listen-peer-urls', this.peer, '--initial-advertise-peer-urls', this.peer],
      ...['--initial-cluster', members.map(({ name, peer }) => `${name}=${peer}`).join(',')],
      ...['--heartbeat-interval', '50', '--election-timeout', '500'],
      ...this.#words,
    ]
    this.#child = spawn(ETCD, words, { stdio: 'ignore' })
    endWithUs(this.#child)
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  async kill(): Promise<void> {
    const child = this.#child
    this.#child = null
    await killed(child)
  }

  async remove(): Promise<void> {
    await this.kill()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** A started one that answers. */
export async function startEtcd(options: EtcdOptions = {}): Promise<Etcd> {
  const [client = 0, peer = 0] = await freePorts(2)
  const etcd = new Etcd('one', client, peer, options)
  etcd.start()
  await answering(etcd, options.ca ?? null)
  return etcd
}

export async function answering(etcd: Etcd, ca: string | null = null): Promise<void> {
  const gateway = new EtcdGateway(etcdAddress([etcd.url], { ca }))
  try {
    for (let tries = 0; ; tries++) {
      try {
        await gateway.range({ key: 'ready' })
        return
      } catch (error) {
        if (tries > 1000) throw error
        await sleep(50)
      }
    }
  } finally {
    gateway.close()
  }
}
