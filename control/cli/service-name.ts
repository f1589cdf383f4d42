/** Services and real servers as they are typed: `tcp/192.0.2.10:80`, `192.0.2.10:80`, `fwmark/7`. */
import { parseEndpoint } from '../../net/endpoint.ts'
import { ClientError, get } from '../front/api/client.ts'
import { type ServiceShown, serviceAnswer } from '../front/api/schema/service.ts'

const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const

interface NamedService {
  readonly path: string
  /** Of real servers without one. */
  readonly port: number
}

function wanted(text: string): ClientError {
  return new ClientError(
    `Cannot read service "${text}": expected tcp/192.0.2.10:80, udp/[2001:db8::1]:53, fwmark/7 or 192.0.2.10:80; see: pointsman services`,
  )
}

/** The paths of the services that the text can mean. */
function candidates(text: string): readonly NamedService[] {
  const match = /^(?:(tcp|udp|sctp|fwmark|fwmark6)[/ ])?(.+)$/.exec(text)
  const [, kind, rest = ''] = match ?? []
  if (kind === 'fwmark' || kind === 'fwmark6') {
    if (!/^\d{1,10}$/.test(rest)) throw wanted(text)
    return [{ path: `/v1/services/fwmark/${kind === 'fwmark6' ? 6 : 4}/${rest}`, port: 0 }]
  }
  const endpoint = parseEndpoint(rest)
  if (endpoint === null || endpoint.port === null) throw wanted(text)
  const { address, port } = endpoint
  return PROTOCOLS.filter((protocol) => kind === undefined || kind === protocol).map((protocol) => ({
    path: `/v1/services/${protocol}/${encodeURIComponent(address)}/${port}`,
    port,
  }))
}

/** The one service that there is by this name. */
export async function findService(
  socket: string,
  text: string,
): Promise<NamedService & { readonly service: ServiceShown; readonly raw: unknown }> {
  const found: (NamedService & { readonly service: ServiceShown; readonly raw: unknown })[] = []
  let missing: unknown = null
  for (const named of candidates(text)) {
    try {
      const { value, raw } = await get(socket, named.path, serviceAnswer)
      found.push({ ...named, service: value, raw })
    } catch (error) {
      if (!(error instanceof ClientError) || error.constructor !== ClientError) throw error
      missing = error
    }
  }
  const [first, second] = found
  if (first === undefined) throw missing
  if (second !== undefined) {
    const names = found.map(({ service: { protocol } }) => `${protocol}/${text}`)
    throw new ClientError(`Several services have "${text}": say ${names.join(' or ')}`)
  }
  return first
}

/** The path of a real server of the service. */
export function serverPath({ path, port }: NamedService, text: string): string {
  const endpoint = parseEndpoint(text)
  if (endpoint === null) {
    throw new ClientError(
      `Cannot read real server "${text}": expected 10.0.0.1:80, [2001:db8::1]:80 or 10.0.0.1`,
    )
  }
  return `${path}/servers/${encodeURIComponent(endpoint.address)}/${endpoint.port ?? port}`
}
