/**
 * The children of a node. ZooKeeper's watches fire once, so whatever is told is read again with the next watch in
 * the same request: no change falls between the two. After a broken connection all of it is read anew.
 */

import { onAbort } from '../../model/aborted.ts'
import type { RegistryAddress } from '../../model/pool.ts'
import { readEntry } from '../entry.ts'
import { ENTRIES_MAX, type Entry, type Follower, type Heard } from '../registry.ts'
import { EVENTS, NO_NODE, type WatchEvent, ZkError, ZkSession } from './session.ts'

const SESSION_MS = 6000
/** Requests that are under way at the same time. */
const WINDOW = 512

export class ZkFollower implements Follower {
  readonly #address: RegistryAddress
  readonly #path: string
  #endpoint = 0

  constructor(address: RegistryAddress, name: string) {
    this.#address = address
    this.#path = `/${name.replace(/^\/+|\/+$/g, '')}`
  }

  async attempt(report: (heard: Heard) => void, signal: AbortSignal): Promise<never> {
    const { endpoints } = this.#address
    let session: ZkSession | null = null
    let following: Following | null = null
    let listenNoMore = (): void => {}
    try {
      session = await ZkSession.open(
        {
          address: this.#address,
          endpoint: endpoints[this.#endpoint % endpoints.length]!,
          sessionMs: SESSION_MS,
          session: null,
          lastZxid: 0n,
          event: (event) => following?.told(event),
          alive: () => following?.alive(),
        },
        signal,
      )
      const opened = session
      listenNoMore = onAbort(signal, () => opened.close())
      signal.throwIfAborted()
      following = new Following(opened, this.#path, report)
      return await Promise.race([following.run(), opened.ended])
    } catch (error) {
      this.#endpoint++
      throw error
    } finally {
      listenNoMore()
      session?.close()
    }
  }
}

class Following {
  readonly #session: ZkSession
  readonly #path: string
  readonly #report: (heard: Heard) => void
  readonly #known = new Set<string>()
  /** What has been told and not read yet; null: the list itself. */
  readonly #due = new Set<string | null>([null])
  #wake: () => void = () => {}
  #listed = false

  constructor(session: ZkSession, path: string, report: (heard: Heard) => void) {
    this.#session = session
    this.#path = path
    this.#report = report
  }

  told({ type, path }: WatchEvent): void {
    if (path === this.#path) this.#due.add(null)
    // Of one that is gone the list says so.
    else if (type !== EVENTS.deleted) this.#due.add(path.slice(this.#prefix.length))
    this.#wake()
  }

  alive(): void {
    if (this.#listed) this.#report({ kind: 'current' })
  }

  get #prefix(): string {
    return this.#path === '/' ? '/' : `${this.#path}/`
  }

  async run(): Promise<never> {
    for (;;) {
      const due = [...this.#due]
      this.#due.clear()
      if (due.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        continue
      }
      await this.#read(due)
    }
  }

  async #read(due: readonly (string | null)[]): Promise<void> {
    const changes = new Map<string, Entry | null>()
    const names = new Set(due.filter((name) => name !== null))
    if (due.includes(null)) {
      const list = new Set(await this.#list())
      for (const name of this.#known) {
        if (list.has(name)) continue
        this.#known.delete(name)
        names.delete(name)
        changes.set(name, null)
      }
      for (const name of list) if (!this.#known.has(name)) names.add(name)
    }
    const wanted = [...names]
    for (let n = 0; n < wanted.length; n += WINDOW) {
      const part = wanted.slice(n, n + WINDOW)
      const entries = await Promise.all(part.map((name) => this.#entry(name)))
      for (const [index, entry] of entries.entries()) {
        const name = part[index]!
        if (entry === null) this.#known.delete(name)
        else this.#known.add(name)
        changes.set(name, entry)
      }
    }
    if (!this.#listed) {
      const entries = new Map<string, Entry>()
      for (const [name, entry] of changes) if (entry !== null) entries.set(name, entry)
      this.#listed = true
      this.#report({ kind: 'whole', entries })
    } else if (changes.size > 0) this.#report({ kind: 'changes', changes })
  }

  /** Without the node there are none, until there is one. */
  async #list(): Promise<readonly string[]> {
    for (;;) {
      try {
        return (await this.#session.children(this.#path, true)).slice(0, ENTRIES_MAX)
      } catch (error) {
        if (!(error instanceof ZkError) || error.code !== NO_NODE) throw error
        if (!(await this.#session.exists(this.#path))) return []
      }
    }
  }

  /** null: it is gone, and the list will say so. */
  async #entry(name: string): Promise<Entry | null> {
    try {
      return readEntry(await this.#session.data(`${this.#prefix}${name}`, true), name)
    } catch (error) {
      if (error instanceof ZkError && error.code === NO_NODE) return null
      throw error
    }
  }
}
