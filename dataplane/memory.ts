/**
 * A data plane without packets: its maps are plain buffers, its clock is set by hand. For tests of
 * everything that works on maps.
 */
import {
  type AttachedInterface,
  type AttachResult,
  type Dataplane,
  DataplaneError,
  type MapMemory,
  presentName,
  type Sizes,
  type WantedInterface,
} from './dataplane.ts'
import { MAP_NAMES, MAPS, type MapName } from './layout/layout.gen.ts'
import { stampLayout } from './layout/stamp.ts'
import { mapMemory } from './map-memory.ts'
import { checkSizes, mapEntries } from './sizes.ts'

/** Small enough to allocate in every test. */
export const SMALL_SIZES: Sizes = {
  services: 64,
  serviceBuckets: 32,
  reals: 128,
  members: 1024,
  connections4: 1024,
  connections6: 1024,
  filterBuckets: 1024,
  cpus: 2,
}

export class MemoryDataplane implements Dataplane {
  readonly plane = 'memory'
  readonly sizes: Sizes
  /** Every attach, detach and close, in order: `attach eth0 eth1`. */
  readonly calls: string[] = []
  #ticks: number
  #attached: readonly AttachedInterface[] = []
  readonly #maps: ReadonlyMap<MapName, MapMemory>

  constructor(sizes: Sizes = SMALL_SIZES, ticks = 1_000_000) {
    checkSizes(sizes)
    this.sizes = sizes
    this.#ticks = ticks >>> 0
    const entries = mapEntries(sizes)
    this.#maps = new Map(
      MAP_NAMES.map((name) => {
        const buffer = new ArrayBuffer(entries[name] * MAPS[name].entrySize)
        return [name, mapMemory(name, entries[name], buffer)] as const
      }),
    )
    stampLayout(this.map('settings').view)
  }

  map(name: MapName): MapMemory {
    const map = this.#maps.get(name)
    if (map === undefined) throw new DataplaneError(`No map "${name}"`)
    return map
  }

  nowTicks(): number {
    return this.#ticks
  }

  setTicks(ticks: number): void {
    this.#ticks = ticks >>> 0
  }

  interfaces(): readonly AttachedInterface[] {
    return this.#attached
  }

  async attach(interfaces: readonly WantedInterface[]): Promise<readonly AttachResult[]> {
    const names = interfaces.map(presentName)
    this.calls.push(['attach', ...names].join(' '))
    this.#attached = names.map((name, index) => ({ name, ifindex: index + 1, mode: 'userspace' }))
    return this.#attached.map((attached) => ({ name: attached.name, attached }))
  }

  async detach(): Promise<void> {
    this.calls.push('detach')
    this.#attached = []
  }

  async close(): Promise<void> {
    this.calls.push('close')
  }

  program(): { readonly name: string; readonly id: null; readonly tag: null } {
    return { name: 'memory', id: null, tag: null }
  }
}
