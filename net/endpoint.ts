/** An address with a port, as people read it: `192.0.2.10:80` or `[2001:db8::1]:80`. */
import { type IpAddress, parseAddress } from './address.ts'
export function endpointText({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

/** An address with or without a port, as `endpointText` writes it; null if it is neither. */
export function parseEndpoint(
  text: string,
): { readonly address: IpAddress; readonly port: number | null } | null {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d{1,5}))?$/.exec(text)
  const bare = match === null ? parseAddress(text) : null
  if (bare !== null) return { address: bare, port: null }
  const address = parseAddress(match?.[1] ?? match?.[2] ?? '')
  if (address === null || (match?.[1] !== undefined) !== address.includes(':')) return null
  const port = match?.[3] === undefined ? null : Number(match[3])
  return port !== null && port > 65535 ? null : { address, port }
}
