/** The addresses of full NAT as they cross the API. */
import { z } from 'zod'
import type { IpAddress } from '../../../../net/address.ts'
import type { FullNatAddress, FullNatChange } from '../../../model/full-nat.ts'
import { NO_PORTS_TAKEN, type PortsTaken } from '../../../model/ports-taken.ts'
import { address, port } from './basic.ts'

const ports = z
  .strictObject({ from: port, to: port })
  .refine(({ from, to }) => from >= 1 && from <= to, 'expected the lower port first, and no port 0')

const added = z
  .strictObject({
    address,
    ports: ports.optional().meta({
      description: 'both included; left out: the larger range of those that the host gives to no socket',
    }),
  })
  .meta({ id: 'FullNatAddress' })

export const fullNatBody = z
  .strictObject({
    add: z.array(added).default([]),
    delete: z.array(address).default([]),
  })
  .meta({ id: 'FullNatChange', description: 'all of it, or nothing' })

export const fullNatAnswer = z
  .array(
    z.object({
      address: z.string(),
      ports: z.object({ from: z.int(), to: z.int() }),
      connections: z.int().meta({ description: 'that have a port of it, as they were last counted' }),
      taken: z.int().meta({
        description: 'ports taken towards the real server that has the most; of its own each has all',
      }),
    }),
  )
  .meta({ id: 'FullNatShown' })
export type FullNatShown = z.infer<typeof fullNatAnswer>

export function fullNatChange(body: z.infer<typeof fullNatBody>): FullNatChange {
  return { add: body.add, delete: body.delete }
}

export function fullNatJson(
  addresses: readonly FullNatAddress[],
  taken: ReadonlyMap<IpAddress, PortsTaken>,
): FullNatShown {
  return addresses.map(({ address, ports }) => {
    const { connections, most } = taken.get(address) ?? NO_PORTS_TAKEN
    return { address, ports: { from: ports.from, to: ports.to }, connections, taken: most }
  })
}
