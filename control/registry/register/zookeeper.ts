/** An ephemeral node; its session outlives connections, so that a restart of the server takes nobody away. */

import { untilAborted } from '../../model/aborted.ts'
import {
  ExpiredError,
  NO_NODE,
  NODE_EXISTS,
  type SessionIdentity,
  ZkError,
  ZkSession,
} from '../zookeeper/session.ts'
import { entryText, type Registrar, type Registration } from './registration.ts'

export class ZkRegistrar implements Registrar {
  readonly #registration: Registration
  #endpoint = 0
  #session: SessionIdentity | null = null
  #lastZxid = 0n
  #open: ZkSession | null = null

  constructor(registration: Registration) {
    this.#registration = registration
  }

  get #parent(): string {
    return `/${this.#registration.service.replace(/^\/+|\/+$/g, '')}`
  }

  async attempt(held: () => void, signal: AbortSignal): Promise<never> {
    try {
      const session = await this.#connect(signal)
      await this.#write(session)
      held()
      return await Promise.race([session.ended, untilAborted(signal)])
    } catch (error) {
      this.#endpoint++
      if (error instanceof ExpiredError) this.#session = null
      throw error
    } finally {
      // By the signal it is to be withdrawn, in the session that it is in.
      if (!signal.aborted) this.#leave()
    }
  }

  async withdraw(): Promise<void> {
    const session =
      this.#open ?? (this.#session === null ? null : await this.#connect(new AbortController().signal))
    // With the session goes the node.
    await session?.finish()
    this.#open = null
  }

  async #connect(signal: AbortSignal): Promise<ZkSession> {
    const { address, ttlMs } = this.#registration
    const session = await ZkSession.open(
      {
        address,
        endpoint: address.endpoints[this.#endpoint % address.endpoints.length]!,
        sessionMs: ttlMs,
        session: this.#session,
        lastZxid: this.#lastZxid,
        event: () => {},
        alive: () => {},
      },
      signal,
    )
    this.#open = session
    this.#session = session.identity
    return session
  }

  #leave(): void {
    if (this.#open === null) return
    this.#lastZxid = this.#open.lastZxid
    this.#open.leave()
    this.#open = null
  }

  async #write(session: ZkSession): Promise<void> {
    const path = `${this.#parent}/${this.#registration.endpoint}`
    const value = entryText(this.#registration)
    for (let tries = 0; ; tries++) {
      try {
        await session.create(path, value, true)
        return
      } catch (error) {
        if (!(error instanceof ZkError) || tries > 5) throw error
        if (error.code === NO_NODE) await this.#makeParents(session)
        else if (error.code !== NODE_EXISTS) throw error
        else if ((await this.#ownerOf(session, path)) === session.identity.id) {
          await session.set(path, value)
          return
        } else {
          // An earlier session of ours that has not ended yet would take it along.
          await session.remove(path).catch(unlessGone)
        }
      }
    }
  }

  async #ownerOf(session: ZkSession, path: string): Promise<bigint> {
    try {
      return await session.owner(path)
    } catch (error) {
      unlessGone(error)
      return 0n
    }
  }

  async #makeParents(session: ZkSession): Promise<void> {
    const parts = this.#parent.split('/').slice(1)
    for (let depth = 1; depth <= parts.length; depth++) {
      try {
        await session.create(`/${parts.slice(0, depth).join('/')}`, '', false)
      } catch (error) {
        if (!(error instanceof ZkError) || error.code !== NODE_EXISTS) throw error
      }
    }
  }
}

function unlessGone(error: unknown): void {
  if (!(error instanceof ZkError) || error.code !== NO_NODE) throw error
}
