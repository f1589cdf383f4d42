/** Connections as they cross the API. */
import { z } from 'zod'
import type { ConnectionListing } from '../../../model/connection.ts'
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
    template: z.boolean(),
    engine: z.object({ name: z.string(), data: z.string() }).nullable(),
  })
  .meta({ id: 'Connection' })
export const connectionsAnswer = z.array(connectionAnswer)
export type ConnectionShown = z.infer<typeof connectionAnswer>

export function connectionJson(connection: ConnectionListing): ConnectionShown {
  const { remainingMs, ...rest } = connection
  return { ...rest, remainingMs: Math.round(remainingMs) }
}
