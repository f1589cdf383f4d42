/** Vectors over real wires: the director's data plane in a namespace, frames in and out by packet sockets. */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Host } from '../../control/rules/host.ts'
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { KernelDataplane } from '../../dataplane/kernel/plane.ts'
import { PM_VERDICT_MAX, Verdict } from '../../dataplane/layout/layout.gen.ts'
import { Forwarder } from '../../dataplane/userspace/forwarder/forwarder.ts'
import { fragmentAt } from '../../dataplane/userspace/worker/fragment.ts'
import { possibleCpus } from '../../linux/cpus.ts'
import { Network } from '../../linux/netlink/network.ts'
import { Bench } from './bench.ts'
import { unhex } from './bytes.ts'
import type { CommandResult } from './compare.ts'
import { DirectorUnderTest } from './director-under-test.ts'
import { forgetDatagrams } from './kept-datagrams.ts'
import { enterNamespace } from './libc.ts'
import type { Answer, VectorHost } from './vector-host.ts'
import type { InjectStep, Setup, Vector } from './vectors.ts'
import { mustRun, VECTOR_SIZES } from './wasm-host.ts'

/** The first for a machine that is busy with other things: only a vector that fails waits for so long. */
const PATIENCE = { missingMs: 20_000, restMs: 500, quietMs: 8 }
/** For the program in the kernel to count a packet; those that it does not see it never counts. */
const JUDGED_MS = 250
/** The same of a fragment, which may be kept without a verdict: what comes of it comes with a later one. */
const KEPT_MS = 20
/** Changes of the network are told in bursts: when none has come in so many looks, the director has heard of them. */
const NETWORK_LOOKS = 10
const LOOK_MS = 50
const FORWARDING = /^net\.ipv[46]\..*forward/
/** For next hops of real servers to be asked of the kernel and written down. */
const HOPS_KEPT_MS = 5000
/** What a setup command leaves behind, undone before the next vector. */
const UNDO: readonly (readonly [RegExp, string])[] = [
  [/^ip route add (.*)$/, 'ip route del $1'],
  [/^ip rule add (.*)$/, 'ip rule del $1'],
  [/^nft add table (.*)$/, 'nft delete table $1'],
]

export type WirePlane = 'xdp' | 'tc' | 'userspace'

/** The daemon's view of the machine, by netlink. */
function liveHost(network: Network): Host {
  return {
    interfaces: () => network.interfaces(),
    resolveSource: (destination) => network.resolveSource(destination),
    resolve: () => {},
    keepAlso: (added, dropped) => network.keepAlso(added, dropped),
    keepResolved: (addresses) => network.keepResolved(addresses),
    hops: {
      generation: () => network.hopGeneration,
      takeLearnt: () => network.takeHopsLearnt(),
      to: (destination) => network.hopTo(destination),
    },
    sysctl(path) {
      try {
        return Number(readFileSync(`/proc/sys/${path}`, 'utf8'))
      } catch {
        return null
      }
    },
    availablePages: () => null,
    onChange: (listener) => network.onChange(listener),
  }
}

const WIRES = ['c0', 'r0']

class WireHost implements VectorHost {
  readonly #bench: Bench
  readonly #plane: WirePlane
  readonly #dataplane: Dataplane
  readonly #network: Network
  readonly #director: DirectorUnderTest
  #undo: string[][] = []
  #sysctls: string[] = []
  #nft: string[] = []
  #networkTouched = false
  #keepsFragments = false

  constructor(bench: Bench, plane: WirePlane, dataplane: Dataplane, network: Network) {
    this.#bench = bench
    this.#plane = plane
    this.#dataplane = dataplane
    this.#network = network
    this.#director = new DirectorUnderTest(dataplane, liveHost(network))
  }

  refuses(vector: Vector): string | null {
    if (vector.area === 'offload' && this.#plane === 'xdp')
      return 'XDP does not see that a checksum is unfinished'
    return null
  }

  async reset(): Promise<void> {
    for (const command of this.#undo.reverse()) this.#bench.command(command)
    for (const sysctl of this.#sysctls) this.#bench.sysctl(sysctl)
    if (this.#networkTouched) this.#bench.restoreAddresses()
    const touched = this.#networkTouched
    this.#undo = []
    this.#sysctls = []
    this.#networkTouched = false
    // Path MTUs that ICMP errors have taught the stack.
    this.#bench.command(['ip', 'route', 'flush', 'cache'])
    await this.#forgetFragments()
    if (touched) await this.#networkIsQuiet()
    await this.#director.reset()
  }

  async setup(step: Setup): Promise<void> {
    if ('sysctl' in step) {
      await this.#setSysctl(step.sysctl)
    } else if (step[0] === 'ipvsadm') {
      await mustRun(this.#director, step)
    } else {
      this.#bench.command(step)
      if (step[0] === 'nft') this.#nft.push(step.join(' '))
      this.#networkTouched ||= step[0] === 'ip'
      const text = step.join(' ')
      for (const [pattern, undo] of UNDO)
        if (pattern.test(text)) this.#undo.push(text.replace(pattern, undo).split(' '))
    }
  }

  async #setSysctl(assignment: string): Promise<void> {
    const [name = '', value = ''] = assignment.split('=')
    const short = /^net\.ipv4\.vs\.(\w+)$/.exec(name)?.[1]
    if (short !== undefined) {
      await this.#director.setSysctl(short, Number(value))
      return
    }
    const path = `/proc/sys/${name.replaceAll('.', '/')}`
    this.#sysctls.push(`${name}=${readFileSync(path, 'utf8').trim()}`)
    this.#bench.sysctl(assignment)
  }

  async settle(): Promise<void> {
    if (this.#nft.length > 0) await this.#director.importMarks(this.#nft.join('\n'))
    this.#nft = []
    if (this.#networkTouched) await this.#networkIsQuiet()
    // The kernel answers no question for a next hop then: packets go by what the daemon has written down.
    if (this.#sysctls.some((sysctl) => FORWARDING.test(sysctl))) await this.#hopsAreKept()
  }

  async #hopsAreKept(): Promise<void> {
    for (const end = performance.now() + HOPS_KEPT_MS; !this.#director.keepsHops(); await sleep(LOOK_MS))
      if (performance.now() >= end) throw new Error('Next hops of real servers are not known')
  }

  async run(argv: readonly string[]): Promise<CommandResult> {
    return await this.#director.run(argv)
  }

  async inject(step: InjectStep): Promise<Answer> {
    const { wire, frame, partial_checksum: partial } = step.inject
    const isFragment = fragmentAt(unhex(frame), 0, frame.length / 2) !== null
    this.#keepsFragments ||= isFragment
    const before = this.#judged()
    const frames = await this.#bench.exchange(
      wire,
      unhex(frame),
      step.expect,
      PATIENCE,
      partial,
      async () => await this.#handled(before, isFragment ? KEPT_MS : JUDGED_MS),
    )
    return { frames, leftToStack: null }
  }

  /** Datagrams of a vector that are not whole would take in fragments of the next one. */
  async #forgetFragments(): Promise<void> {
    if (!this.#keepsFragments) return
    this.#keepsFragments = false
    if (this.#dataplane instanceof KernelDataplane) {
      forgetDatagrams(
        this.#plane === 'tc'
          ? this.#dataplane.programFd
          : (this.#dataplane.besideFd ?? this.#dataplane.programFd),
      )
      return
    }
    await this.#dataplane.detach()
    await this.#dataplane.attach(WIRES)
  }

  /**
   * The kernel handles a frame while it is being sent, or soon, when its own thread for that is busy. Threads of the
   * userspace plane do when they get to it: one that has answered twice has had a batch in between.
   */
  async #handled(before: number, withinMs: number): Promise<void> {
    if (this.#plane === 'userspace') for (let n = 0; n < 2; n++) await this.#dataplane.quiesce?.()
    else
      for (const end = performance.now() + withinMs; this.#judged() === before; await sleep(1))
        if (performance.now() >= end) return
  }

  /** How many packets the program has come to a verdict about. */
  #judged(): number {
    return this.#dataplane
      .map('verdicts')
      .u64.reduce(
        (all, count, at) => (at % PM_VERDICT_MAX < Verdict.EvictedEnded ? all + Number(count) : all),
        0,
      )
  }

  async #networkIsQuiet(): Promise<void> {
    let heard = false
    const forget = this.#network.onChange(() => {
      heard = true
    })
    for (let looks = 0; looks < NETWORK_LOOKS; looks++) {
      await sleep(LOOK_MS)
      if (heard) looks = 0
      heard = false
    }
    forget()
  }

  async wait(milliseconds: number): Promise<void> {
    await sleep(milliseconds)
  }

  async close(): Promise<void> {
    await this.#director.close()
    this.#network.close()
    await this.#dataplane.detach()
    await this.#dataplane.close()
    this.#bench.close()
  }
}

/** Moves the calling process into the namespace of the bench's director for good. */
export async function openWireHost(name: string, plane: WirePlane): Promise<VectorHost> {
  const bench = new Bench(name)
  try {
    enterNamespace(bench.director)
    const network = new Network()
    const dataplane = await openPlane(plane)
    await dataplane.attach(WIRES)
    // As once there have been fragments: what puts them together is there.
    dataplane.cutLarger?.(false, true)
    return new WireHost(bench, plane, dataplane, network)
  } catch (error) {
    bench.close()
    throw error
  }
}

async function openPlane(plane: WirePlane): Promise<Dataplane> {
  switch (plane) {
    case 'xdp':
    case 'tc':
      return await KernelDataplane.open({
        sizes: { ...VECTOR_SIZES, cpus: possibleCpus() },
        pinDirectory: null,
        mode: plane === 'tc' ? 'tc' : 'native',
      })
    case 'userspace':
      return await Forwarder.open({ sizes: VECTOR_SIZES })
  }
}
