/** Services and real servers as they are typed and as labels have them: `tcp/192.0.2.10:80`, `fwmark/7`. */
import { endpointText } from '../../net/endpoint.ts'
import type { ServiceId } from './service.ts'

/** What `pointsman show` takes. */
export function serviceName(id: ServiceId): string {
  if (id.kind === 'fwmark') return id.family === 6 ? `fwmark6/${id.mark}` : `fwmark/${id.mark}`
  return `${id.protocol}/${endpointText(id)}`
}
