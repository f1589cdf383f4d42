/** The way to an address as the kernel says it, for whoever explains what became of a packet. */
import { z } from 'zod'
import type { NextHop } from '../../../../linux/netlink/next-hop.ts'
import { parseAddress } from '../../../../net/address.ts'

const mac = z
  .string()
  .regex(/^[0-9a-f]{12}$/)
  .meta({ description: 'twelve hexadecimal digits' })

export const nextHopAnswer = z
  .discriminatedUnion('result', [
    z.object({ result: z.literal('ok'), ifindex: z.int(), smac: mac, dmac: mac, mtu: z.int() }),
    z.object({ result: z.enum(['no-route', 'local', 'no-neighbour', 'forwarding-off']) }),
  ])
  .meta({ id: 'NextHop' })
export type NextHopJson = z.infer<typeof nextHopAnswer>

const address = z
  .string()
  .transform(parseAddress)
  .refine((parsed) => parsed !== null, { error: 'Expected an IPv4 or IPv6 address' })
const number = z
  .string()
  .regex(/^\d{1,9}$/)
  .transform(Number)

export const nextHopQuery = z.object({
  to: address,
  from: address.optional(),
  ifindex: number.optional().meta({ description: 'where the packet came in; left out: the way alone' }),
  tos: number.optional(),
})

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
}

export function nextHopJson(hop: NextHop): NextHopJson {
  return hop.result === 'ok' ? { ...hop, smac: hexOf(hop.smac), dmac: hexOf(hop.dmac) } : hop
}

export function nextHopOf(json: NextHopJson): NextHop {
  return json.result === 'ok' ? { ...json, smac: bytesOf(json.smac), dmac: bytesOf(json.dmac) } : json
}
