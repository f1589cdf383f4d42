/** What two packet programs are compared by. */

import { LABEL, METHODS, type Method } from '../methods.ts'
import type { Family } from '../traffic.ts'
import type { Scene, VerdictName } from './protocol.ts'

/** Which packets, and what has to become of them. */
export type Traffic = 'clients' | 'answers' | 'first' | 'other-port' | 'wire' | 'wire-first'

export interface Case {
  readonly name: string
  readonly unit: 'ns/packet' | 'packets/s'
  readonly scene: Scene
  /** Connections that there are while it is measured, each with a packet as likely as any other. */
  readonly flows: number
  readonly traffic: Traffic
  readonly verdict: VerdictName
  readonly tables: Tables
  /** Also part of a look in between. */
  readonly quick: boolean
}

/** Connections that tables are made for. */
export type Tables = 65_536 | 1_048_576

const FORWARD: Readonly<Record<Method, VerdictName>> = {
  'direct-routing': 'ForwardDr',
  tunnel: 'ForwardTun',
  nat: 'ForwardNat',
}
const SERVERS = 100
const MANY = 65_536
const MOST = 1_048_576

function scene(method: Method, family: Family, options: Partial<Scene> = {}): Scene {
  return { method, family, servers: SERVERS, scheduler: 'rr', oneArm: false, ...options }
}

const count = (flows: number): string => (flows === 1 ? '1 flow' : `${flows.toLocaleString('en')} flows`)

function established(method: Method, family: Family, flows: number, quick: boolean): Case[] {
  const tables: Tables = flows > MANY ? MOST : MANY
  const common = { unit: 'ns/packet', scene: scene(method, family), flows, tables, quick } as const
  const label = `IPv${family}, ${count(flows)}`
  const ours: Case = {
    ...common,
    name: `${LABEL[method]}, ${label}`,
    traffic: 'clients',
    verdict: FORWARD[method],
  }
  if (method !== 'nat') return [ours]
  return [ours, { ...common, name: `NAT reply, ${label}`, traffic: 'answers', verdict: 'ForwardNatReply' }]
}

function first(name: string, of: Scene, quick: boolean): Case {
  return {
    name: `first packet of ${name}`,
    unit: 'ns/packet',
    scene: of,
    flows: 0,
    traffic: 'first',
    verdict: FORWARD[of.method],
    tables: MANY,
    quick,
  }
}

function wire(method: Method, flows: number, quick: boolean): Case {
  return {
    name: `over the wire, ${LABEL[method]}, ${flows === 0 ? 'new flows' : count(flows)}`,
    unit: 'packets/s',
    scene: scene(method, 4, { oneArm: true }),
    flows,
    traffic: flows === 0 ? 'wire-first' : 'wire',
    verdict: FORWARD[method],
    tables: MANY,
    quick,
  }
}

export const CASES: readonly Case[] = [
  ...METHODS.flatMap((method) => established(method, 4, 1, true)),
  ...METHODS.flatMap((method) => established(method, 4, MANY, method !== 'tunnel')),
  ...METHODS.flatMap((method) => established(method, 4, MOST, false)),
  ...established('direct-routing', 6, 1, false),
  ...established('direct-routing', 6, MANY, false),
  first('DR, IPv4', scene('direct-routing', 4), true),
  first('NAT, IPv4', scene('nat', 4), false),
  first('DR, IPv6', scene('direct-routing', 6), false),
  first(
    'DR by wlc of 1,000 real servers',
    scene('direct-routing', 4, { scheduler: 'wlc', servers: 1000 }),
    false,
  ),
  {
    name: 'other port of a virtual address',
    unit: 'ns/packet',
    scene: scene('direct-routing', 4),
    flows: MANY,
    traffic: 'other-port',
    verdict: 'PassNoService',
    tables: MANY,
    quick: true,
  },
  ...METHODS.map((method) => wire(method, 1, method === 'direct-routing')),
  wire('direct-routing', MANY, false),
  wire('direct-routing', 0, false),
]

export interface Group {
  readonly tables: Tables
  /** Cases with the same service and connections stand together: neither is made twice. */
  readonly scenes: readonly (readonly Case[])[]
}

/** Cases by the tables they need, and there by what has to be set up for them. */
export function groups(cases: readonly Case[]): Group[] {
  const found = new Map<Tables, Map<string, Case[]>>()
  for (const one of cases) {
    const scenes = found.get(one.tables) ?? new Map<string, Case[]>()
    found.set(one.tables, scenes)
    const key = JSON.stringify([one.scene, one.flows])
    scenes.set(key, [...(scenes.get(key) ?? []), one])
  }
  return [...found].map(([tables, scenes]) => ({ tables, scenes: [...scenes.values()] }))
}
