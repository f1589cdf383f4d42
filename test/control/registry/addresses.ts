/** Registries as configuration files name them, short. */
import type { FollowedPool, RegistryAddress, RegistryTls } from '../../../control/model/pool.ts'

const NONE = { user: null, password: null, passwordFile: null, tls: null, datacenter: null }
const TLS: RegistryTls = { ca: null, cert: null, key: null, serverName: null, verify: true }

export function etcdAddress(
  endpoints: readonly string[],
  {
    ca = null,
    user = null,
    password = null,
  }: { ca?: string | null; user?: string | null; password?: string | null } = {},
): RegistryAddress {
  return { ...NONE, kind: 'etcd', endpoints, user, password, tls: { ...TLS, ca } }
}

export function addressOf(
  kind: RegistryAddress['kind'],
  endpoints: readonly string[],
  more: Partial<RegistryAddress> = {},
): RegistryAddress {
  return { ...NONE, kind, endpoints, ...more }
}

export function poolOf(
  address: RegistryAddress,
  name: string,
  more: Partial<FollowedPool> = {},
): FollowedPool {
  return { registry: 'r', address, name, maxRemoval: 1, allowEmpty: true, ...more }
}
