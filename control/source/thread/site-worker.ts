/**
 * The thread that reads what sources state: a large file takes seconds to read, and the daemon's own thread
 * has others to answer.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import type { SitePool, SiteService } from '../../model/site.ts'
import type { StatingSource } from '../../model/source.ts'
import { VERSION } from '../../model/version.ts'
import type { FleetRevision } from '../../registry/fleet/document.ts'
import { FleetMember } from '../../registry/fleet/follow.ts'
import { isFleetPlace, parseFleetPlace } from '../../registry/fleet/place.ts'
import { FollowedPools, poolKey } from '../../registry/pools.ts'
import type { Member } from '../../registry/registry.ts'
import { type Files, type Reading, readSite } from '../file/read.ts'
import { Memory } from '../file/text.ts'
import { readKeepalived, thisHost } from '../keepalived/read.ts'
import { Cluster } from '../kubernetes/cluster.ts'
import { type KubernetesSettings, readSettings } from '../kubernetes/settings.ts'
import { LastGood } from './last-good.ts'
import { Packer, type SentService } from './packing.ts'
import type { AppliedOrder, Notice, Order, ReadAnswer, ReaderSettings, ReadOrder } from './protocol.ts'

/** Real servers in one message: taking so many over costs the receiver a millisecond or two. */
const MESSAGE_SERVERS = 500

const READERS: Readonly<Partial<Record<StatingSource, (path: string, files: Files) => Reading>>> = {
  file: (path, files) => readSite(path, files, memory),
  keepalived: (path, files) => readKeepalived(path, files, thisHost()),
}

/** The texts and folders that a reading came from. */
interface Texts {
  readonly source: StatingSource
  readonly path: string
  readonly files: ReadonlyMap<string, string>
  readonly folders: ReadonlyMap<string, readonly string[]>
  /** Of a fleet's configuration. */
  revision: number | null
  /** Those of the files that are looked at again by themselves. */
  watched: ReadonlySet<string>
  pools: readonly SitePool[]
  /** What those had, by their keys. */
  readonly members: Map<string, readonly Member[] | null>
}

/** Of the last reading, by its number, until it is known whether it came in force. */
let latest: { readonly number: number; readonly texts: Texts } | null = null
/** In force, by source. */
const applied = new Map<StatingSource, Texts>()

/** A pipe would be waited for, and a device may never end. */
function textOf(path: string): string {
  if (!statSync(path).isFile()) throw new Error('expected a regular file')
  return readFileSync(path, 'utf8')
}

/** Texts that are not to be read again; and whether the others may be. */
interface Known {
  readonly texts: Pick<Texts, 'files' | 'folders'> | undefined
  readonly watchedToo: boolean
}

function knownFor({ source, path, what }: ReadOrder, revision: FleetRevision | null): Known | null {
  if (what === 'whole' && revision !== null) return { texts: revision, watchedToo: true }
  if (what === 'whole') return { texts: undefined, watchedToo: false }
  if (what === 'pools') return { texts: applied.get(source), watchedToo: false }
  const good = lastGood.load(source, path)
  return good === null ? null : { texts: good, watchedToo: true }
}

function recording(source: StatingSource, path: string, known: Known): { files: Files; texts: Texts } {
  const files = new Map<string, string>()
  const folders = new Map<string, readonly string[]>()
  const members = new Map<string, readonly Member[] | null>()
  const remembered = <T>(map: Map<string, T>, path: string, value: T): T => {
    map.set(path, value)
    return value
  }
  return {
    texts: { source, path, files, folders, revision: null, watched: new Set(), pools: [], members },
    files: {
      read: (name, watched) => {
        const text = watched && !known.watchedToo ? undefined : known.texts?.files.get(name)
        return remembered(files, name, text ?? textOf(name))
      },
      list: (folder) => remembered(folders, folder, known.texts?.folders.get(folder) ?? readdirSync(folder)),
      follow: (pool) => remembered(members, poolKey(pool), followedPools.watch(pool).members),
    },
  }
}

/**
 * What was sent last of a source, for the path it came from: services by their real servers, and their places in the answer.
 * A reader that remembers hands out the very same values for the same words.
 */
const sent = new Map<
  StatingSource,
  { readonly path: string; readonly places: Map<SiteService['servers'], number> }
>()
const memory = new Memory()

function* messages(
  number: number,
  services: readonly SiteService[],
  last: ReadonlyMap<SiteService['servers'], number>,
  end: ReadAnswer,
): Generator<ReadAnswer> {
  const packer = new Packer()
  let batch: SentService[] = []
  let servers = 0
  for (const service of services) {
    const same = last.get(service.servers)
    batch.push(same === undefined ? service : { same, at: service.at })
    servers += same === undefined ? service.servers.length + 1 : 0.1
    if (servers < MESSAGE_SERVERS) continue
    yield { number, kind: 'services', packed: packer.pack(batch) }
    batch = []
    servers = 0
  }
  if (batch.length > 0) yield { number, kind: 'services', packed: packer.pack(batch) }
  yield end
}

/** Answers under way; a message waits until the last one is taken over: many at once would hold the receiver up. */
const outgoing: Iterator<ReadAnswer>[] = []
let awaited = false

function post(answers: Iterable<ReadAnswer>): void {
  outgoing.push(answers[Symbol.iterator]())
  if (!awaited) postNext()
}

function postNext(): void {
  awaited = false
  while (!awaited && outgoing.length > 0) {
    const { done, value } = outgoing[0]!.next()
    if (done === true) outgoing.shift()
    else {
      awaited = true
      parentPort?.postMessage(value)
    }
  }
}

// Pools that follow registries

/** How long a reading waits for a registry that it names for the first time. */
const FIRST_MS = 2000
/** States change in bursts, and people look at them. */
const STATES_MS = 200

const { poolFile = null, goodFolder = null } = (workerData ?? {}) as Partial<ReaderSettings>
const lastGood = new LastGood(goodFolder)
const followedPools = new FollowedPools({
  file: poolFile,
  changed: (key) => {
    for (const { source, pools } of applied.values()) {
      if (pools.some((pool) => poolKey(pool) === key)) stale(source)
    }
    tellStatesSoon()
  },
  told: () => tellStatesSoon(),
})

/** Sources that have been told to read again, and have not yet. */
const staleSources = new Set<StatingSource>()
let telling: NodeJS.Timeout | null = null

function stale(source: StatingSource): void {
  if (staleSources.has(source)) return
  staleSources.add(source)
  parentPort?.postMessage({ kind: 'stale', source } satisfies Notice)
}

function tellStatesSoon(): void {
  if (telling !== null) return
  telling = setTimeout(() => {
    telling = null
    for (const texts of applied.values()) tellStates(texts)
  }, STATES_MS)
}

function tellStates({ source, pools }: Texts): void {
  const states = pools.flatMap((pool) => {
    const state = followedPools.state(pool)
    const { pool: name, registry, address } = pool
    return state === null ? [] : [{ ...state, pool: name, registry, kind: address.kind, name: pool.name }]
  })
  parentPort?.postMessage({ kind: 'pools', source, pools: states } satisfies Notice)
}

/** What is in force, and what was read a moment ago and may come in force. */
function forgetOthers(): void {
  const used = [...applied.values(), ...(latest === null ? [] : [latest.texts])]
  followedPools.keepOnly(new Set(used.flatMap(({ pools }) => pools.map(poolKey))))
}

function becomeApplied({ number, without }: AppliedOrder): void {
  if (latest?.number !== number) return
  const { texts } = latest
  applied.set(texts.source, texts)
  latest = null
  if (texts.source === 'kubernetes') {
    cluster?.cluster.applied(without)
    return
  }
  lastGood.keep(texts, (path) => !texts.watched.has(path))
  forgetOthers()
  // What was heard while it was brought in force was nobody's yet.
  const missed = texts.pools.some(
    (pool) => followedPools.watch(pool).members !== texts.members.get(poolKey(pool)),
  )
  if (missed) stale(texts.source)
  tellStates(texts)
}

// Configurations that a fleet shares

let fleet: { readonly path: string; readonly member: FleetMember } | null = null

/** Who follows it; null: it is a file. */
function fleetOf(source: StatingSource, path: string): FleetMember | null {
  if (source !== 'file') return null
  const place = parseFleetPlace(path)
  if (place === null || fleet?.path === path) return place === null ? null : (fleet?.member ?? null)
  fleet?.member.close()
  const member = new FleetMember(place, VERSION, () => {
    parentPort?.postMessage({ kind: 'revised', source } satisfies Notice)
  })
  fleet = { path, member }
  return member
}

/** The others are told. */
function stands(source: StatingSource, why: string | null): void {
  if (fleet === null || source !== 'file') return
  const { path, member } = fleet
  const texts = applied.get(source)
  const revision = texts?.path === path ? texts.revision : null
  const refused = why === null ? null : (member.revision?.revision ?? null)
  member.tell({ revision, state: why === null ? 'in force' : 'refused', refused, why })
}

/** Of a fleet's texts the first one names the others. */
function mainOf(path: string, known: Known): string {
  return isFleetPlace(path) ? ([...(known.texts?.files.keys() ?? [])][0] ?? path) : path
}

// A cluster whose Services are ours

let cluster: { readonly path: string; readonly text: string; readonly cluster: Cluster } | null = null

/** Settings are read again each time; what is followed stays while they are the same. */
async function readCluster(path: string): Promise<{ readonly reading: Reading; readonly texts: Texts }> {
  const { texts } = recording('kubernetes', path, { texts: undefined, watchedToo: false })
  const settings = readSettings(path)
  if (Array.isArray(settings)) return { reading: { site: null, complaints: settings }, texts }
  const text = JSON.stringify(settings, (_key, value: unknown) =>
    typeof value === 'bigint' ? String(value) : value,
  )
  if (cluster?.path !== path || cluster.text !== text) {
    cluster?.cluster.close()
    const changed = (): void =>
      parentPort?.postMessage({ kind: 'revised', source: 'kubernetes' } satisfies Notice)
    cluster = { path, text, cluster: new Cluster(settings as KubernetesSettings, changed) }
  }
  await cluster.cluster.first(FIRST_MS)
  return { reading: cluster.cluster.read(path), texts }
}

/** null: there is nothing to be read. */
async function read(order: ReadOrder): Promise<{ readonly reading: Reading; readonly texts: Texts } | null> {
  const { source, path, what } = order
  if (source === 'kubernetes') return await readCluster(path)
  const reader = READERS[source]
  if (reader === undefined) throw new TypeError(`Nobody reads source "${source}"`)
  staleSources.delete(source)
  const member = fleetOf(source, path)
  if (what === 'whole') await member?.first(FIRST_MS)
  const revision = member?.revision ?? null
  const known = knownFor(order, revision)
  if (known === null) return null
  const { files, texts } = recording(source, path, known)
  if (member !== null && what === 'whole' && revision === null) {
    const at = { file: path, line: 1, column: 1 }
    const message = `Cannot read it: ${member.why}`
    return { reading: { site: null, complaints: [{ at, message, severity: 'error' }] }, texts }
  }
  texts.revision = what === 'whole' ? (revision?.revision ?? null) : (applied.get(source)?.revision ?? null)
  const main = mainOf(path, known)
  const reading = reader(main, files)
  texts.watched = new Set(reading.site?.watched)
  texts.pools = reading.site?.followed ?? []
  const unknown = what === 'pools' ? [] : texts.pools.filter(({ known }) => !known)
  if (unknown.length === 0) return { reading, texts }
  await Promise.all(unknown.map((pool) => followedPools.watch(pool).first(FIRST_MS)))
  const again = reader(main, files)
  texts.pools = again.site?.followed ?? []
  return { reading: again, texts }
}

async function answer(order: ReadOrder): Promise<void> {
  const { number, source, path } = order
  const done = await read(order)
  if (done === null) {
    post([{ number, kind: 'end', site: null, complaints: [] }])
    return
  }
  const { reading, texts } = done
  const { site, complaints } = reading
  latest = { number, texts }
  if (site === null) {
    post([{ number, kind: 'end', site, complaints }])
    return
  }
  const { services, ...rest } = site
  const before = sent.get(source)
  const last = before?.path === path ? before.places : new Map<SiteService['servers'], number>()
  sent.set(source, { path, places: new Map(services.map(({ servers }, index) => [servers, index])) })
  post(messages(number, services, last, { number, kind: 'end', site: rest, complaints }))
}

/** Readings go one after the other, also when one waits. */
let turn = Promise.resolve()

parentPort?.on('message', (order: Order) => {
  switch (order.order) {
    case 'taken':
      postNext()
      break
    case 'applied':
      becomeApplied(order)
      break
    case 'stands':
      stands(order.source, order.why)
      break
    case 'read':
      turn = turn
        .then(() => answer(order))
        .catch((error: unknown) => {
          const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
          post([{ number: order.number, kind: 'failed', message }])
        })
      break
    default:
      order satisfies never
  }
})
