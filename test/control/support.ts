/** Short ways to write rules in tests. */

import type { Clock } from '../../control/apply/clock.ts'
import type { SavedState, StateFile } from '../../control/apply/state-file.ts'
import type { Outcome } from '../../control/model/outcome.ts'
import type { RealServer } from '../../control/model/server.ts'
import type { ServiceId, VirtualService } from '../../control/model/service.ts'
import { fixedHost, type Host, type HostInterface } from '../../control/rules/host.ts'
import type { IpAddress } from '../../net/address.ts'
import { familyOf, parseAddress } from '../../net/address.ts'
import type { Protocol } from '../../net/protocol.ts'

export function ip(text: string): IpAddress {
  const address = parseAddress(text)
  if (address === null) throw new TypeError(`not an address: "${text}"`)
  return address
}

/** `tcp 10.0.0.1:80`, `udp [2001:db8::1]:53`, `fwmark 7`, `fwmark6 7`. */
export function serviceId(text: string): ServiceId {
  const mark = /^fwmark(6?) (\d+)$/.exec(text)
  if (mark) return { kind: 'fwmark', mark: Number(mark[2]), family: mark[1] ? 6 : 4 }
  const match = /^(tcp|udp|sctp) \[?([^\]]+)\]?:(\d+)$/.exec(text)
  if (!match) throw new TypeError(`not a service: "${text}"`)
  const address = ip(match[2]!)
  return {
    kind: 'address',
    protocol: match[1] as Protocol,
    address,
    family: familyOf(address),
    port: Number(match[3]),
  }
}

export function service(text: string, changes: Partial<VirtualService> = {}): VirtualService {
  const id = serviceId(text)
  return {
    id,
    scheduler: 'wlc',
    schedulerFlags: 0,
    onePacket: false,
    untracked: false,
    persistenceTimeoutS: 0,
    netmask: id.family === 4 ? 0xffffffff : 128,
    persistenceEngine: null,
    ...changes,
  }
}

/** `10.1.0.1:80`, `[2001:db8::1]:80`. */
export function server(text: string, changes: Partial<RealServer> = {}): RealServer {
  const match = /^\[?([^\]]+)\]?:(\d+)$/.exec(text)
  if (!match) throw new TypeError(`not a real server: "${text}"`)
  const address = ip(match[1]!)
  return {
    id: { address, family: familyOf(address), port: Number(match[2]) },
    method: 'nat',
    tunnel: { type: 'ipip' },
    weight: 1,
    upperThreshold: 0,
    lowerThreshold: 0,
    ...changes,
  }
}

export function nic(name: string, ifindex: number, addresses: readonly string[], mtu = 1500): HostInterface {
  return {
    name,
    ifindex,
    mac: new Uint8Array([2, 0, 0, 0, 0, ifindex]),
    mtu,
    up: true,
    addresses: addresses.map((text) => {
      const [address, length] = text.split('/') as [string, string]
      return { address: ip(address), family: familyOf(ip(address)), prefixLength: Number(length) }
    }),
  }
}

export function testHost(): Host {
  return fixedHost({
    interfaces: [
      nic('lo', 1, ['127.0.0.1/8', '::1/128'], 65536),
      nic('eth0', 2, ['192.168.77.1/24', '2001:db8:77::1/64', 'fe80::1/64']),
      nic('eth1', 3, ['192.168.78.1/24']),
    ],
    sources: { '10.1.0.9': ip('192.168.77.1') },
  })
}

/** `ok`, or the errno. */
export function answer(outcome: Outcome<unknown>): string {
  return outcome.ok ? 'ok' : outcome.errno
}

/** What a director saves, kept in memory for the next one over the same maps. */
export function memoryState(): StateFile {
  const states = new Map<number, SavedState>()
  return {
    load: (maps) => states.get(maps) ?? null,
    save: (maps, saved) => void states.set(maps, structuredClone(saved)),
    remove: (maps) => void states.delete(maps),
  }
}

/** A clock that is set by hand; what is due is called when the test says so. */
export class HandClock implements Clock {
  readonly #due = new Set<{ readonly atMs: number; readonly action: () => void }>()
  #nowMs: number

  constructor(nowMs = 0) {
    this.#nowMs = nowMs
  }

  nowMs(): number {
    return this.#nowMs
  }

  after(ms: number, action: () => void): () => void {
    const due = { atMs: this.#nowMs + ms, action }
    this.#due.add(due)
    return () => this.#due.delete(due)
  }

  /** Calls, in order, what is due until then. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms
    for (;;) {
      const next = [...this.#due].sort((a, b) => a.atMs - b.atMs).find(({ atMs }) => atMs <= untilMs)
      if (next === undefined) break
      this.#due.delete(next)
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      next.action()
    }
    this.#nowMs = untilMs
  }
}
