/** How `Sizes` become entries of each map and the limits the packet program is compiled against. */
import type { Sizes } from './dataplane.ts'
import {
  type LimitsRecord,
  type MapName,
  PM_ANSWER_BUCKETS,
  PM_CALL_IDS,
  PM_EGRESSES,
  PM_FILTER_BUCKET,
  PM_FRAGMENTS,
  PM_FULL_NATS,
  PM_INTEREST_WORDS,
  PM_INTERFACES,
  PM_LOCALITIES,
  PM_LOCALS,
  PM_MAC_BUCKETS,
  PM_MARK_BUCKETS,
  PM_MARK_KINDS,
  PM_MARK_RULES,
  PM_MARK_SPANS,
  PM_NEIGHBOURS,
  PM_SOURCES,
  PM_VERDICT_MAX,
  PM_WAYS,
} from './layout/layout.gen.ts'

const FAMILIES = 2

/**
 * Buckets of the index of NAT real servers: half full when all real servers are in it, so that two choices
 * of eight practically never overflow. 16 to 32 bytes per real server.
 */
function natBuckets({ reals }: Sizes): number {
  return 2 ** Math.ceil(Math.log2(Math.max(4, reals / 4)))
}

/** Unless said otherwise. */
const FILTER_BUCKETS = 1024

/** Entries of every map. */
export function mapEntries(sizes: Sizes): Readonly<Record<MapName, number>> {
  return {
    settings: 1,
    interfaces: PM_INTERFACES,
    services: sizes.services,
    service_index: sizes.serviceBuckets,
    nat_index: natBuckets(sizes),
    schedules: sizes.services * 2,
    members: sizes.members,
    reals: sizes.reals,
    live: sizes.reals,
    counters: sizes.reals * sizes.cpus,
    connections4: sizes.connections4,
    connections6: sizes.connections6,
    verdicts: sizes.cpus * PM_VERDICT_MAX,
    locals: PM_LOCALS,
    interest: PM_INTEREST_WORDS,
    egress: PM_EGRESSES,
    cpus: sizes.cpus,
    hops: sizes.reals,
    macs: PM_MAC_BUCKETS,
    // Halves: one in use, one to be filled.
    mark_kinds: 2 * FAMILIES * PM_MARK_KINDS,
    mark_index: 2 * PM_MARK_BUCKETS,
    mark_keys: 2 * PM_MARK_RULES,
    mark_spans: 2 * PM_MARK_SPANS,
    controls4: sizes.connections4 / PM_WAYS,
    controls6: sizes.connections6 / PM_WAYS,
    filters: (sizes.filterBuckets ?? FILTER_BUCKETS) * PM_FILTER_BUCKET,
    filter_lengths: FAMILIES,
    gates: sizes.services,
    fragments: PM_FRAGMENTS,
    neighbours: PM_NEIGHBOURS,
    localities: PM_LOCALITIES,
    sources: PM_SOURCES,
    answered: PM_ANSWER_BUCKETS,
    full_nat: FAMILIES * PM_FULL_NATS,
    call_ids: PM_CALL_IDS,
  }
}

/** The inverse of `mapEntries`: what the sizes were, from maps that exist. */
export function sizesOfEntries(entries: Readonly<Record<MapName, number>>): Sizes {
  return {
    services: entries.services,
    serviceBuckets: entries.service_index,
    reals: entries.reals,
    members: entries.members,
    connections4: entries.connections4,
    connections6: entries.connections6,
    filterBuckets: entries.filters / PM_FILTER_BUCKET,
    // Not by the rows of `verdicts`: an earlier layout may have had shorter ones.
    cpus: entries.counters / entries.reals,
  }
}

/**
 * What the packet program must know of the sizes.
 * @param ownRows of the rows for CPUs, those of one CPU each; all others share the last
 */
export function limitsOf(sizes: Sizes, ownRows: number): LimitsRecord {
  return {
    cpus: sizes.cpus,
    conn4Mask: sizes.connections4 / PM_WAYS - 1,
    conn6Mask: sizes.connections6 / PM_WAYS - 1,
    serviceMask: sizes.serviceBuckets - 1,
    natMask: natBuckets(sizes) - 1,
    filterMask: (sizes.filterBuckets ?? FILTER_BUCKETS) - 1,
    ownRows,
  }
}

/** Throws `RangeError` naming the first size that no data plane can have. */
export function checkSizes(sizes: Sizes): void {
  for (const [name, value] of Object.entries(sizes)) {
    if (!Number.isInteger(value) || value < 1) {
      throw new RangeError(`sizes.${name} is ${value}, expected a whole number of at least 1`)
    }
  }
  const powers = {
    serviceBuckets: 1,
    filterBuckets: 1,
    connections4: PM_WAYS,
    connections6: PM_WAYS,
  } as const
  for (const [name, least] of Object.entries(powers)) {
    const value = sizes[name as keyof typeof powers] ?? least
    if (value < least || !Number.isInteger(Math.log2(value))) {
      throw new RangeError(`sizes.${name} is ${value}, expected a power of two of at least ${least}`)
    }
  }
}
