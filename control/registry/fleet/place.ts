/**
 * Where a fleet has its configuration: `etcd://HOST:PORT,HOST:PORT/prefix`, with `?user=`, `password_file=`, `ca=`,
 * `cert=`, `key=`; a certificate or `etcds://` means TLS. `director=` names this one, if not as its host.
 */
import type { RegistryAddress } from '../../model/pool.ts'

export interface FleetPlace {
  readonly address: RegistryAddress
  /** Without a slash at its end. */
  readonly prefix: string
  /** What this director is called there; null: as its host. */
  readonly director: string | null
}

const FORM = /^(etcds?):\/\/([^/?]+)(\/[^?]*)(?:\?(.*))?$/
const WORDS = ['user', 'password_file', 'ca', 'cert', 'key', 'director'] as const

export const FLEET_FORM = 'expected etcd://HOST:2379[,HOST:2379...]/PREFIX'

/** Whether it is meant as one, rightly or not. */
export function isFleetPlace(text: string): boolean {
  return /^etcds?:\/\//.test(text)
}

/** null: it is none. */
export function parseFleetPlace(text: string): FleetPlace | null {
  const [, scheme, hosts = '', path = '', query = ''] = FORM.exec(text) ?? []
  const prefix = path.replace(/\/+$/, '')
  if (scheme === undefined || prefix === '') return null
  const words = new URLSearchParams(query)
  for (const word of words.keys()) if (!WORDS.some((known) => known === word)) return null
  const [user = null, passwordFile = null, ca = null, cert = null, key = null, director = null] = WORDS.map(
    (word) => words.get(word),
  )
  const secure = scheme === 'etcds' || ca !== null || cert !== null
  const endpoints = hosts.split(',').map((host) => `${secure ? 'https' : 'http'}://${host}`)
  if (!endpoints.every((url) => URL.canParse(url))) return null
  return {
    address: {
      ...{ kind: 'etcd', endpoints, user, password: null, passwordFile, datacenter: null },
      tls: secure ? { ca, cert, key, serverName: null, verify: true } : null,
    },
    prefix,
    director,
  }
}
