/**
 * The thread that reads what sources state: a large file takes seconds to read, and the daemon's own thread
 * has others to answer.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import type { SiteService } from '../../model/site.ts'
import type { StatingSource } from '../../model/source.ts'
import { type Files, type Reading, readSite } from '../file/read.ts'
import type { Order, ReadAnswer, ReadOrder, SentService } from './protocol.ts'

/** Real servers in one message: taking so many over costs the receiver a millisecond or two. */
const MESSAGE_SERVERS = 500

const READERS: Readonly<Partial<Record<StatingSource, (path: string, files: Files) => Reading>>> = {
  file: readSite,
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
        remembered(files, path, (watched ? undefined : known?.files.get(path)) ?? readFileSync(path, 'utf8')),
      list: (path) => remembered(folders, path, known?.folders.get(path) ?? readdirSync(path)),
    },
  }
}

/** What was sent last of a source and path: each service as text, and its place in the answer. */
const sent = new Map<string, Map<string, number>>()

function* messages(
  services: readonly SiteService[],
  last: ReadonlyMap<string, number>,
  next: Map<string, number>,
) {
  let batch: SentService[] = []
  let servers = 0
  for (const [index, service] of services.entries()) {
    const { at, ...rest } = service
    const text = JSON.stringify(rest)
    next.set(text, index)
    const same = last.get(text)
    batch.push(same === undefined ? service : { same, at })
    servers += same === undefined ? service.servers.length + 1 : 0.1
    if (servers < MESSAGE_SERVERS) continue
    yield batch
    batch = []
    servers = 0
  }
  if (batch.length > 0) yield batch
}

function answer({ number, source, path, poolsOnly }: ReadOrder, post: (answer: ReadAnswer) => void): void {
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
  const key = `${source} ${path}`
  const next = new Map<string, number>()
  for (const batch of messages(services, sent.get(key) ?? new Map(), next)) {
    post({ number, kind: 'services', services: batch })
  }
  sent.set(key, next)
  post({ number, kind: 'end', site: rest, complaints })
}

const port = parentPort
port?.on('message', (order: Order) => {
  if (order.order === 'applied') {
    if (latest?.number === order.number) applied.set(latest.texts.source, latest.texts)
    return
  }
  try {
    answer(order, (value) => port.postMessage(value))
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
    port.postMessage({ number: order.number, kind: 'failed', message } satisfies ReadAnswer)
  }
})
