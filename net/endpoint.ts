/** An address with a port, as people read it: `192.0.2.10:80` or `[2001:db8::1]:80`. */
export function endpointText({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
