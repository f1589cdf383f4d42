/** A director made inside the test's process, over maps that can be emptied: fresh within a millisecond. */

import { isHopKnown } from '../../control/apply/hop-record.ts'
import { type ManagedDirector, openDirector } from '../../control/apply/open.ts'
import { type Names, namesFrom } from '../../control/front/ipvsadm/names.ts'
import { runIpvsadm } from '../../control/front/ipvsadm/run.ts'
import type { FilterChange } from '../../control/model/filter.ts'
import type { FullNatChange } from '../../control/model/full-nat.ts'
import type { LimitChange } from '../../control/model/limit.ts'
import type { MarkChange } from '../../control/model/mark.ts'
import type { Host, HostChange } from '../../control/rules/host.ts'
import { importMarks } from '../../control/source/netfilter/marks.ts'
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { MAP_NAMES, RealRecord, SettingsRecord, Slot } from '../../dataplane/layout/layout.gen.ts'
import { stampLayout } from '../../dataplane/layout/stamp.ts'
import { hashSeed } from '../property.ts'
import type { CommandResult } from './compare.ts'

/** Maps that belong to the data plane: they stay when everything else is forgotten. */
const KEPT = new Set(['interfaces'])
const NEXT_HOP_EPOCH = SettingsRecord.offsets.nextHopEpoch / 4
/** How often expired connections are looked for and defences judged. */
const HOUSEKEEPING_MS = 100
/** Of a sweep, at once. */
const LINES = 4096

export class DirectorUnderTest {
  readonly #dataplane: Dataplane
  readonly #host: Host
  readonly #names: () => Names
  readonly #timer: NodeJS.Timeout
  readonly #unsubscribe: () => void
  #managed: ManagedDirector | null = null
  #keepsHops = false
  #ticks = 0

  constructor(dataplane: Dataplane, host: Host, names: () => Names = () => namesFrom('', '')) {
    this.#dataplane = dataplane
    this.#host = host
    this.#names = names
    this.#timer = setInterval(() => this.housekeeping(), HOUSEKEEPING_MS)
    this.#unsubscribe = host.onChange((change) => this.networkChanged(change))
  }

  /** No rules, no connections, default settings. */
  async reset(): Promise<void> {
    await this.#stop()
    if (this.#keepsHops) this.#host.keepResolved([])
    this.#keepsHops = false
    const settings = this.#dataplane.map('settings').u32
    const epoch = settings[NEXT_HOP_EPOCH]!
    for (const name of MAP_NAMES) {
      const { bytes, view } = this.#dataplane.map(name)
      if (KEPT.has(name)) continue
      bytes.fill(0)
      if (name === 'settings') stampLayout(view)
    }
    SettingsRecord.setHashSeed(this.#dataplane.map('settings').view, 0, hashSeed())
    // The threads of the userspace plane go on, and know that nothing has changed by its staying the same.
    settings[NEXT_HOP_EPOCH] = epoch + 1
    this.#managed = openDirector({ dataplane: this.#dataplane, host: this.#host })
    await this.#managed.director.settle()
  }

  /** Another director takes over what the maps hold, as after a kill. */
  async restart(): Promise<void> {
    await this.#stop()
    this.#managed = openDirector({ dataplane: this.#dataplane, host: this.#host })
    await this.#managed.director.settle()
  }

  /** What the daemon looks after every second. */
  async beat(): Promise<void> {
    const { applier, director } = this.#current()
    applier.settleTables()
    while (!applier.sweepSlice(LINES));
    await director.settle()
  }

  #current(): ManagedDirector {
    if (this.#managed === null) throw new Error('The director was not reset before its first use')
    return this.#managed
  }

  /** Runs an ipvsadm command; anything but `ipvsadm` as its first word is refused. */
  async run(argv: readonly string[]): Promise<CommandResult> {
    if (argv[0] !== 'ipvsadm') throw new Error(`Cannot run ${argv.join(' ')}: expected an ipvsadm command`)
    const { director, applier } = this.#current()
    while (!applier.sweepSlice(LINES));
    const result = await runIpvsadm({ argv, stdin: '', director, names: this.#names })
    if (typeof result === 'string') throw new Error(`${argv.join(' ')} reads its standard input`)
    return { stdout: result.stdout.toString(), stderr: result.stderr.toString(), rc: result.status }
  }

  /** Lines of `ipvsadm -R`, all of them in one go. */
  async restore(lines: readonly string[]): Promise<void> {
    const { director } = this.#current()
    const options = { argv: ['ipvsadm', '-R'], stdin: `${lines.join('\n')}\n`, director }
    const result = await runIpvsadm({ ...options, names: this.#names })
    if (typeof result === 'string' || result.status !== 0)
      throw new Error(`ipvsadm -R: ${typeof result === 'string' ? result : result.stderr.toString()}`)
  }

  /** Marking rules of netfilter, as `pointsman mark import` takes them; those that were there go. */
  async importMarks(text: string): Promise<void> {
    const { rules, notTaken } = importMarks(text)
    const [first] = notTaken
    if (first !== undefined) throw new Error(`Cannot take "${first.text}": ${first.why}`)
    await this.changeMarks({ add: rules, delete: [], flush: true })
  }

  async changeMarks(change: MarkChange): Promise<void> {
    const { director } = this.#current()
    const outcome = director.changeMarks(change)
    if (!outcome.ok) throw new Error(outcome.message)
    await director.settle()
  }

  async changeFullNat(change: FullNatChange): Promise<void> {
    const { director } = this.#current()
    const outcome = director.changeFullNat(change)
    if (!outcome.ok) throw new Error(outcome.message)
    await director.settle()
  }

  async changeFilters(change: FilterChange): Promise<void> {
    const { director } = this.#current()
    const outcome = director.changeFilters(change)
    if (!outcome.ok) throw new Error(outcome.message)
    await director.settle()
  }

  async changeLimits(change: LimitChange): Promise<void> {
    const { director } = this.#current()
    const outcome = director.changeLimits(change)
    if (!outcome.ok) throw new Error(outcome.message)
    await director.settle()
  }

  /** `net.ipv4.vs.*` by short name. */
  async setSysctl(name: string, value: number): Promise<void> {
    const { director } = this.#current()
    const outcome = director.setSysctl(name, value)
    if (!outcome.ok) throw new Error(`Cannot set ${name} to ${value}: ${outcome.message}`)
    await director.settle()
  }

  networkChanged(change: HostChange): void {
    this.#managed?.applier.networkChanged(change)
  }

  /** What the daemon does by its clock: expiry, defence, rates every two seconds. */
  housekeeping(): void {
    const applier = this.#managed?.applier
    if (applier === undefined) return
    while (!applier.sweepSlice(LINES));
    this.#ticks++
    if (this.#ticks % (1000 / HOUSEKEEPING_MS) === 0) {
      applier.settleTables()
      applier.publishSettings()
    }
    if (this.#ticks % (2000 / HOUSEKEEPING_MS) === 0) while (!applier.estimateSlice()) {}
  }

  /** Has next hops of real servers written down, as the daemon does; whether all are known. */
  keepsHops(): boolean {
    const { applier } = this.#current()
    if (!this.#keepsHops) this.#host.keepResolved(applier.addresses.all())
    this.#keepsHops = true
    const reals = this.#dataplane.map('reals')
    const used = Array.from({ length: reals.entries }, (_, real) => real).filter(
      (real) => RealRecord.getSlot(reals.view, real * RealRecord.size) === Slot.Live,
    )
    return applier.renewHops(HOUSEKEEPING_MS) && used.every((real) => isHopKnown(this.#dataplane, real))
  }

  /** Before the maps are closed: what it still had to do it would do to memory that is gone, or another's. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#unsubscribe()
    await this.#stop()
  }

  async #stop(): Promise<void> {
    const managed = this.#managed
    this.#managed = null
    await managed?.applier.stop()
  }
}
