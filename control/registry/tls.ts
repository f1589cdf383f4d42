/** What a connection to a registry is made with; files are read each time, so that what is renewed there counts. */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import type { RegistryAddress, RegistryTls } from '../model/pool.ts'

export function tlsOptions(tls: RegistryTls | null): ConnectionOptions {
  if (tls === null) return {}
  const { ca, cert, key, serverName, verify } = tls
  return {
    ...(ca === null ? {} : { ca: readFileSync(ca) }),
    ...(cert === null ? {} : { cert: readFileSync(cert) }),
    ...(key === null ? {} : { key: readFileSync(key) }),
    ...(serverName === null ? {} : { servername: serverName }),
    rejectUnauthorized: verify,
  }
}

/** null: none is wanted. */
export function passwordOf({ password, passwordFile }: RegistryAddress): string | null {
  return passwordFile === null ? password : readFileSync(passwordFile, 'utf8').trim()
}
