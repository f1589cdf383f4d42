/** etcd as a process of a test, on loopback. */
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdGateway } from '../../../control/registry/etcd/gateway.ts'
import { Etcd } from '../../../lab/etcd.ts'
import { etcdAddress } from './addresses.ts'
import { freePorts } from './processes.ts'

export { Etcd, etcdMissing } from '../../../lab/etcd.ts'

export interface EtcdOptions {
  readonly words?: readonly string[]
  readonly scheme?: 'http' | 'https'
  /** Whom to trust when it is asked whether it answers. */
  readonly ca?: string
}

/** One that is not started yet. */
export async function etcdOnLoopback(
  name: string,
  { words = [], scheme = 'http' }: EtcdOptions = {},
): Promise<Etcd> {
  const [client, peer] = await freePorts(2)
  return new Etcd({ name, url: `${scheme}://127.0.0.1:${client}`, peer: `http://127.0.0.1:${peer}`, words })
}

/** A started one that answers. */
export async function startEtcd(options: EtcdOptions = {}): Promise<Etcd> {
  const etcd = await etcdOnLoopback('one', options)
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
