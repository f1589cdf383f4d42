/** Debian's etcd as a process: a member of a cluster, or a cluster of one, with its data in a folder of its own. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { inNamespace } from './namespace.ts'
import { ServerProcess } from './processes.ts'

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

export class Etcd extends ServerProcess {
  readonly name: string
  readonly url: string
  readonly peer: string
  readonly #settings: EtcdSettings

  constructor(settings: EtcdSettings) {
    super('etcd', settings.folder)
    this.name = settings.name
    this.url = settings.url
    this.peer = settings.peer
    this.#settings = settings
  }

  /** Does not wait until it serves. */
  start(members: readonly Etcd[] = [this]): void {
    const { namespace, words = [], outlive = false } = this.#settings
    const command: [string, ...string[]] = [
      ETCD,
      ...['--name', this.name, '--data-dir', join(this.folder, 'data'), '--log-level', 'error'],
      ...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
      ...['--listen-peer-urls', this.peer, '--initial-advertise-peer-urls', this.peer],
      ...['--initial-cluster', members.map(({ name, peer }) => `${name}=${peer}`).join(',')],
      ...['--heartbeat-interval', '50', '--election-timeout', '500'],
      ...words,
    ]
    this.run(namespace === undefined ? command : inNamespace(namespace, command), outlive)
  }
}
