/** The words of `pointsman full-nat`: which addresses connections by full NAT come from. */
import { ClientError, call, get } from '../front/api/client.ts'
import { fullNatAnswer } from '../front/api/schema/full-nat.ts'
import { portsText } from '../model/full-nat.ts'
import type { Shown } from './nouns.ts'
import { table } from './text.ts'

function portRange(text: string): object {
  const match = /^(\d{1,5})-(\d{1,5})$/.exec(text)
  const [from, to] = [Number(match?.[1]), Number(match?.[2])]
  if (match === null || from < 1 || from > to || to > 65535)
    throw new ClientError(`Cannot read ports "${text}": expected a range, 1024-32767`)
  return { from, to }
}

export async function addFullNat(
  socket: string,
  addresses: readonly string[],
  options: { readonly ports?: string },
): Promise<void> {
  const ports = options.ports === undefined ? {} : { ports: portRange(options.ports) }
  await call(socket, 'POST', '/v1/full-nat', { add: addresses.map((address) => ({ address, ...ports })) })
}

export async function deleteFullNat(socket: string, addresses: readonly string[]): Promise<void> {
  await call(socket, 'POST', '/v1/full-nat', { delete: addresses })
}

export async function listFullNat(socket: string): Promise<Shown> {
  const { value, raw } = await get(socket, '/v1/full-nat', fullNatAnswer)
  return {
    json: raw,
    text: () =>
      value.length === 0
        ? 'No addresses. Add one of this host: pointsman full-nat add 10.0.0.5\n'
        : table([
            ['address', 'ports', 'connections', 'ports taken', 'of'],
            ...value.map(({ address, ports, connections, taken }) => [
              address,
              portsText(ports),
              connections,
              taken,
              ports.to - ports.from + 1,
            ]),
          ]),
    good: true,
  }
}
