/** A registry by its kind; the clients of those that nobody uses are not loaded. */
import type { RegistryAddress } from '../model/pool.ts'
import type { Registry } from './registry.ts'

export async function openRegistry(address: RegistryAddress): Promise<Registry> {
  switch (address.kind) {
    case 'etcd': {
      const { EtcdGateway } = await import('./etcd/gateway.ts')
      const { EtcdFollower } = await import('./etcd/follow.ts')
      const gateways: { close(): void }[] = []
      return {
        follower: (name) => {
          // One for each: a member that fails one watch gives way for that one alone.
          const gateway = new EtcdGateway(address)
          gateways.push(gateway)
          return new EtcdFollower(gateway, name)
        },
        close: () => {
          for (const gateway of gateways) gateway.close()
        },
      }
    }
    case 'zookeeper':
    case 'consul':
    case 'dns':
      throw new Error(`Cannot follow ${address.kind}: this version has no client for it`)
    default:
      return address.kind satisfies never
  }
}
