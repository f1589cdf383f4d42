/**
 * Whoever serves, in a registry: written there while it is wanted and alive, under a lease that ends by itself
 * when nobody keeps it alive any more.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { pauseMs, reasonOf } from '../retry.ts'
import { entryText, type Registrar, type Registration } from './registration.ts'

export interface RegistrarLog {
  registered(): void
  /** Not kept alive at this time: it ends by itself unless that is mended. */
  lost(why: string): void
}

/** What is asked of a registry when everything ends is not waited for longer. */
const WITHDRAW_MS = 3000
const PAUSE_MS_MAX = 1000

/** Until the signal, and then it is withdrawn. */
export async function stayRegistered(
  registrar: Registrar,
  log: RegistrarLog,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0
  let told = ''
  while (!signal.aborted) {
    try {
      await registrar.attempt(() => {
        failures = 0
        told = ''
        log.registered()
      }, signal)
    } catch (error) {
      if (signal.aborted) break
      failures++
      const why = reasonOf(error)
      if (why !== told) log.lost(why)
      told = why
    }
    // A lease lasts seconds: waiting longer would let it end though the registry is back.
    const waitMs = Math.min(PAUSE_MS_MAX, pauseMs(Math.max(1, failures)))
    await sleep(waitMs, undefined, { signal }).catch(() => {})
  }
  const end = new AbortController()
  await Promise.race([
    registrar.withdraw().catch((error: unknown) => log.lost(reasonOf(error))),
    sleep(WITHDRAW_MS, undefined, { signal: end.signal }).catch(() => {}),
  ])
  end.abort()
}

export async function openRegistrar(registration: Registration): Promise<Registrar> {
  const { kind } = registration.address
  switch (kind) {
    case 'etcd': {
      const { EtcdRegistrar, etcdKey } = await import('./etcd.ts')
      const { address, ttlMs } = registration
      return new EtcdRegistrar({
        address,
        key: etcdKey(registration),
        value: () => entryText(registration),
        ttlMs,
      })
    }
    case 'zookeeper':
      return new (await import('./zookeeper.ts')).ZkRegistrar(registration)
    case 'consul':
      return new (await import('./consul.ts')).ConsulRegistrar(registration)
    case 'dns':
      throw new TypeError('Nobody registers in the domain name system')
    default:
      return kind satisfies never
  }
}
