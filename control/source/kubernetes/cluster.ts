/**
 * A cluster whose Services of type LoadBalancer are ours: what they come to, and what is written back once it is in
 * force. An object that is going waits for us by a finalizer, so that no address is given anew while it is served.
 */
import { type Complaint, NO_DIRECTOR_SETTINGS, type SiteService } from '../../model/site.ts'
import type { Follower, Heard } from '../../registry/registry.ts'
import { keepFollowing, reasonOf } from '../../registry/retry.ts'
import type { Reading } from '../file/read.ts'
import { type Given, giveAddresses } from './addresses.ts'
import { KubeApi, KubeError, KubeFollower } from './api.ts'
import { buildServices, parseSourceRange } from './build.ts'
import {
  type KubeNode,
  type KubeService,
  type KubeSlice,
  readNode,
  readService,
  readSlice,
} from './objects.ts'
import { DEFAULT_CLASS, type KubernetesSettings } from './settings.ts'

export const FINALIZER = 'pointsman.dev/load-balancer'
/** What comes at once is one change. */
const QUIET_MS = 10
const GATHER_MS_MAX = 50
/** Objects that are written to at the same time. */
const WRITES = 8
const AGAIN_MS = 2000

/** What one object came to, and from what. */
interface Built {
  readonly from: string
  readonly services: readonly SiteService[]
}

/** All objects of one kind, as they are known. */
class Kind<T> {
  objects: Map<string, T> | null = null
  away: string | null = null

  hear(heard: Heard<T>): boolean {
    this.away = null
    if (heard.kind === 'current') return false
    if (heard.kind === 'whole') this.objects = new Map(heard.entries)
    else {
      for (const [key, object] of heard.changes) {
        if (object === null) this.objects?.delete(key)
        else this.objects?.set(key, object)
      }
    }
    return true
  }
}

export class Cluster {
  readonly #settings: KubernetesSettings
  readonly #api: KubeApi
  readonly #changed: () => void
  readonly #stop = new AbortController()
  readonly #services = new Kind<KubeService>()
  readonly #slices = new Kind<KubeSlice>()
  readonly #nodes = new Kind<KubeNode>()
  #built = new Map<string, Built>()
  /** What a Service says, as text; most of thousands are the same at each look. */
  readonly #words = new WeakMap<KubeService, string>()
  /** By service: names of the slices. */
  readonly #slicesOf = new Map<string, Map<string, KubeSlice>>()
  #quiet: NodeJS.Timeout | null = null
  #latest: NodeJS.Timeout | null = null
  #firsts: (() => void)[] = []
  /** What was read last, to be written back when it is in force. */
  #given: ReadonlyMap<string, Given> = new Map()
  /** And has come in force. */
  #inForce = false
  /** Places of Services of which something could not be brought in. */
  #leftOut: ReadonlySet<string> = new Set()
  #writing = false
  #writeAgain = false
  #again: NodeJS.Timeout | null = null

  constructor(settings: KubernetesSettings, changed: () => void) {
    this.#settings = settings
    this.#changed = changed
    this.#api = new KubeApi(settings)
    this.#follow('/api/v1/services', readService, this.#services, (heard) => this.#isNews(heard))
    this.#follow('/apis/discovery.k8s.io/v1/endpointslices', readSlice, this.#slices, (heard) => {
      this.#sort(heard)
      return true
    })
    if (settings.targets === 'nodes') this.#follow('/api/v1/nodes', readNode, this.#nodes)
    else this.#nodes.objects = new Map()
  }

  close(): void {
    this.#stop.abort()
    for (const timer of [this.#quiet, this.#latest, this.#again]) if (timer !== null) clearTimeout(timer)
    this.#api.close()
    this.#settle()
  }

  /** Settles when all kinds are known, or one cannot be had. */
  async first(limitMs: number): Promise<void> {
    if (this.#isKnown()) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs)
      this.#firsts.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  read(path: string): Reading {
    const services = this.#services.objects
    if (services === null || !this.#isKnown()) {
      const why = this.#services.away ?? this.#slices.away ?? this.#nodes.away ?? 'it has not answered yet'
      return {
        site: null,
        complaints: [complaint(path, `Cannot list what is in the cluster: ${why}`, 'error')],
      }
    }
    const ours = [...services.values()].filter((one) => this.#isOurs(one))
    const served = ours.filter((one) => unreadableRange(one) === undefined)
    this.#inForce = false
    this.#given = giveAddresses(served, this.#settings.addresses, this.#settings.askable)
    const complaints: Complaint[] = []
    const built = new Map<string, Built>()
    const nodes = [...(this.#nodes.objects?.values() ?? [])]
    const nodeText = nodes.map(({ meta }) => `${meta.name} ${meta.resourceVersion}`).join()
    for (const service of ours) {
      const key = keyOf(service)
      const given = this.#given.get(key)
      const at = placeOf(key)
      if (given === undefined) {
        // Rather not served than served to everybody.
        const message = `Cannot read "${unreadableRange(service)}" of loadBalancerSourceRanges, and it is not served: expected 198.51.100.0/24 or 2001:db8::/32`
        complaints.push(complaint(at, message, 'remark'))
      } else if ('refused' in given) complaints.push(complaint(at, given.refused, 'remark'))
      else built.set(key, this.#build(key, service, given.addresses, nodes, nodeText))
    }
    this.#built = built
    const all = [...built.values()].flatMap(({ services: list }) => list)
    const site = {
      services: all,
      director: NO_DIRECTOR_SETTINGS,
      filters: [],
      marks: [],
      files: [path],
      watched: [],
      followed: [],
    }
    return { site, complaints }
  }

  #build(
    key: string,
    service: KubeService,
    addresses: readonly string[],
    nodes: readonly KubeNode[],
    nodeText: string,
  ): Built {
    const slices = [...(this.#slicesOf.get(key)?.values() ?? [])]
    const versions = slices.map(({ meta }) => `${meta.name} ${meta.resourceVersion}`)
    const from = [this.#meaning(service), addresses.join(), nodeText, ...versions.sort()].join('|')
    const known = this.#built.get(key)
    if (known?.from === from) return known
    return { from, services: buildServices(service, addresses, slices, nodes, this.#settings) }
  }

  /** What was read last is in force: now it may be said, and what waits for us may go. */
  applied(without: readonly string[]): void {
    this.#inForce = true
    this.#leftOut = new Set(without)
    this.#writeSoon()
  }

  /** One round after the other: what is written comes back by the watch, and is then as it should be. */
  #writeSoon(): void {
    if (this.#stop.signal.aborted || !this.#inForce) return
    if (this.#writing) {
      this.#writeAgain = true
      return
    }
    const work = this.#toWrite()
    if (work.length === 0) return
    this.#writing = true
    void this.#write(work).then(() => {
      this.#writing = false
      const again = this.#writeAgain
      this.#writeAgain = false
      if (again) this.#writeSoon()
    })
  }

  #toWrite(): (() => Promise<void>)[] {
    const services = this.#services.objects
    if (services === null) return []
    const work: (() => Promise<void>)[] = []
    for (const service of services.values()) {
      const given = this.#given.get(keyOf(service))
      const addresses = given !== undefined && 'addresses' in given ? given.addresses : []
      const ours = this.#isOurs(service)
      const held = service.meta.finalizers.includes(FINALIZER)
      if (!ours && !held) continue
      if (ours && !held)
        work.push(() => this.#patchFinalizers(service, [...service.meta.finalizers, FINALIZER]))
      const wanted = ours && !this.#leftOut.has(placeOf(keyOf(service))) ? addresses : []
      const deleted = service.meta.deletionTimestamp !== null
      if (!deleted && wanted.join() !== service.ingress.join())
        work.push(() => this.#patchStatus(service, wanted))
      if (!ours) {
        const rest = service.meta.finalizers.filter((one) => one !== FINALIZER)
        work.push(() => this.#patchFinalizers(service, rest))
      }
    }
    return work
  }

  async #write(work: readonly (() => Promise<void>)[]): Promise<void> {
    let failed = false
    for (let n = 0; n < work.length && !this.#stop.signal.aborted; n += WRITES) {
      await Promise.all(
        work.slice(n, n + WRITES).map(async (one) => {
          try {
            await one()
          } catch (error) {
            // Somebody was quicker: what it is now comes by the watch. What is gone needs nothing.
            if (!(error instanceof KubeError) || ![404, 409].includes(error.status)) failed = true
          }
        }),
      )
    }
    if (!failed || this.#stop.signal.aborted || this.#again !== null) return
    this.#again = setTimeout(() => {
      this.#again = null
      this.#writeSoon()
    }, AGAIN_MS)
  }

  #patchFinalizers({ meta }: KubeService, finalizers: readonly string[]): Promise<void> {
    const { resourceVersion, namespace, name } = meta
    const path = `/api/v1/namespaces/${namespace}/services/${name}`
    // With the version: a list that has changed meanwhile must not be overwritten.
    return this.#api.patch(path, { metadata: { resourceVersion, finalizers } })
  }

  #patchStatus({ meta }: KubeService, addresses: readonly string[]): Promise<void> {
    const path = `/api/v1/namespaces/${meta.namespace}/services/${meta.name}/status`
    const ingress = addresses.map((ip) => ({ ip, ipMode: 'VIP' }))
    return this.#api.patch(path, { status: { loadBalancer: { ingress } } })
  }

  #isOurs({ type, class: name, meta }: KubeService): boolean {
    if (type !== 'LoadBalancer' || meta.deletionTimestamp !== null) return false
    return this.#settings.class === null
      ? name === null || name === DEFAULT_CLASS
      : name === this.#settings.class
  }

  #isKnown(): boolean {
    return this.#services.objects !== null && this.#slices.objects !== null && this.#nodes.objects !== null
  }

  #follow<T>(
    path: string,
    read: (object: Readonly<Record<string, unknown>>) => T,
    kind: Kind<T>,
    isNews: (heard: Heard<T>) => boolean = () => true,
  ): void {
    const follower: Follower<T> = new KubeFollower(this.#api, path, read)
    void keepFollowing(
      follower,
      {
        heard: (heard) => {
          const news = isNews(heard)
          if (!kind.hear(heard)) return
          if (news) this.#soon()
          else this.#writeSoon()
        },
        away: (why) => {
          kind.away = reasonOf(why)
          if (!this.#isKnown()) this.#settle()
        },
      },
      this.#stop.signal,
    )
  }

  /** Most of what comes is what we have written ourselves. */
  #isNews(heard: Heard<KubeService>): boolean {
    if (heard.kind !== 'changes') return true
    for (const [key, service] of heard.changes) {
      const before = this.#services.objects?.get(key)
      if (service === null || before === undefined) return true
      if (this.#meaning(before) !== this.#meaning(service)) return true
    }
    return false
  }

  /** What of a Service says how it is to be served. */
  #meaning(service: KubeService): string {
    const given = this.#given.get(keyOf(service))
    const own = given !== undefined && 'addresses' in given ? given.addresses.join() : ''
    const ingress = service.ingress.join()
    return `${this.#wordsOf(service)} ${ingress === own ? '' : ingress}`
  }

  #wordsOf(service: KubeService): string {
    const known = this.#words.get(service)
    if (known !== undefined) return known
    const { uid, creationTimestamp, deletionTimestamp, annotations } = service.meta
    const meta = { uid, creationTimestamp, deletionTimestamp, annotations }
    const words = JSON.stringify({ ...service, meta, ingress: [] })
    this.#words.set(service, words)
    return words
  }

  #sort(heard: Heard<KubeSlice>): void {
    if (heard.kind === 'current') return
    if (heard.kind === 'whole') this.#slicesOf.clear()
    const entries: Iterable<[string, KubeSlice | null]> =
      heard.kind === 'whole' ? heard.entries : heard.changes
    for (const [key, slice] of entries) {
      const before = this.#slices.objects?.get(key)
      if (heard.kind === 'changes' && before !== undefined) this.#slicesOf.get(before.service)?.delete(key)
      if (slice === null) continue
      const list = this.#slicesOf.get(slice.service) ?? new Map<string, KubeSlice>()
      this.#slicesOf.set(slice.service, list.set(key, slice))
    }
  }

  #soon(): void {
    if (!this.#isKnown()) return
    this.#settle()
    const tell = (): void => {
      for (const timer of [this.#quiet, this.#latest]) if (timer !== null) clearTimeout(timer)
      this.#quiet = null
      this.#latest = null
      this.#changed()
    }
    if (this.#quiet !== null) clearTimeout(this.#quiet)
    this.#quiet = setTimeout(tell, QUIET_MS)
    this.#latest ??= setTimeout(tell, GATHER_MS_MAX)
  }

  #settle(): void {
    for (const settle of this.#firsts) settle()
    this.#firsts = []
  }
}

const keyOf = ({ meta }: KubeService): string => `${meta.namespace}/${meta.name}`

/** As `buildServices` says it. */
const placeOf = (key: string): string => `service ${key}`

function unreadableRange({ sourceRanges }: KubeService): string | undefined {
  return sourceRanges.find((range) => parseSourceRange(range) === null)
}

function complaint(file: string, message: string, severity: Complaint['severity']): Complaint {
  return { at: { file, line: 1, column: 1 }, message, severity }
}
