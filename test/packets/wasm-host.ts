/** Vectors in process: the packet program in wasm, the bench's routes as a model, no stack behind it. */

import { parseAddress } from '../../control/address.ts'
import type { Host, HostChange, HostInterface } from '../../control/host.ts'
import { builtFile } from '../../dataplane/assets.ts'
import { monotonicTicks } from '../../dataplane/clock.ts'
import type { Sizes } from '../../dataplane/dataplane.ts'
import { putInterface } from '../../dataplane/interface-table.ts'
import { Action, FibResult, JobFlag, PM_TICK_SHIFT, verdictNames } from '../../dataplane/layout.gen.ts'
import { openWasm, type WasmDataplane } from '../../dataplane/userspace/wasm.ts'
import { ADDRESSES, MAC } from './bench.ts'
import { BenchRoutes } from './bench-routes.ts'
import { ipBytes, macBytes, unhex } from './bytes.ts'
import type { CommandResult } from './compare.ts'
import { DirectorUnderTest } from './director-under-test.ts'
import type { Answer, VectorHost } from './vector-host.ts'
import { type InjectStep, isInject, type Setup, type Vector } from './vectors.ts'

/** `-L` prints the number of connections as the table's size: kernel IPVS has 4096. */
export const VECTOR_SIZES: Sizes = {
  services: 32,
  serviceBuckets: 32,
  reals: 256,
  members: 65_536,
  connections4: 4096,
  connections6: 4096,
  cpus: 1,
}

const DEVICES = ['c0', 'r0'] as const
const SET_MTU = /^ip link set (c0|r0) mtu (\d+)$/
const TICK_MS = 2 ** PM_TICK_SHIFT / 1e6
/** Housekeeping sees time go by in steps of this size. */
const STEP_MS = 100

/** The machine as the director's control side sees it. */
class BenchHost implements Host {
  readonly #routes: BenchRoutes
  readonly #listeners = new Set<(change: HostChange) => void>()
  #interfaces: readonly HostInterface[] = []

  constructor(routes: BenchRoutes) {
    this.#routes = routes
    this.changed()
  }

  interfaces(): readonly HostInterface[] {
    return this.#interfaces
  }

  resolveSource(destination: string) {
    const bytes = new Uint8Array(16)
    bytes.set(ipBytes(destination))
    const query = {
      family: destination.includes(':') ? 6 : 4,
      protocol: 0,
      tos: 0,
      ifindex: 0,
      saddr: new Uint8Array(16),
      daddr: bytes,
      smac: new Uint8Array(6),
      dmac: new Uint8Array(6),
      mtu: 0,
    }
    const hop = this.#routes.lookup(query)
    if (hop.result !== FibResult.Ok) return null
    const device = this.#routes.device(hop.ifindex)
    const six = destination.includes(':')
    const own = ADDRESSES.find((entry) => entry.device === device && entry.address.includes(':') === six)
    return own === undefined ? null : parseAddress(own.address)
  }

  keepResolved(): void {}

  sysctl(path: string): number | null {
    return path.endsWith('forward') || path.endsWith('forwarding') ? 1 : null
  }

  availablePages(): number | null {
    return null
  }

  onChange(listener: (change: HostChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  changed(): void {
    this.#interfaces = DEVICES.map((name) => ({
      name,
      ...this.#routes.links[name],
      mac: macBytes(MAC[name]),
      up: true,
      addresses: ADDRESSES.filter(({ device }) => device === name).flatMap(({ address, prefix }) => {
        const parsed = parseAddress(address)
        return parsed === null
          ? []
          : [
              {
                address: parsed,
                family: address.includes(':') ? (6 as const) : (4 as const),
                prefixLength: prefix,
              },
            ]
      }),
    }))
    this.#interfaces = [...this.#interfaces, LOOPBACK]
    for (const listener of this.#listeners)
      listener({ links: true, addresses: true, routes: true, neighbours: true })
  }
}

const LOOPBACK: HostInterface = {
  name: 'lo',
  ifindex: 1,
  mac: null,
  mtu: 65_536,
  up: true,
  addresses: [
    ['127.0.0.1', 8],
    ['::1', 128],
  ].flatMap(([text, prefixLength]) => {
    const address = parseAddress(String(text))
    return address === null
      ? []
      : [
          {
            address,
            family: String(text).includes(':') ? (6 as const) : (4 as const),
            prefixLength: Number(prefixLength),
          },
        ]
  }),
}

class WasmHost implements VectorHost {
  readonly #routes = new BenchRoutes()
  readonly #host = new BenchHost(this.#routes)
  readonly #dataplane: WasmDataplane
  readonly #director: DirectorUnderTest
  /** Time that was asked to go by and did not need to be waited for. */
  #skippedTicks = 0

  constructor() {
    this.#dataplane = openWasm({
      sizes: VECTOR_SIZES,
      wasmPath: builtFile('pointsman.wasm'),
      fib: this.#routes.lookup,
      now: () => (monotonicTicks() + Math.round(this.#skippedTicks)) >>> 0,
    })
    for (const name of DEVICES) {
      putInterface(this.#dataplane.map('interfaces'), {
        name,
        ...this.#routes.links[name],
        mac: macBytes(MAC[name]),
      })
    }
    this.#director = new DirectorUnderTest(this.#dataplane, this.#host)
  }

  refuses(vector: Vector): string | null {
    for (const step of vector.setup) {
      if ('sysctl' in step) {
        if (!step.sysctl.startsWith('net.ipv4.vs.')) return `${step.sysctl}: there is no kernel behind wasm`
      } else if (step[0] !== 'ipvsadm' && !SET_MTU.test(step.join(' '))) {
        return `${step.join(' ')}: there is no kernel behind wasm`
      }
    }
    return vector.steps.some((step) => isInject(step) && step.inject.frame.length < 28)
      ? 'a frame without Ethernet header'
      : null
  }

  async reset(): Promise<void> {
    this.#routes.reset()
    this.#host.changed()
    await this.#director.reset()
  }

  async setup(step: Setup): Promise<void> {
    if ('sysctl' in step) {
      const [name = '', value = ''] = step.sysctl.replace('net.ipv4.vs.', '').split('=')
      await this.#director.setSysctl(name, Number(value))
      return
    }
    const mtu = SET_MTU.exec(step.join(' '))
    if (mtu === null) {
      await mustRun(this.#director, step)
      return
    }
    this.#routes.links[mtu[1] === 'c0' ? 'c0' : 'r0'].mtu = Number(mtu[2])
    this.#host.changed()
  }

  async settle(): Promise<void> {}

  async run(argv: readonly string[]): Promise<CommandResult> {
    return await this.#director.run(argv)
  }

  async inject(step: InjectStep): Promise<Answer> {
    const { wire, frame, partial_checksum: partial } = step.inject
    const [out] = this.#dataplane.run([
      {
        frame: unhex(frame),
        ifindex: this.#routes.links[wire === 'c' ? 'c0' : 'r0'].ifindex,
        flags: partial === undefined ? 0 : JobFlag.PartialCsum,
      },
    ])
    if (out === undefined) throw new Error('The program returned nothing')
    if (out.action === Action.Pass)
      return { frames: [], leftToStack: verdictNames[out.verdict] ?? `verdict ${out.verdict}` }
    if (out.action === Action.Drop) return { frames: [], leftToStack: null }
    return {
      frames: [{ wire: this.#routes.device(out.ifindex) === 'c0' ? 'c' : 'r', frame: out.frame }],
      leftToStack: null,
    }
  }

  /** Time goes by in steps, each with the daemon's work of that time. */
  async wait(milliseconds: number): Promise<void> {
    for (let left = milliseconds; left > 0; left -= STEP_MS) {
      this.#skippedTicks += Math.min(left, STEP_MS) / TICK_MS
      this.#director.housekeeping()
    }
  }

  async close(): Promise<void> {
    this.#director.close()
    await this.#dataplane.close()
  }
}

/** A command of `setup`: it has to succeed. */
export async function mustRun(director: DirectorUnderTest, argv: readonly string[]): Promise<void> {
  const result = await director.run(argv)
  if (result.rc !== 0) throw new Error(`${argv.join(' ')} ended with ${result.rc}: ${result.stderr}`)
}

export async function openWasmHost(): Promise<VectorHost> {
  return new WasmHost()
}
