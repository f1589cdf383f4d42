/** Connections as they cross the API. */
import { z } from 'zod'
import { CONNECTION_ORDERS, type ConnectionListing, type ConnectionPage } from '../../../model/connection.ts'
import { addressShown, port } from './basic.ts'

export const connectionsQuery = z.object({
  limit: z
    .string()
    .regex(/^\d{1,9}$/, 'expected a number')
    .transform(Number)
    .optional(),
})

export const connectionAnswer = z
  .object({
    protocol: z.enum(['tcp', 'udp', 'sctp', 'ip']),
    family: z.union([z.literal(4), z.literal(6)]),
    remainingMs: z.int(),
    state: z.string().meta({ description: 'as ipvsadm prints it', example: 'ESTABLISHED' }),
    client: addressShown,
    clientPort: port,
    virtual: addressShown,
    virtualPort: port,
    destination: addressShown,
    destinationPort: port,
    seenAs: z
      .object({ address: addressShown, port })
      .optional()
      .meta({ description: 'by full NAT: what the real server sees for its client' }),
    template: z.boolean(),
    engine: z.object({ name: z.string(), data: z.string() }).nullable(),
  })
  .meta({ id: 'Connection' })
export const connectionsAnswer = z.array(connectionAnswer)
export type ConnectionShown = z.infer<typeof connectionAnswer>

/** Rows of one page: what a screen has, and somebody reads. */
export const PAGE_ROWS_MAX = 200
const PAGE_ROWS = 50

export const connectionPageQuery = z.object({
  search: z.string().max(200).default('').meta({
    description:
      'words that all fit: tcp, established, 198.51.100.7, 198.51.100.0/24, 198.51., 192.0.2.10:80, :80, tcp/192.0.2.10:80',
  }),
  order: z.enum(CONNECTION_ORDERS).default('ends'),
  limit: z
    .string()
    .regex(/^\d{1,3}$/, 'expected a number')
    .transform(Number)
    .refine((limit) => limit >= 1 && limit <= PAGE_ROWS_MAX, `expected 1 to ${PAGE_ROWS_MAX}`)
    .default(PAGE_ROWS),
  after: z.string().max(200).optional().meta({ description: '`next` of the page before' }),
})

export const connectionPageAnswer = z
  .object({
    connections: connectionsAnswer,
    matched: z.int().meta({ description: 'how many fit the search, on all pages' }),
    next: z.string().nullable().meta({ description: 'where the next page begins; null: there is none' }),
  })
  .meta({ id: 'ConnectionPage' })
export type ConnectionPageShown = z.infer<typeof connectionPageAnswer>

export function connectionPageJson({ connections, ...rest }: ConnectionPage): ConnectionPageShown {
  return { connections: connections.map(connectionJson), ...rest }
}

export function connectionJson(connection: ConnectionListing): ConnectionShown {
  const { remainingMs, ...rest } = connection
  return { ...rest, remainingMs: Math.round(remainingMs) }
}
