/**
 * The thread that reads what sources state: a large file takes seconds to read, and the daemon's own thread
 * has others to answer.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import type { SiteService } from '../../model/site.ts'
import type { StatingSource } from '../../model/source.ts'
import { type Files, type Reading, readSite } from '../file/read.ts'
import { Memory } from '../file/text.ts'
import { readKeepalived, thisHost } from '../keepalived/read.ts'
import type { Order, ReadAnswer, ReadOrder, SentService } from './protocol.ts'

/** Real servers in one message: taking so many over costs the receiver a millisecond or two. */
const MESSAGE_SERVERS = 500

const READERS: Readonly<Partial<Record<StatingSource, (path: string, files: Files) => Reading>>> = {
  file: (path, files) => readSite(path, files, memory),
  keepalived: (path, files) => readKeepalived(path, files, thisHost()),
}

/** The texts and folders that a reading came from. */
interface Texts {
  readonly source: StatingSource
  readonly files: ReadonlyMap<string, string>
  readonly folders: ReadonlyMap<string, readonly string[]>
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

/** @param known texts that are not to be read again */
function recording(source: StatingSource, known: Texts | undefined): { files: Files; texts: Texts } {
  const files = new Map<string, string>()
  const folders = new Map<string, readonly string[]>()
  const remembered = <T>(map: Map<string, T>, path: string, value: T): T => {
    map.set(path, value)
    return value
  }
  return {
    texts: { source, files, folders },
    files: {
      read: (path, watched) =>
        remembered(files, path, (watched ? undefined : known?.files.get(path)) ?? textOf(path)),
      list: (path) => remembered(folders, path, known?.folders.get(path) ?? readdirSync(path)),
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
  services: readonly SiteService[],
  last: ReadonlyMap<SiteService['servers'], number>,
  next: Map<SiteService['servers'], number>,
) {
  let batch: SentService[] = []
  let servers = 0
  for (const [index, service] of services.entries()) {
    next.set(service.servers, index)
    const same = last.get(service.servers)
    batch.push(same === undefined ? service : { same, at: service.at })
    servers += same === undefined ? service.servers.length + 1 : 0.1
    if (servers < MESSAGE_SERVERS) continue
    yield batch
    batch = []
    servers = 0
  }
  if (batch.length > 0) yield batch
}

/** Messages that wait for the receiver to have taken over the last one: many at once would hold it up. */
const outgoing: ReadAnswer[] = []
let awaited = false

function post(message: ReadAnswer): void {
  outgoing.push(message)
  if (!awaited) postNext()
}

function postNext(): void {
  const message = outgoing.shift()
  awaited = message !== undefined
  if (message !== undefined) parentPort?.postMessage(message)
}

function answer({ number, source, path, poolsOnly }: ReadOrder): void {
  const reader = READERS[source]
  if (reader === undefined) throw new TypeError(`Nobody reads source "${source}"`)
  const { files, texts } = recording(source, poolsOnly ? applied.get(source) : undefined)
  const { site, complaints } = reader(path, files)
  latest = { number, texts }
  if (site === null) {
    post({ number, kind: 'end', site, complaints })
    return
  }
  const { services, ...rest } = site
  const before = sent.get(source)
  const last = before?.path === path ? before.places : new Map<SiteService['servers'], number>()
  const next = new Map<SiteService['servers'], number>()
  for (const batch of messages(services, last, next)) {
    post({ number, kind: 'services', services: batch })
  }
  sent.set(source, { path, places: next })
  post({ number, kind: 'end', site: rest, complaints })
}

parentPort?.on('message', (order: Order) => {
  switch (order.order) {
    case 'taken':
      postNext()
      break
    case 'applied':
      if (latest?.number === order.number) applied.set(latest.texts.source, latest.texts)
      break
    case 'read':
      try {
        answer(order)
      } catch (error) {
        const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
        post({ number: order.number, kind: 'failed', message })
      }
      break
    default:
      order satisfies never
  }
})
