/** How messages name what the API's answers name by fields. */
import { endpointText } from '../../../net/endpoint.ts'
import type { ServiceName } from './schema/service.ts'

export function serviceTitle(service: ServiceName): string {
  if (service.fwmark !== undefined) return `fwmark ${service.fwmark}${service.family === 6 ? ' (IPv6)' : ''}`
  const { protocol = '', address = '', port = 0 } = service
  return `${protocol} ${endpointText({ address, port })}`
}
