/** Which data plane to run: the one asked for, or the best that works here, and why. */
import { join } from 'node:path'
import { type Dataplane, DataplaneError, type Sizes } from '../dataplane/dataplane.ts'
import { defaultPinDirectory } from '../dataplane/kernel/bpffs.ts'
import { KernelDataplane, possibleCpus } from '../dataplane/kernel/kernel-dataplane.ts'
import { pinnedSizes } from '../dataplane/kernel/pins.ts'
import type { XdpModeChoice } from '../dataplane/kernel/xdp-attach.ts'
import { UserspaceDataplane } from '../dataplane/userspace/userspace-dataplane.ts'

export const PLANE_CHOICES = ['auto', 'xdp', 'userspace', 'none'] as const
export type PlaneChoice = (typeof PLANE_CHOICES)[number]

/** What the operator may size; the rest follows. */
export interface Capacity {
  readonly services: number
  readonly realServers: number
  /** Lines of each connection table; a NAT connection takes two. */
  readonly connections4: number
  readonly connections6: number
}

export const DEFAULT_CAPACITY: Capacity = {
  services: 16_384,
  realServers: 131_072,
  connections4: 1 << 20,
  connections6: 1 << 18,
}

function powerOfTwo(least: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(least, 1)))
}

/** The sizes of all maps for a capacity. */
export function sizesFor(capacity: Capacity, cpus: number): Sizes {
  return {
    services: capacity.services,
    // Half full when all services exist: two choices of eight then practically never overflow.
    serviceBuckets: powerOfTwo(Math.max(4, capacity.services / 4)),
    reals: capacity.realServers,
    // Ranges are powers of two, and a service that is being changed holds two.
    members: powerOfTwo(Math.max(4 * capacity.realServers, 16_384)),
    connections4: powerOfTwo(Math.max(capacity.connections4, 64)),
    connections6: powerOfTwo(Math.max(capacity.connections6, 64)),
    cpus,
  }
}

export interface OpenOptions {
  readonly choice: PlaneChoice
  readonly xdpMode: XdpModeChoice
  readonly interfaces: readonly string[]
  readonly capacity: Capacity
  readonly runDirectory: string
  readonly workers: number
  readonly busyPoll: boolean
  log(message: string): void
}

/** A data plane that takes packets from the wanted interfaces is the caller's to attach. */
export interface Opened {
  /** null: rules are kept, no packets are handled. */
  readonly dataplane: Dataplane | null
  /** Why this one. */
  readonly reason: string
  /** Whether the state of an earlier process was found and is carried on. */
  readonly adopted: boolean
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

async function openXdp(options: OpenOptions): Promise<KernelDataplane> {
  const cpus = possibleCpus()
  const wanted = sizesFor(options.capacity, cpus)
  const pinned = pinnedSizes(defaultPinDirectory())
  if (pinned !== null && pinned.cpus >= cpus) {
    const differs = (Object.keys(wanted) as (keyof Sizes)[]).filter((name) => pinned[name] !== wanted[name])
    if (differs.length > 0) {
      options.log(
        `The maps in use keep their sizes (${differs.map((name) => `${name} ${pinned[name]}`).join(', ')}): run pointsman detach first to change them`,
      )
    }
    return await KernelDataplane.open({ sizes: pinned, mode: options.xdpMode })
  }
  return await KernelDataplane.open({ sizes: wanted, mode: options.xdpMode })
}

async function openUserspace(options: OpenOptions): Promise<UserspaceDataplane> {
  return await UserspaceDataplane.open({
    sizes: sizesFor(options.capacity, Math.max(1, options.workers)),
    workers: options.workers,
    busyPoll: options.busyPoll,
    stateFile: join(options.runDirectory, 'userspace.maps'),
    log: options.log,
  })
}

/** Whether XDP works on these interfaces is only known once it is attached. */
async function tryXdp(options: OpenOptions): Promise<KernelDataplane> {
  const plane = await openXdp(options)
  try {
    if (options.interfaces.length > 0) await plane.attach(options.interfaces)
    return plane
  } catch (error) {
    if (!plane.adopted) await plane.detach().catch(() => {})
    await plane.close()
    throw error
  }
}

export async function openDataplane(options: OpenOptions): Promise<Opened> {
  switch (options.choice) {
    case 'none':
      return { dataplane: null, reason: 'asked for: rules are kept, packets are left alone', adopted: false }
    case 'xdp': {
      const dataplane = await openXdp(options)
      return { dataplane, reason: 'asked for', adopted: dataplane.adopted }
    }
    case 'userspace': {
      const dataplane = await openUserspace(options)
      return { dataplane, reason: 'asked for', adopted: dataplane.adopted }
    }
    case 'auto':
      try {
        const dataplane = await tryXdp(options)
        return { dataplane, reason: 'XDP works here', adopted: dataplane.adopted }
      } catch (error) {
        options.log(`XDP does not work here, trying userspace: ${describe(error)}`)
        // The verifier's words fill pages; the log has them.
        return await openInstead(options, describe(error).split('\n')[0] ?? '')
      }
    default:
      return options.choice satisfies never
  }
}

async function openInstead(options: OpenOptions, why: string): Promise<Opened> {
  try {
    const dataplane = await openUserspace(options)
    return { dataplane, reason: `XDP does not work here: ${why}`, adopted: dataplane.adopted }
  } catch (error) {
    throw new DataplaneError(`No data plane works here. xdp: ${why}. userspace: ${describe(error)}`)
  }
}
