/** An address with a port, as people read it. */
import type { Family, IpAddress } from './address.ts'

export interface Endpoint {
  readonly address: IpAddress
  readonly family: Family
  readonly port: number
}

/** `192.0.2.10:80` or `[2001:db8::1]:80`. */
export function endpointText({ address, family, port }: Endpoint): string {
  return family === 6 ? `[${address}]:${port}` : `${address}:${port}`
}
