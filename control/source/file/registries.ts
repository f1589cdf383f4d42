/** What a configuration file says of registries, and of pools that follow them. */
import { z } from 'zod'
import { parseEndpoint } from '../../../net/endpoint.ts'
import type { FollowedPool, RegistryAddress, RegistryTls } from '../../model/pool.ts'

const file = z.string().min(1)
const URL_WANTED = 'expected http://HOST:PORT or https://HOST:PORT'
const url = z.string().refine((text) => {
  const parsed = URL.canParse(text) ? new URL(text) : null
  return parsed !== null && ['http:', 'https:'].includes(parsed.protocol) && parsed.username === ''
}, URL_WANTED)
const HOST_WANTED = 'expected HOST or HOST:PORT'
const host = z
  .string()
  .regex(/^(?:[A-Za-z0-9][A-Za-z0-9._-]{0,252}|[0-9a-fA-F:]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$/, HOST_WANTED)
const nameServer = z
  .string()
  .refine((text) => parseEndpoint(text) !== null, 'expected ADDRESS or ADDRESS:PORT')
const some = <T extends z.ZodType>(one: T) => z.union([one, z.array(one).min(1)])

const tls = {
  ca: file.optional().meta({ description: 'file with the authorities to trust' }),
  cert: file.optional().meta({ description: 'file with our own certificate' }),
  key: file.optional().meta({ description: 'file with its key' }),
  server_name: z.string().min(1).optional().meta({ description: 'the name in their certificate' }),
  verify: z
    .boolean()
    .optional()
    .meta({ description: 'whether their certificate has to be valid; true unless given' }),
}
const login = {
  user: z.string().min(1).optional(),
  password: z.string().optional(),
  password_file: file.optional().meta({ description: 'read whenever we log in, instead of password' }),
}

export const registry = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('etcd'),
      endpoints: some(url).meta({
        description: 'members of one cluster, in the order in which they are tried',
      }),
      ...login,
      ...tls,
    }),
    z.strictObject({
      kind: z.literal('zookeeper'),
      endpoints: some(host).meta({ description: 'HOST:PORT, port 2181 unless given' }),
      ...login,
      tls: z.boolean().optional(),
      ...tls,
    }),
    z.strictObject({
      kind: z.literal('consul'),
      endpoints: some(url).optional().meta({ description: 'agents; http://127.0.0.1:8500 unless given' }),
      token: z.string().min(1).optional(),
      token_file: file.optional(),
      datacenter: z.string().min(1).optional(),
      ...tls,
    }),
    z.strictObject({
      kind: z.literal('dns'),
      endpoints: some(nameServer)
        .optional()
        .meta({ description: 'name servers, port 53 unless given; those of /etc/resolv.conf without any' }),
    }),
  ])
  .meta({ id: 'Registry', description: 'who knows which real servers there are' })

/** What a pool says that follows one. */
export const followed = {
  registry: z.string().meta({ description: 'name of one in registries' }),
  name: z.string().min(1).max(1024).meta({
    description:
      'etcd: what the keys begin with; zookeeper: the node whose children they are; consul: the service; dns: the name, of SRV records if it begins with _',
  }),
  max_removal: z
    .string()
    .regex(/^(?:100|\d{1,2})%$/, 'expected a share: 50%')
    .optional()
    .meta({ description: 'of the real servers that may leave within a minute; 50% unless given' }),
  allow_empty: z
    .boolean()
    .optional()
    .meta({ description: 'whether it may become empty; false unless given' }),
}

export type RegistryDocument = z.input<typeof registry>
export interface FollowedDocument {
  readonly registry: string
  readonly name: string
  readonly max_removal?: string | undefined
  readonly allow_empty?: boolean | undefined
}

const MAX_REMOVAL = 0.5
const PORTS = { zookeeper: 2181, dns: 53 } as const

const list = <T>(one: T | readonly T[]): readonly T[] => (Array.isArray(one) ? one : [one as T])

/** @param path of a file that is named */
export function registryAddress(document: RegistryDocument, path: (name: string) => string): RegistryAddress {
  const common = { user: null, password: null, passwordFile: null, tls: null, datacenter: null }
  const at = (name: string | undefined): string | null => (name === undefined ? null : path(name))
  const login = (words: {
    user?: string | undefined
    password?: string | undefined
    password_file?: string | undefined
  }) => ({
    user: words.user ?? null,
    password: words.password ?? null,
    passwordFile: at(words.password_file),
  })
  switch (document.kind) {
    case 'etcd':
      return {
        ...common,
        kind: document.kind,
        endpoints: list(document.endpoints),
        ...login(document),
        tls: tlsOf(document, at),
      }
    case 'zookeeper':
      return {
        ...common,
        kind: document.kind,
        endpoints: list(document.endpoints).map((text) => withPort(text, PORTS.zookeeper)),
        ...login(document),
        tls: document.tls === true ? tlsOf(document, at) : null,
      }
    case 'consul':
      return {
        ...common,
        kind: document.kind,
        endpoints: list(document.endpoints ?? 'http://127.0.0.1:8500'),
        password: document.token ?? null,
        passwordFile: at(document.token_file),
        tls: tlsOf(document, at),
        datacenter: document.datacenter ?? null,
      }
    case 'dns':
      return {
        ...common,
        kind: document.kind,
        endpoints: list(document.endpoints ?? []).map((text) => withPort(text, PORTS.dns)),
      }
    default:
      return document satisfies never
  }
}

function tlsOf(
  words: {
    ca?: string | undefined
    cert?: string | undefined
    key?: string | undefined
    server_name?: string | undefined
    verify?: boolean | undefined
  },
  at: (name: string | undefined) => string | null,
): RegistryTls {
  return {
    ca: at(words.ca),
    cert: at(words.cert),
    key: at(words.key),
    serverName: words.server_name ?? null,
    verify: words.verify ?? true,
  }
}

/** `HOST:PORT`, IPv6 addresses in brackets. */
function withPort(text: string, port: number): string {
  if (/^[0-9a-fA-F:]+$/.test(text) && text.split(':').length > 2) return `[${text}]:${port}`
  return /:\d+$/.test(text) ? text : `${text}:${port}`
}

export function followedPool(document: FollowedDocument, address: RegistryAddress): FollowedPool {
  const share =
    document.max_removal === undefined ? MAX_REMOVAL : Number.parseInt(document.max_removal, 10) / 100
  return {
    registry: document.registry,
    address,
    name: document.name,
    maxRemoval: share,
    allowEmpty: document.allow_empty ?? false,
  }
}
