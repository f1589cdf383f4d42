/** A registry by its kind; the clients of those that nobody uses are not loaded. */
import type { RegistryAddress } from '../model/pool.ts'
import { readEntry } from './entry.ts'
import type { Registry } from './registry.ts'

export async function openRegistry(address: RegistryAddress): Promise<Registry> {
  switch (address.kind) {
    case 'etcd': {
      const { EtcdGateway } = await import('./etcd/gateway.ts')
      const { EtcdFollower } = await import('./etcd/follow.ts')
      // One for each: a member that fails one watch gives way for that one alone.
      return { follower: (name) => new EtcdFollower(new EtcdGateway(address), name, readEntry) }
    }
    case 'zookeeper': {
      const { ZkFollower } = await import('./zookeeper/follow.ts')
      return { follower: (name) => new ZkFollower(address, name) }
    }
    case 'consul': {
      const { ConsulFollower } = await import('./consul/follow.ts')
      return { follower: (name) => new ConsulFollower(address, name) }
    }
    case 'dns': {
      const { DnsFollower } = await import('./dns/follow.ts')
      return { follower: (name) => new DnsFollower(address, name) }
    }
    default:
      return address.kind satisfies never
  }
}
