/** Transport protocols a virtual service can have. */

export const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const
export type Protocol = (typeof PROTOCOLS)[number]

/** IP protocol numbers (IANA). */
export const PROTOCOL_NUMBERS: Readonly<Record<Protocol, number>> = { tcp: 6, udp: 17, sctp: 132 }

export function protocolOfNumber(number: number): Protocol | null {
  if (number === 6) return 'tcp'
  if (number === 17) return 'udp'
  if (number === 132) return 'sctp'
  return null
}
