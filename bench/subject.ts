/** The packet program in a director of its own, unattached: rules, tables, and passes of packets. */
import { putInterface } from '../dataplane/interface-table.ts'
import { KernelDataplane } from '../dataplane/kernel/plane.ts'
import { PM_TICK_SHIFT, Verdict } from '../dataplane/layout/layout.gen.ts'
import { possibleCpus } from '../linux/cpus.ts'
import { readNetDevice } from '../linux/device.ts'
import { FORWARDED, type Method, VIP } from './methods.ts'
import { DIRECTOR } from './network.ts'
import { BenchRules, expectVerdict, hopTo, readVerdicts } from './rules.ts'
import { type Family, fromClients, MAC, type Traffic, toClients } from './traffic.ts'
import type { Wrapper } from './wrapper.ts'

export interface Bench {
  readonly plane: KernelDataplane
  readonly rules: BenchRules
  readonly wrapper: Wrapper
  /** Interfaces frames seem to come from. */
  readonly client: number
  readonly server: number
}

export async function open(
  wrapper: Wrapper,
  table: { readonly 4: number; readonly 6: number },
): Promise<Bench> {
  const plane = await KernelDataplane.open({
    pinDirectory: null,
    sizes: {
      services: 131_072,
      serviceBuckets: 32_768,
      reals: 131_072,
      members: 262_144,
      connections4: table[4],
      connections6: table[6],
      cpus: possibleCpus(),
    },
  })
  const ifindex = (device: string): number => {
    const found = readNetDevice(device)
    putInterface(plane, found)
    return found.ifindex
  }
  const [client, server] = [ifindex(DIRECTOR.client.device), ifindex(DIRECTOR.server.device)]
  const rules = new BenchRules(plane)
  // With one arm, real servers are where clients come from.
  rules.reachBy(({ address }) => {
    const beside = address === DIRECTOR.gateway[4] || address === DIRECTOR.gateway[6]
    return beside ? hopTo(client, MAC.client) : hopTo(server)
  })
  return { plane, rules, wrapper, client, server }
}

const TICK_MS = 2 ** PM_TICK_SHIFT / 1e6
/** Of SYN flows, each a measurement of its own. */
const CHUNK = 65_536

/** Sends one packet of every flow, in order; nanoseconds per packet of each chunk, net. */
export function pass(
  bench: Bench,
  traffic: Traffic,
  flows: number,
  ifindex: number,
  verdict: number,
): number[] {
  const { wrapper, plane } = bench
  const results: number[] = []
  const chunk = Math.min(flows, CHUNK)
  const before = readVerdicts(plane)
  for (let first = 0; first < flows; first += chunk) {
    const range = { traffic, flows: chunk, first }
    wrapper.choose(range)
    const nop = wrapper.run(wrapper.references.nop, ifindex, chunk).ns
    wrapper.choose(range)
    bench.rules.holdNextHops()
    results.push(wrapper.run(plane.programFd, ifindex, chunk).ns - nop)
  }
  expectVerdict(plane, before, verdict, flows)
  return results
}

export const endpoint = (family: Family) => ({ address: VIP[family], port: 80 })
export const text = (flows: number): string => `${flows.toLocaleString('en')} flow${flows === 1 ? '' : 's'}`

/** One service of this method; NAT has one real server, so that its answers are known beforehand. */
export function oneService(bench: Bench, method: Method, family: Family): void {
  const count = method === 'nat' ? 1 : 100
  bench.rules.clear()
  bench.rules.add({
    at: endpoint(family),
    method,
    servers: Array.from({ length: count }, (_, n) => ({ address: DIRECTOR.real[family], port: 8000 + n })),
    source: DIRECTOR.server[family],
  })
}

/** First packets, then the rest of the handshake, so that connections are established. */
export function establish(bench: Bench, method: Method, family: Family, flows: number): number[] {
  const verdict = FORWARDED[method]
  const to = endpoint(family)
  bench.rules.forgetConnections(family)
  const syn = pass(bench, fromClients(to, { flags: 'S' }), flows, bench.client, verdict)
  if (method === 'nat') {
    const from = { address: DIRECTOR.real[family], port: 8000 }
    pass(bench, toClients(from, 'SA'), flows, bench.server, Verdict.ForwardNatReply)
  }
  pass(bench, fromClients(to, { flags: 'A' }), flows, bench.client, verdict)
  // Without answers a connection counts as one when its client comes back in another tick of the clock, which
  // costs that packet a change of state: none of those that are measured is to be the one.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2 * TICK_MS)
  pass(bench, fromClients(to, { flags: 'A' }), flows, bench.client, verdict)
  return syn
}
