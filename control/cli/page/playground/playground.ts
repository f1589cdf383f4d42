/**
 * A director to try things on: rules by ipvsadm's own grammar, packets through the packet program, time that goes
 * when it is told to. It needs nothing of the machine it runs on.
 */

import type { Sizes } from '../../../../dataplane/dataplane.ts'
import { putInterface } from '../../../../dataplane/interface-table.ts'
import type { NextHop } from '../../../../linux/netlink/next-hop.ts'
import { addressToBytes, familyOf, type IpAddress, parseAddress } from '../../../../net/address.ts'
import { openDirector } from '../../../apply/open.ts'
import { msOfTicks, ticksOfSeconds } from '../../../compile/settings.ts'
import { execute } from '../../../front/ipvsadm/execute.ts'
import type { Names } from '../../../front/ipvsadm/names.ts'
import { LIST_ALL, parse } from '../../../front/ipvsadm/parse.ts'
import { restoreLines } from '../../../front/ipvsadm/restore.ts'
import { usage, VERSION } from '../../../front/ipvsadm/usage.ts'
import { Desk } from '../../../insight/explain/desk.ts'
import { Explainer } from '../../../insight/explain/explain.ts'
import { frameOf, frameOfHex, PacketError, packetInWords } from '../../../insight/explain/packet.ts'
import type { Explanation } from '../../../insight/explain/told.ts'
import type { VerdictWords } from '../../../insight/explain/verdict-words.ts'
import { fixedHost } from '../../../rules/host.ts'

/** Enough to learn by, and made in a blink. */
const SIZES: Sizes = {
  ...{ services: 64, serviceBuckets: 32, reals: 256, members: 4096 },
  ...{ connections4: 4096, connections6: 4096, filterBuckets: 1024, cpus: 1 },
}
/** 128 MiB: what they take, with room. */
const PAGES_MAX = 2048
const IFINDEX = 2
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 2)
const OWN = ['192.0.2.1', '2001:db8::1'].map((text) => parseAddress(text)!)
/** Of the clock, so that nothing lies before its beginning. */
const START_TICKS = 1_000_000
const LINES = 65_536

/** The program and what its verdicts mean. */
export interface Parts {
  readonly module: WebAssembly.Module
  readonly words: ReadonlyMap<string, VerdictWords>
}

/** What became of one line. */
export type Told =
  | { readonly kind: 'command'; readonly text: string; readonly failed: boolean }
  | { readonly kind: 'packet'; readonly explanation: Explanation }

const NO_NAMES: Names = {
  hostAddress: () => null,
  hostName: () => null,
  servicePort: () => null,
  serviceName: () => null,
  pending: 0,
  resolve: async () => {},
}

/** Everybody is a neighbour, whose MAC address tells the end of his own. */
function wayTo(address: IpAddress): NextHop {
  const dmac = Uint8Array.of(2, 0, ...addressToBytes(address).slice(-4))
  return { result: 'ok', ifindex: IFINDEX, mtu: 1500, smac: MAC, dmac }
}

export class Playground {
  readonly #desk: Desk
  readonly #managed: ReturnType<typeof openDirector>
  #ticks = START_TICKS

  constructor({ module, words }: Parts) {
    const playground = this
    const explainer = new Explainer({
      snapshot: {
        ...{ pointsman: '', plane: 'memory', sizes: SIZES, takenAt: '', chunks: [], hops: new Map() },
        interfaces: [{ ifindex: IFINDEX, name: 'eth0' }],
        get ticks() {
          return playground.#ticks
        },
      },
      ...{ module, words, maximumPages: PAGES_MAX },
      way: ({ destination }) => wayTo(destination),
    })
    this.#desk = new Desk(explainer, null)
    const host = fixedHost({
      interfaces: [
        {
          ...{ name: 'eth0', ifindex: IFINDEX, mac: MAC, mtu: 1500, up: true },
          addresses: OWN.map((address) => {
            const family = familyOf(address)
            return { address, family, prefixLength: family === 4 ? 24 : 64 }
          }),
        },
      ],
      sysctls: { 'net/ipv4/ip_forward': 1, 'net/ipv6/conf/all/forwarding': 1 },
    })
    this.#managed = openDirector({
      dataplane: explainer.plane,
      host: { ...host, resolveSource: (to) => OWN.find((own) => familyOf(own) === familyOf(to)) ?? null },
      clock: { nowMs: () => msOfTicks(this.#ticks), after: later },
    })
    putInterface(explainer.plane, { name: 'eth0', ifindex: IFINDEX, mac: MAC, mtu: 1500 })
  }

  /** Nothing else may go on meanwhile. Lines without words, and remarks, are null. */
  async run(line: string): Promise<Told | null> {
    const text = line.replace(/(^|\s)#.*$/, '').trim()
    const [first = '', ...rest] = text.split(/\s+/)
    if (text === '') return null
    try {
      if (first === 'send') return { kind: 'packet', explanation: await this.#send(rest) }
      if (first === 'wait') return this.#wait(rest)
    } catch (error) {
      if (error instanceof PacketError) return { kind: 'command', text: error.message, failed: true }
      throw error
    }
    return await this.#command(text.replace(/^(?:[#$]\s+)?(?:sudo\s+)?/, ''))
  }

  /** `ipvsadm -Ln`, `-Lnc`. */
  async listing(words: string): Promise<string> {
    const told = await this.#command(`ipvsadm ${words}`)
    return told.kind === 'command' ? told.text : ''
  }

  async #send([kind = '', ...words]: readonly string[]): Promise<Explanation> {
    const { explainer } = this.#desk
    if (kind === 'hex') return await this.#desk.explain(frameOfHex(words.join(' '), MAC), IFINDEX, 'as it is')
    const [from, to, flags, ...more] = words
    const packet = packetInWords([kind, from ?? '', to ?? '', ...more], flags)
    if (explainer.interfaces().length === 0) throw new Error('The playground has lost its interface')
    return await this.#desk.explain(frameOf(packet, MAC), IFINDEX, 'as it is')
  }

  /** Time goes on, and what it ends is swept up, as the daemon does. */
  #wait([seconds = '', ...more]: readonly string[]): Told {
    if (!/^\d{1,7}$/.test(seconds) || more.length > 0)
      throw new PacketError(`Cannot wait "${[seconds, ...more].join(' ')}": expected seconds: wait 60`)
    this.#ticks = (this.#ticks + ticksOfSeconds(Number(seconds))) >>> 0
    while (!this.#managed.applier.sweepSlice(LINES));
    return { kind: 'command', text: '', failed: false }
  }

  async #command(line: string): Promise<Told> {
    const { director } = this.#managed
    const [words = ['ipvsadm']] = restoreLines(line, 'ipvsadm')
    const request = words.length <= 1 ? LIST_ALL : parse(words, NO_NAMES)
    switch (request.kind) {
      case 'refused':
        return { kind: 'command', text: `${request.message}\n`, failed: true }
      case 'help':
        return { kind: 'command', text: usage('ipvsadm'), failed: false }
      case 'version':
        return { kind: 'command', text: VERSION, failed: false }
      case 'restore':
        return {
          kind: 'command',
          text: 'Lines to restore go here as they are, one after the other\n',
          failed: true,
        }
      default: {
        const { status, stdout, stderr, changed } = execute(request, director, NO_NAMES)
        const text = [...stdout, stderr].join('')
        if (changed) await director.settle()
        return { kind: 'command', text, failed: status !== 0 }
      }
    }
  }
}

function later(ms: number, call: () => void): () => void {
  const timer = setTimeout(call, ms)
  return () => clearTimeout(timer)
}
