/**
 * Addresses and roles of the lab, from `topology.json`: the one description that the network
 * namespaces here and the virtual machines of the Vagrantfile are both made from.
 *
 *      clients' wire  192.0.2.0/24  2001:db8:1::/64
 *   ──┬──────────────┬───────────────────┬──────────
 *   client       director c0          rs1..rs3 c0    (answers of DR and TUN go out here)
 *                director r0          rs1..rs3 r0
 *                ────┴───────────────────┴──────────
 *      real servers' wire  10.0.2.0/24  2001:db8:2::/64
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'

const pair = z.object({ ipv4: z.ipv4(), ipv6: z.ipv6() })
const station = pair.extend({ mac: z.string() })
const network = z.object({ prefix: z.int(), base: z.string() })
const wire = z.object({
  interface: z.string(),
  /** Bytes. The real servers' wire has room for the outer header of a tunnel around a full packet. */
  mtu: z.int().min(1280),
  ipv4: network,
  ipv6: network,
})
const port = z.int().min(1).max(65535)

const schema = z.object({
  wires: z.object({ clients: wire, servers: wire }),
  hosts: z.array(
    z.object({
      name: z.string(),
      role: z.enum(['client', 'director', 'real-server']),
      clients: station,
      servers: station.optional(),
    }),
  ),
  virtual: z.object({ nat: pair, 'direct-routing': pair, tunnel: pair }),
  ports: z.object({ http: port, httpBehindNat: port, echo: port, echoBehindNat: port, gue: port }),
})

export type Topology = z.infer<typeof schema>
export type Host = Topology['hosts'][number]
export type WireName = keyof Topology['wires']
export type Method = keyof Topology['virtual']
export type AddressFamily = 'ipv4' | 'ipv6'

/** The checked-out description; throws when the file does not have the expected shape. */
export function readTopology(): Topology {
  const path = fileURLToPath(new URL('./topology.json', import.meta.url))
  return schema.parse(JSON.parse(readFileSync(path, 'utf8')))
}

export const topology = readTopology()
export const METHODS = ['nat', 'direct-routing', 'tunnel'] as const satisfies readonly Method[]
export const WIRES = ['clients', 'servers'] as const satisfies readonly WireName[]
export const FAMILIES = ['ipv4', 'ipv6'] as const satisfies readonly AddressFamily[]

export function hostNamed(name: string): Host {
  const host = topology.hosts.find((candidate) => candidate.name === name)
  if (host === undefined) throw new Error(`No host "${name}" in lab/topology.json`)
  return host
}

/** Real servers in the order of the description. */
export function realServers(): readonly (Host & { servers: NonNullable<Host['servers']> })[] {
  return topology.hosts.flatMap((host) =>
    host.role === 'real-server' && host.servers !== undefined ? [{ ...host, servers: host.servers }] : [],
  )
}

/** `address:port`, with brackets around IPv6. */
export function endpoint(address: string, portNumber: number): string {
  return address.includes(':') ? `[${address}]:${portNumber}` : `${address}:${portNumber}`
}
