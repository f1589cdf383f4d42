/**
 * Interfaces that packets are to be taken from, against those they are taken from: brought in line when
 * links change, and compared with the kernel now and then. One that does not exist is waited for, one
 * that is renamed is followed while it lives, one made again under the wanted name is taken again.
 */
import {
  type AttachedInterface,
  type AttachResult,
  type Dataplane,
  isKernel,
} from '../../dataplane/dataplane.ts'
import type { Link, Links } from '../../linux/links.ts'

/** Where the links of this network namespace are known. */
export interface LinkSource {
  links(): Links
  /** Calls back after changes of links; returns the way to stop. */
  onLinkChange(listener: () => void): () => void
}

export type Attachment =
  | { readonly wanted: string; readonly state: 'attached'; readonly attached: AttachedInterface }
  | {
      readonly wanted: string
      /** waiting: it does not exist. refused: it does, and cannot be taken. */
      readonly state: 'waiting' | 'refused'
      /** With what mends it. */
      readonly why: string
    }

/** Without any event: what the kernel has is compared with what is wanted so often. */
const COMPARE_MS = 10_000
/** How soon a refused interface is tried again, and how long at most between two tries. */
const RETRY_MS_MIN = 100
const RETRY_MS_MAX = 10_000

export class Attachments {
  wanted: readonly string[]
  /** Links of our own that packets are taken from, too: nobody is told of them. */
  #inner: readonly string[] = []
  /** All that ever were: nobody is told of those. */
  readonly #inside = new Set<string>()
  readonly #source: LinkSource
  readonly #log: (message: string) => void
  readonly #unfollow: () => void
  readonly #comparing: NodeJS.Timeout
  /** ifindex by the name it was wanted by. */
  readonly #followed = new Map<string, number>()
  /** Of the last attach, by wanted name. */
  #results = new Map<string, AttachResult>()
  #plane: Dataplane | null = null
  /** What the last attach was made for: nothing to do while that is so. */
  #madeFor: unknown = null
  /** What the last one was refused for: while that is so, it is tried again at its time and not before. */
  #refusedFor: unknown = null
  #retryMs = RETRY_MS_MIN
  #retry: NodeJS.Timeout | null = null
  #queue: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(wanted: readonly string[], source: LinkSource, log: (message: string) => void) {
    this.wanted = [...new Set(wanted)]
    this.#source = source
    this.#log = log
    this.#unfollow = source.onLinkChange(() => void this.bringInLine())
    this.#comparing = setInterval(() => void this.compare(), COMPARE_MS).unref()
  }

  /** From now on packets are taken by this plane; null: by none, whatever is under way has ended. */
  async use(plane: Dataplane | null): Promise<readonly Attachment[]> {
    await this.#inOrder(async () => {
      this.#plane = plane
      this.#madeFor = null
      this.#refusedFor = null
      this.#results = new Map()
      this.#remember(plane)
    })
    await this.bringInLine()
    return this.state()
  }

  /** Others are wanted from now on. */
  want(names: readonly string[]): Promise<void> {
    this.wanted = [...new Set(names)]
    this.#madeFor = null
    this.#refusedFor = null
    return this.bringInLine()
  }

  /** Takes packets from this link of our own, too, whenever it is there. */
  takeAlso(name: string): Promise<void> {
    if (this.#inner.includes(name)) return Promise.resolve()
    this.#inner = [...this.#inner, name]
    this.#inside.add(name)
    this.#madeFor = null
    this.#refusedFor = null
    return this.bringInLine()
  }

  /** It is not one of ours any more. */
  takeNoLonger(name: string): Promise<void> {
    if (!this.#inner.includes(name)) return Promise.resolve()
    this.#inner = this.#inner.filter((inner) => inner !== name)
    this.#madeFor = null
    this.#refusedFor = null
    return this.bringInLine()
  }

  /** Whether packets are taken from the link of this index, as far as the last attach knows. */
  takes(ifindex: number): boolean {
    for (const result of this.#results.values()) {
      if ('attached' in result && result.attached.ifindex === ifindex) return true
    }
    return false
  }

  /** Makes real what is wanted, as far as it can be; what cannot is in `state` and is tried again. */
  bringInLine(): Promise<void> {
    return this.#inOrder(() => this.#bringInLine())
  }

  /** The same, whatever is known of the plane already. */
  compare(): Promise<void> {
    this.#refusedFor = null
    // On the userspace plane links alone are followed; what it has of them is compared in any case.
    if (this.#plane !== null && isKernel(this.#plane.plane)) this.#madeFor = null
    return this.bringInLine()
  }

  /** What is so at this moment, asked of the plane. */
  state(): readonly Attachment[] {
    const attached = new Map((this.#plane?.interfaces() ?? []).map((nic) => [nic.ifindex, nic]))
    return this.wanted.map((wanted): Attachment => {
      const link = this.#linkOf(wanted)
      const nic = link === null ? undefined : attached.get(link.ifindex)
      if (nic !== undefined) return { wanted, state: 'attached', attached: nic }
      const result = this.#results.get(wanted)
      if (link !== null && result !== undefined && 'refused' in result && !result.absent) {
        return { wanted, state: 'refused', why: result.refused }
      }
      const trouble = link === null ? null : (this.#plane?.trouble?.() ?? null)
      if (trouble !== null) return { wanted, state: 'refused', why: trouble }
      const why =
        link === null
          ? `No interface "${wanted}" in this network namespace: see ip link`
          : `${link.name} is about to be attached`
      return { wanted, state: 'waiting', why }
    })
  }

  stop(): void {
    this.#stopped = true
    this.#unfollow()
    clearInterval(this.#comparing)
    if (this.#retry !== null) clearTimeout(this.#retry)
  }

  #inOrder(action: () => Promise<void>): Promise<void> {
    const result = this.#queue.then(action)
    this.#queue = result.catch(() => {})
    return result
  }

  /** By its name; while no link has that, the one that had it. */
  #linkOf(wanted: string): Link | null {
    const links = this.#source.links()
    const named = links.named(wanted)
    if (named !== null) return named
    const followed = this.#followed.get(wanted)
    return followed === undefined ? null : links.at(followed)
  }

  /** What an earlier process took by a wanted name, and the plane still has by another. */
  #remember(plane: Dataplane | null): void {
    for (const { ifindex, wanted } of plane?.interfaces() ?? []) {
      if (wanted !== undefined && this.#linkOf(wanted) === null) this.#followed.set(wanted, ifindex)
    }
  }

  #follow(): readonly { readonly wanted: string; readonly link: Link }[] {
    return [...this.wanted, ...this.#inner].flatMap((wanted) => {
      const link = this.#linkOf(wanted)
      // The index of one that is gone may be another's some day.
      if (link === null) this.#followed.delete(wanted)
      else this.#followed.set(wanted, link.ifindex)
      return link === null ? [] : [{ wanted, link }]
    })
  }

  async #bringInLine(): Promise<void> {
    const plane = this.#plane
    if (plane === null || this.#stopped || this.wanted.length + this.#inner.length === 0) return
    const found = this.#follow()
    // In XDP every link may be a way out, and what it can take is told again with each attach.
    const facts = isKernel(plane.plane)
      ? this.#source.links()
      : JSON.stringify(found.map(({ link }) => this.#facts(link)))
    const before = this.#results
    if (facts === this.#madeFor && this.#isComplete(plane, found)) return
    // Trying changes links itself, on some planes: each try would bring about the next.
    if (facts === this.#refusedFor) return
    // Also those that are missing: a plane that outlives us takes them when they come.
    const called = new Map(found.map(({ wanted, link }) => [wanted, link.name]))
    const wanted = [...this.wanted, ...this.#inner]
    const names = wanted.map((name) => called.get(name) ?? name)
    const interfaces = wanted.map((name, at) =>
      names[at] === name ? name : { name: names[at]!, wanted: name },
    )
    let results: readonly AttachResult[]
    try {
      results = await plane.attach(interfaces)
    } catch (error) {
      const refused = error instanceof Error ? error.message : String(error)
      results = names.map((name) => ({ name, refused, absent: false }))
    }
    // What a plane that is being closed refuses is nobody's concern.
    if (this.#stopped) return
    const byName = new Map(results.map((result) => [result.name, result]))
    this.#results = new Map(
      found.flatMap(({ wanted, link }) => {
        const result = byName.get(link.name)
        return result === undefined ? [] : [[wanted, result] as const]
      }),
    )
    const isRefused = [...this.#results.values()].some((result) => 'refused' in result)
    this.#madeFor = isRefused ? null : facts
    this.#refusedFor = isRefused ? facts : null
    this.#tell(before)
    this.#tryAgain(isRefused)
  }

  /** All of a link that the plane goes by. */
  #facts(link: Link): unknown {
    const links = this.#source.links()
    return links
      .receivingFor(link.ifindex)
      .map((nic) => [
        nic.ifindex,
        nic.name,
        nic.mtu,
        nic.kind,
        nic.noArp,
        links.addressesOf(nic.ifindex).map((mac) => Buffer.from(mac).toString('hex')),
        links.upperOf(nic.ifindex).map(({ name, kind }) => [name, kind]),
      ])
  }

  #isComplete(plane: Dataplane, found: readonly { readonly link: Link }[]): boolean {
    const real = plane.interfaces()
    const taken = new Set(real.map(({ ifindex }) => ifindex))
    const indices = new Set(found.map(({ link }) => link.ifindex))
    return taken.size === indices.size && [...indices].every((ifindex) => taken.has(ifindex))
  }

  #tell(before: ReadonlyMap<string, AttachResult>): void {
    for (const [name, was] of before) {
      if (this.wanted.includes(name) || this.#inside.has(name)) continue
      if ('attached' in was) this.#log(`Interface ${name} is detached: nobody names it any more`)
    }
    for (const wanted of this.wanted) {
      const [was, is] = [before.get(wanted), this.#results.get(wanted)]
      const [said, saying] = [told(wanted, was), told(wanted, is)]
      // What a plane takes at once is told by whoever starts it.
      if (said === saying || (before.size === 0 && is !== undefined && 'attached' in is)) continue
      if (is === undefined) this.#log(`Interface ${wanted} is gone: waiting for it`)
      else if ('attached' in is) this.#log(`Interface ${saying}`)
      else this.#log(is.refused)
    }
  }

  /** A refusal may end without any event: a program taken off, privileges, memory. */
  #tryAgain(isRefused: boolean): void {
    if (this.#retry !== null) clearTimeout(this.#retry)
    this.#retry = null
    if (!isRefused) {
      this.#retryMs = RETRY_MS_MIN
      return
    }
    this.#retry = setTimeout(() => {
      this.#refusedFor = null
      void this.bringInLine()
    }, this.#retryMs).unref()
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MS_MAX)
  }
}

function told(wanted: string, result: AttachResult | undefined): string {
  if (result === undefined) return ''
  if ('refused' in result) return result.refused
  const { name, mode, note } = result.attached
  const as = name === wanted ? name : `${wanted} is called ${name} now and`
  return `${as} is attached (${mode})${note === undefined ? '' : `: ${note}`}`
}
