/**
 * The packet program to be asked directly, frame in, answer out: the object in the kernel by
 * BPF_PROG_TEST_RUN, and the wasm module. Both with a director over their maps.
 */
import type { FilterChange } from '../../control/model/filter.ts'
import type { FullNatChange } from '../../control/model/full-nat.ts'
import type { LimitChange } from '../../control/model/limit.ts'
import type { MarkChange } from '../../control/model/mark.ts'
import { builtFile } from '../../dataplane/assets.ts'
import type { Dataplane, Sizes } from '../../dataplane/dataplane.ts'
import { putInterface } from '../../dataplane/interface-table.ts'
import { KernelDataplane } from '../../dataplane/kernel/plane.ts'
import { testRun, XdpAction } from '../../dataplane/kernel/test-run.ts'
import { Action, PM_VERDICT_MAX, verdictNames } from '../../dataplane/layout/layout.gen.ts'
import { openWasm } from '../../dataplane/userspace/wasm-file.ts'
import type { WasmDataplane } from '../../dataplane/wasm/program.ts'
import { possibleCpus } from '../../linux/cpus.ts'
import { type Bench, MAC } from './bench.ts'
import { BenchHost, DEVICES } from './bench-host.ts'
import { BenchRoutes } from './bench-routes.ts'
import { macBytes } from './bytes.ts'
import { DirectorUnderTest } from './director-under-test.ts'
import { enterNamespace, interfaceIndex } from './libc.ts'
import { attachPassProgram } from './pass-program.ts'
import type { Wire } from './vectors.ts'
import { mustRun } from './wasm-host.ts'

export interface ProgramAnswer {
  /** Name in `enum pm_verdict`, `forward_nat`. */
  readonly verdict: string
  readonly action: 'pass' | 'drop' | 'send'
  /** As the program left it. */
  readonly frame: Uint8Array
  /** Where it goes, when sent. */
  readonly wire: Wire
}

export interface Program {
  readonly name: string
  readonly dataplane: Dataplane
  /** Fresh maps, then these `ipvsadm` commands and `net.ipv4.vs` settings (`sloppy_tcp=1`). */
  load(rules: readonly string[]): Promise<void>
  changeMarks(change: MarkChange): Promise<void>
  changeFilters(change: FilterChange): Promise<void>
  changeFullNat(change: FullNatChange): Promise<void>
  changeLimits(change: LimitChange): Promise<void>
  /** Lines of `ipvsadm -R`, in one go. */
  restore(lines: readonly string[]): Promise<void>
  run(command: string): Promise<string>
  /** Another director takes over, as after a kill. */
  restart(): Promise<void>
  /** What the daemon looks after every second. */
  beat(): Promise<void>
  send(wire: Wire, frame: Uint8Array): ProgramAnswer
  close(): Promise<void>
}

const SIZES: Sizes = {
  services: 16,
  serviceBuckets: 16,
  reals: 64,
  members: 16_384,
  connections4: 1024,
  connections6: 1024,
  cpus: 1,
}

type Send = (wire: Wire, frame: Uint8Array) => ProgramAnswer
type DeviceIndices = Readonly<Record<(typeof DEVICES)[number], { readonly ifindex: number }>>

export function wasmSender(dataplane: WasmDataplane, links: DeviceIndices): Send {
  return (wire, frame) => {
    const [out] = dataplane.run([{ frame, ifindex: links[wire === 'c' ? 'c0' : 'r0'].ifindex }])
    if (out === undefined) throw new Error('The program returned nothing')
    return {
      verdict: verdictNames[out.verdict] ?? String(out.verdict),
      action: out.action === Action.Pass ? 'pass' : out.action === Action.Send ? 'send' : 'drop',
      frame: out.frame,
      wire: out.ifindex === links.c0.ifindex ? 'c' : 'r',
    }
  }
}

export function kernelSender(dataplane: KernelDataplane, links: DeviceIndices): Send {
  const verdicts = dataplane.map('verdicts').u64
  return (wire, frame) => {
    const before = verdicts.slice()
    const { action, frame: out } = testRun(dataplane.programFd, frame, {
      ifindex: links[wire === 'c' ? 'c0' : 'r0'].ifindex,
    })
    const verdict = verdicts.findIndex((count, i) => count !== before[i]) % PM_VERDICT_MAX
    const sent = action === XdpAction.Tx || action === XdpAction.Redirect
    return {
      verdict: verdictNames[verdict] ?? String(verdict),
      action: sent ? 'send' : action === XdpAction.Pass ? 'pass' : 'drop',
      frame: out,
      wire: (action === XdpAction.Redirect) === (wire === 'c') ? 'r' : 'c',
    }
  }
}

class PlaneProgram implements Program {
  readonly name: string
  readonly dataplane: Dataplane
  readonly #director: DirectorUnderTest
  readonly #send: Send
  readonly #close: () => Promise<void>

  constructor(
    name: string,
    dataplane: Dataplane,
    routes: BenchRoutes,
    send: Send,
    close: () => Promise<void>,
  ) {
    this.name = name
    this.dataplane = dataplane
    this.#send = send
    this.#close = close
    this.#director = new DirectorUnderTest(dataplane, new BenchHost(routes))
    for (const device of DEVICES) {
      putInterface(dataplane, {
        name: device,
        ...routes.links[device],
        mac: macBytes(MAC[device]),
      })
    }
  }

  async load(rules: readonly string[]): Promise<void> {
    await this.#director.reset()
    for (const rule of rules) {
      const setting = /^(\w+)=(\d+)$/.exec(rule)
      if (setting !== null) await this.#director.setSysctl(setting[1] ?? '', Number(setting[2]))
      else await mustRun(this.#director, rule.split(' '))
    }
  }

  async changeMarks(change: MarkChange): Promise<void> {
    await this.#director.changeMarks(change)
  }

  async changeFullNat(change: FullNatChange): Promise<void> {
    await this.#director.changeFullNat(change)
  }

  async changeFilters(change: FilterChange): Promise<void> {
    await this.#director.changeFilters(change)
  }

  async changeLimits(change: LimitChange): Promise<void> {
    await this.#director.changeLimits(change)
  }

  async restore(lines: readonly string[]): Promise<void> {
    await this.#director.restore(lines)
  }

  async run(command: string): Promise<string> {
    return (await this.#director.run(command.split(' '))).stdout
  }

  async restart(): Promise<void> {
    await this.#director.restart()
  }

  async beat(): Promise<void> {
    await this.#director.beat()
  }

  send(wire: Wire, frame: Uint8Array): ProgramAnswer {
    return this.#send(wire, frame)
  }

  async close(): Promise<void> {
    await this.#director.close()
    await this.#close()
  }
}

/** @param now another clock than the machine's, in ticks */
export function openWasmProgram(now?: () => number, sizes: Partial<Sizes> = {}): Program {
  const routes = new BenchRoutes()
  const dataplane = openWasm({
    sizes: { ...SIZES, ...sizes },
    wasmPath: builtFile('pointsman.wasm'),
    fib: routes.lookup,
    ...(now === undefined ? {} : { now }),
  })
  const send = wasmSender(dataplane, routes.links)
  return new PlaneProgram('wasm', dataplane, routes, send, () => dataplane.close())
}

/** Moves the calling process into a bench of its own for good; needs root. */
export async function openKernelProgram(bench: Bench, sizes: Partial<Sizes> = {}): Promise<Program> {
  enterNamespace(bench.director)
  // BPF_PROG_TEST_RUN takes a receiving interface only while its queues run NAPI.
  const programs = DEVICES.map((device) => attachPassProgram(device))
  const routes = new BenchRoutes({ c0: interfaceIndex('c0'), r0: interfaceIndex('r0') })
  const dataplane = await KernelDataplane.open({
    sizes: { ...SIZES, ...sizes, cpus: possibleCpus() },
    pinDirectory: null,
  })
  const send = kernelSender(dataplane, routes.links)
  return new PlaneProgram('BPF', dataplane, routes, send, async () => {
    await dataplane.close()
    for (const program of programs) program.close()
    bench.close()
  })
}
