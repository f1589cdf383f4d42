/** Vectors in process: the packet program in wasm, the bench's routes as a model, no stack behind it. */

import { builtFile } from '../../dataplane/assets.ts'
import { monotonicTicks } from '../../dataplane/clock.ts'
import type { Sizes } from '../../dataplane/dataplane.ts'
import { putInterface } from '../../dataplane/interface-table.ts'
import { Action, JobFlag, PM_TICK_SHIFT, verdictNames } from '../../dataplane/layout/layout.gen.ts'
import { openWasm } from '../../dataplane/userspace/wasm-file.ts'
import type { WasmDataplane } from '../../dataplane/wasm/program.ts'
import { MAC } from './bench.ts'
import { BenchHost, DEVICES } from './bench-host.ts'
import { BenchRoutes } from './bench-routes.ts'
import { checksum, macBytes, putBe16, unhex } from './bytes.ts'
import type { CommandResult } from './compare.ts'
import { DirectorUnderTest } from './director-under-test.ts'
import { fragmentsOf } from './fragments-of.ts'
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

const SET_MTU = /^ip link set (c0|r0) mtu (\d+)$/
const TICK_MS = 2 ** PM_TICK_SHIFT / 1e6
/** Housekeeping sees time go by in steps of this size. */
const STEP_MS = 100

class WasmHost implements VectorHost {
  readonly #routes = new BenchRoutes()
  readonly #host = new BenchHost(this.#routes)
  readonly #dataplane: WasmDataplane
  readonly #director: DirectorUnderTest
  /** Time that was asked to go by and did not need to be waited for. */
  #skippedTicks = 0
  #nft: string[] = []

  constructor() {
    this.#dataplane = openWasm({
      sizes: VECTOR_SIZES,
      wasmPath: builtFile('pointsman.wasm'),
      fib: this.#routes.lookup,
      now: () => (monotonicTicks() + Math.round(this.#skippedTicks)) >>> 0,
    })
    for (const name of DEVICES) {
      putInterface(this.#dataplane, {
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
      } else if (step[0] !== 'ipvsadm' && step[0] !== 'nft' && !SET_MTU.test(step.join(' '))) {
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
    if (step[0] === 'nft') {
      this.#nft.push(step.join(' '))
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

  async settle(): Promise<void> {
    if (this.#nft.length > 0) await this.#director.importMarks(this.#nft.join('\n'))
    this.#nft = []
  }

  async run(argv: readonly string[]): Promise<CommandResult> {
    return await this.#director.run(argv)
  }

  async inject(step: InjectStep): Promise<Answer> {
    const { wire, frame, partial_checksum: partial } = step.inject
    const bytes = unhex(frame)
    const [out] = this.#dataplane.run([
      {
        frame: bytes,
        ifindex: this.#routes.links[wire === 'c' ? 'c0' : 'r0'].ifindex,
        flags: JobFlag.Cuts | (partial === undefined ? 0 : JobFlag.PartialCsum),
      },
    ])
    if (out === undefined) throw new Error('The program returned nothing')
    if (out.action === Action.Pass)
      return { frames: [], leftToStack: verdictNames[out.verdict] ?? `verdict ${out.verdict}` }
    if (out.action === Action.Drop) return { frames: [], leftToStack: null }
    if (partial !== undefined)
      finishChecksum(out.frame, partial.start + out.frame.length - bytes.length, partial.offset)
    const wireOut = this.#routes.device(out.ifindex) === 'c0' ? 'c' : 'r'
    const frames = out.cut === 0 ? [out.frame] : fragmentsOf(out.frame, out.cut, 0x1234_5678)
    return { frames: frames.map((frame) => ({ wire: wireOut, frame })), leftToStack: null }
  }

  /** Time goes by in steps, each with the daemon's work of that time. */
  async wait(milliseconds: number): Promise<void> {
    for (let left = milliseconds; left > 0; left -= STEP_MS) {
      this.#skippedTicks += Math.min(left, STEP_MS) / TICK_MS
      this.#director.housekeeping()
    }
  }

  async close(): Promise<void> {
    await this.#director.close()
    await this.#dataplane.close()
  }
}

/** What a network card does last: the field holds the sum of the pseudo header. */
function finishChecksum(frame: Uint8Array, start: number, offset: number): void {
  putBe16(frame, start + offset, checksum(frame.subarray(start)))
}

/** A command of `setup`: it has to succeed. */
export async function mustRun(director: DirectorUnderTest, argv: readonly string[]): Promise<void> {
  const result = await director.run(argv)
  if (result.rc !== 0) throw new Error(`${argv.join(' ')} ended with ${result.rc}: ${result.stderr}`)
}

export async function openWasmHost(): Promise<VectorHost> {
  return new WasmHost()
}
