/** Memory and file descriptors of a process over time, and whether they grow. */
import { readdirSync, readFileSync } from 'node:fs'

export interface Size {
  readonly atMs: number
  /** Resident bytes without the maps. */
  readonly own: number
  /**
   * Resident bytes of the maps: of BPF, or wasm memory with its receive rings. They grow up to their fixed size as connections
   * come to lie in pages that were never written before.
   */
  readonly maps: number
  readonly descriptors: number
}

interface Mapping {
  readonly from: bigint
  readonly to: bigint
  readonly packetRing: boolean
  readonly bpfMap: boolean
  readonly resident: number
}

export function readSize(pid: number): Size {
  const mappings = parseMappings(readFileSync(`/proc/${pid}/smaps`, 'utf8'))
  const maps = residentInMaps(mappings)
  const all = mappings.reduce((sum, { resident }) => sum + resident, 0)
  const descriptors = readdirSync(`/proc/${pid}/fd`).length
  return { atMs: performance.now(), own: all - maps, maps, descriptors }
}

function parseMappings(smaps: string): Mapping[] {
  const head = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ *(.*)$/
  const mappings: Mapping[] = []
  for (const line of smaps.split('\n')) {
    const words = head.exec(line)
    if (words !== null)
      mappings.push({
        from: BigInt(`0x${words[1]}`),
        to: BigInt(`0x${words[2]}`),
        packetRing: words[3]?.startsWith('socket:') ?? false,
        bpfMap: words[3]?.includes('bpf-map') ?? false,
        resident: 0,
      })
    const resident = /^Rss: +(\d+) kB/.exec(line)
    const last = mappings.at(-1)
    if (resident !== null && last !== undefined)
      mappings[mappings.length - 1] = { ...last, resident: Number(resident[1]) * 1024 }
  }
  return mappings
}

/** The receive rings lie inside of the wasm memory: what adjoins a ring without a gap belongs to it. */
function residentInMaps(mappings: readonly Mapping[]): number {
  const runs: Mapping[][] = []
  for (const mapping of mappings) {
    const run = runs.at(-1)
    if (run?.at(-1)?.to === mapping.from) run.push(mapping)
    else runs.push([mapping])
  }
  return runs
    .filter((run) => run.some(({ packetRing }) => packetRing))
    .flat()
    .concat(mappings.filter(({ bpfMap }) => bpfMap))
    .reduce((sum, { resident }) => sum + resident, 0)
}

const MIB = 1024 * 1024
/** What the garbage collector may leave lying about. */
const GROWTH_MAX_BYTES = 12 * MIB
/** One is open or not as someone asks the API or a neighbour is looked up. */
const DESCRIPTORS_MORE_MAX = 2
/** Part of a daemon's life in which caches fill and code is compiled. */
const WARM_UP = 0.3
const SAMPLES_MIN = 12

export interface Growth {
  readonly first: Size
  readonly last: Size
  readonly mostOwn: number
  /** Median of the last third less that of the first after the warm-up, bytes. */
  readonly ownBytes: number
  /** Smallest number in the last third less that in the first: one that is only open for a moment is none. */
  readonly descriptors: number
}

/** Null when there are too few samples to tell. */
export function growthOf(samples: readonly Size[]): Growth | null {
  const first = samples[0]
  const last = samples.at(-1)
  const warm = samples.slice(Math.floor(samples.length * WARM_UP))
  if (first === undefined || last === undefined || warm.length < SAMPLES_MIN) return null
  const third = Math.floor(warm.length / 3)
  const [early, late] = [warm.slice(0, third), warm.slice(-third)]
  const own = (sizes: readonly Size[]): number => median(sizes.map((size) => size.own))
  const fewest = (sizes: readonly Size[]): number => Math.min(...sizes.map((size) => size.descriptors))
  return {
    first,
    last,
    mostOwn: Math.max(...samples.map((size) => size.own)),
    ownBytes: own(late) - own(early),
    descriptors: fewest(late) - fewest(early),
  }
}

/** What is wrong with a life of the daemon, in words. */
export function growthProblems(name: string, growth: Growth): string[] {
  const problems: string[] = []
  if (growth.ownBytes > GROWTH_MAX_BYTES)
    problems.push(`${name}: memory grew by ${mib(growth.ownBytes)}, allowed are ${mib(GROWTH_MAX_BYTES)}`)
  if (growth.descriptors > DESCRIPTORS_MORE_MAX)
    problems.push(`${name}: ${growth.descriptors} more file descriptors, allowed are ${DESCRIPTORS_MORE_MAX}`)
  return problems
}

export function mib(bytes: number): string {
  return `${(bytes / MIB).toFixed(1)} MiB`
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}
