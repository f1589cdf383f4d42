/** What a director outside of a cluster is told: where the API is, and which addresses it may give. */

import { readFileSync } from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { z } from 'zod'
import { addressWords, type Family, familyOf, parseAddress } from '../../../net/address.ts'
import { SCHEDULERS } from '../../model/scheduler.ts'
import type { ForwardingMethod } from '../../model/server.ts'
import type { Complaint } from '../../model/site.ts'
import { findings } from '../file/issues.ts'
import { readText } from '../file/text.ts'

const range = z.string().refine((text) => parseRange(text) !== null, {
  error: 'expected addresses: 192.0.2.64/28, 192.0.2.64-192.0.2.79, 2001:db8::/120, or one',
})
const file = z.string().min(1)

export const kubernetesFile = z
  .strictObject({
    api: z
      .string()
      .regex(/^https?:\/\/[^/]+$/, 'expected https://HOST:6443')
      .meta({ description: 'of the API server' }),
    token_file: file.optional().meta({ description: 'read at each request: it is renewed there' }),
    ca: file.optional(),
    cert: file.optional(),
    key: file.optional(),
    class: z.string().min(1).optional().meta({
      description:
        'loadBalancerClass of the Services that are ours; pointsman.dev/director unless given, "all": those without one, too',
    }),
    addresses: z.array(range).optional().meta({ description: 'to be given to Services that ask for none' }),
    asked_addresses: z.array(range).optional().meta({
      description: 'that Services may ask for, besides those of addresses, by annotation or loadBalancerIP',
    }),
    targets: z.enum(['pods', 'nodes']).optional().meta({ description: 'pods unless given' }),
    method: z
      .enum(['nat', 'full-nat', 'direct-routing', 'tunnel'])
      .optional()
      .meta({ description: 'nat unless given' }),
    scheduler: z.enum(SCHEDULERS).optional().meta({ description: 'wlc unless given' }),
  })
  .meta({ id: 'Kubernetes' })

export const DEFAULT_CLASS = 'pointsman.dev/director'

export interface AddressRange {
  readonly family: Family
  readonly first: bigint
  readonly last: bigint
}

export interface KubernetesSettings {
  readonly api: string
  readonly tokenFile: string | null
  readonly ca: string | null
  readonly cert: string | null
  readonly key: string | null
  /** null: all. */
  readonly class: string | null
  readonly addresses: readonly AddressRange[]
  /** What Services may ask for, besides those. */
  readonly askable: readonly AddressRange[]
  readonly targets: 'pods' | 'nodes'
  readonly method: ForwardingMethod
  readonly scheduler: (typeof SCHEDULERS)[number]
}

export function addressNumber(text: string): bigint | null {
  const address = parseAddress(text)
  if (address === null) return null
  if (familyOf(address) === 4) {
    return address.split('.').reduce((sum, byte) => sum * 256n + BigInt(byte), 0n)
  }
  return addressWords(address).reduce((sum, word) => (sum << 32n) + BigInt(word >>> 0), 0n)
}

export function addressText(value: bigint, family: Family): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 255n)).join('.')
  const groups = Array.from({ length: 8 }, (_, n) => ((value >> BigInt(112 - 16 * n)) & 0xffffn).toString(16))
  return parseAddress(groups.join(':')) ?? groups.join(':')
}

/** null: it is none. */
export function parseRange(text: string): AddressRange | null {
  const [, from = '', bits, to] = /^([0-9a-fA-F.:]+)(?:\/(\d{1,3})|-([0-9a-fA-F.:]+))?$/.exec(text) ?? []
  const address = parseAddress(from)
  const first = addressNumber(from)
  if (address === null || first === null) return null
  const family = familyOf(address)
  if (bits !== undefined) {
    const width = family === 4 ? 32 : 128
    if (Number(bits) > width) return null
    const size = 1n << BigInt(width - Number(bits))
    const base = (first / size) * size
    return { family, first: base, last: base + size - 1n }
  }
  const last = to === undefined ? first : addressNumber(to)
  const end = to === undefined ? address : parseAddress(to)
  if (last === null || end === null || familyOf(end) !== family || last < first) return null
  return { family, first, last }
}

export function readSettings(path: string): KubernetesSettings | readonly Complaint[] {
  const wrong = (line: number, column: number, message: string): Complaint => ({
    at: { file: path, line, column },
    message,
    severity: 'error',
  })
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    return [wrong(1, 1, `Cannot read it: ${error instanceof Error ? error.message : error}`)]
  }
  const document = readText(text)
  if (document.errors.length > 0) {
    return document.errors.map(({ line, column, message }) => wrong(line, column, message))
  }
  const parsed = kubernetesFile.safeParse(document.value)
  if (!parsed.success) {
    return findings(parsed.error, kubernetesFile, document.value).map(({ path: where, message, key }) => {
      const { line, column } = document.place(where, key)
      return wrong(line, column, message)
    })
  }
  const { data } = parsed
  const at = (name: string | undefined): string | null =>
    name === undefined ? null : isAbsolute(name) ? name : join(dirname(path), name)
  return {
    api: data.api,
    tokenFile: at(data.token_file),
    ca: at(data.ca),
    cert: at(data.cert),
    key: at(data.key),
    class: data.class === 'all' ? null : (data.class ?? DEFAULT_CLASS),
    addresses: (data.addresses ?? []).map((one) => parseRange(one)!),
    askable: (data.asked_addresses ?? []).map((one) => parseRange(one)!),
    targets: data.targets ?? 'pods',
    method: data.method ?? 'nat',
    scheduler: data.scheduler ?? 'wlc',
  }
}
