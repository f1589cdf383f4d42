/** The words of `pointsman limit`: what services let each source do. */
import { ClientError, call, get } from '../front/api/client.ts'
import { serviceTitle } from '../front/api/names.ts'
import { limitsAnswer } from '../front/api/schema/limit.ts'
import { CONNECTIONS_MAX, RATE_MAX } from '../model/limit.ts'
import type { Shown } from './nouns.ts'
import { findService } from './service-name.ts'
import { table } from './text.ts'

export interface LimitOptions {
  readonly rate?: string
  readonly connections?: string
  readonly prefix?: string
}

function numberOf(what: string, text: string, max: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0
  if (value >= 1 && value <= max) return value
  throw new ClientError(`Cannot read ${what} "${text}": expected 1 to ${max}`)
}

async function bodyOf(socket: string, name: string): Promise<object> {
  const { service } = await findService(socket, name)
  const { protocol, address, port, fwmark, family } = service
  return fwmark === undefined ? { protocol, address, port } : { fwmark, family }
}

export async function addLimit(socket: string, name: string, options: LimitOptions): Promise<void> {
  if (options.rate === undefined && options.connections === undefined)
    throw new ClientError(`Cannot limit "${name}" without a number: expected --rate, --connections or both`)
  const limit = {
    service: await bodyOf(socket, name),
    ...(options.rate === undefined ? {} : { rate: numberOf('rate', options.rate, RATE_MAX) }),
    ...(options.connections === undefined
      ? {}
      : { connections: numberOf('connections', options.connections, CONNECTIONS_MAX) }),
    ...(options.prefix === undefined
      ? {}
      : { prefix: numberOf('prefix', options.prefix.replace(/^\//, ''), 128) }),
  }
  await call(socket, 'POST', '/v1/limits', { add: [limit] })
}

export async function deleteLimit(socket: string, name: string): Promise<void> {
  await call(socket, 'POST', '/v1/limits', { delete: [await bodyOf(socket, name)] })
}

export async function listLimits(socket: string): Promise<Shown> {
  const { value, raw } = await get(socket, '/v1/limits', limitsAnswer)
  return {
    json: raw,
    text: () =>
      value.length === 0
        ? 'No limits. Add one: pointsman limit add tcp/192.0.2.10:80 --rate 50\n'
        : table([
            ['service', 'new connections/s', 'at a time', 'of each', 'stated by'],
            ...value.map(({ service, rate, connections, prefix, source }) => [
              serviceTitle(service),
              rate ?? '-',
              connections ?? '-',
              `/${prefix}`,
              source,
            ]),
          ]),
    good: true,
  }
}
