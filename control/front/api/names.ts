/** How messages name what the API's answers name by fields. */

/** What names a service in the API's answers. */
export interface ServiceName {
  readonly protocol?: string
  readonly address?: string
  readonly port?: number
  readonly fwmark?: number
  readonly family?: number
}

/** `10.0.0.1:80` or `[2001:db8::1]:80`. */
export function endpoint(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

export function serviceTitle(service: ServiceName): string {
  if (service.fwmark !== undefined) return `fwmark ${service.fwmark}${service.family === 6 ? ' (IPv6)' : ''}`
  return `${service.protocol} ${endpoint(service.address ?? '', service.port ?? 0)}`
}
