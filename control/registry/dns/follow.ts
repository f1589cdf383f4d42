/**
 * A name in the domain name system: SRV records with the addresses of their targets if it begins with an
 * underscore, else its addresses. Asked again whenever the answer is no longer to be believed.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer } from 'dns-packet'
import type { RegistryAddress } from '../../model/pool.ts'
import { memberAt } from '../entry.ts'
import { ENTRIES_MAX, type Entry, type Follower, type Heard } from '../registry.ts'
import { askServer, type DnsAnswer, placeOf, type RecordType } from './ask.ts'

/** 0 is a time to live, too. */
const TTL_S_MIN = 1
const TTL_S_MAX = 300
/** Of all servers, before the name counts as away. */
const ROUNDS = 2
/** Targets of one answer that are looked up at the same time. */
const PARALLEL = 16
const RESOLV_CONF = '/etc/resolv.conf'

export class DnsFollower implements Follower {
  readonly #address: RegistryAddress
  readonly #name: string
  #server = 0

  constructor(address: RegistryAddress, name: string) {
    this.#address = address
    this.#name = name.replace(/\.$/, '')
  }

  async attempt(report: (heard: Heard) => void, signal: AbortSignal): Promise<never> {
    for (;;) {
      const { entries, ttlS } = this.#name.startsWith('_')
        ? await this.#services(signal)
        : await this.#addresses(this.#name, null, null, signal)
      report({ kind: 'whole', entries })
      const seconds = Math.min(TTL_S_MAX, Math.max(TTL_S_MIN, ttlS))
      await sleep(seconds * 1000, undefined, { signal })
    }
  }

  /** The servers in turn; the one that answered is asked first the next time. */
  async #ask(name: string, type: RecordType, signal: AbortSignal): Promise<DnsAnswer> {
    const servers = this.#address.endpoints.length > 0 ? this.#address.endpoints : resolvConf()
    let failure: unknown = new Error(`There is no name server in ${RESOLV_CONF}`)
    for (let tries = 0; tries < servers.length * ROUNDS; tries++) {
      signal.throwIfAborted()
      try {
        return await askServer(placeOf(servers[this.#server % servers.length]!), name, type, signal)
      } catch (error) {
        failure = error
        this.#server++
      }
    }
    throw failure
  }

  async #addresses(
    name: string,
    port: number | null,
    weight: number | null,
    signal: AbortSignal,
  ): Promise<{ readonly entries: Map<string, Entry>; readonly ttlS: number }> {
    const [four, six] = await Promise.all([this.#ask(name, 'A', signal), this.#ask(name, 'AAAA', signal)])
    const entries = new Map<string, Entry>()
    for (const record of [...four.answers, ...six.answers]) addressEntry(entries, record, name, port, weight)
    // A name without one of the families says nothing about the other.
    const known = [four, six].filter(({ empty }) => !empty)
    const ttls = (known.length > 0 ? known : [four, six]).map(({ ttlS }) => ttlS)
    return { entries, ttlS: Math.min(...ttls) }
  }

  async #services(
    signal: AbortSignal,
  ): Promise<{ readonly entries: Map<string, Entry>; readonly ttlS: number }> {
    const answer = await this.#ask(this.#name, 'SRV', signal)
    const records = answer.answers.flatMap((record) => (record.type === 'SRV' ? [record.data] : []))
    // RFC 2782: the others are for when none of the first ones is there.
    const first = Math.min(...records.map(({ priority }) => priority ?? 0))
    const chosen = records
      .filter(({ priority, target }) => (priority ?? 0) === first && target !== '.' && target !== '')
      .slice(0, ENTRIES_MAX)
    const weighed = chosen.some(({ weight }) => (weight ?? 0) > 0)
    const entries = new Map<string, Entry>()
    let { ttlS } = answer
    for (let n = 0; n < chosen.length; n += PARALLEL) {
      const found = await Promise.all(
        chosen.slice(n, n + PARALLEL).map(async ({ target, port, weight }) => {
          const share = weighed ? Math.max(1, weight ?? 0) : null
          const beside = new Map<string, Entry>()
          for (const record of answer.additionals) {
            if (sameName(record.name, target)) addressEntry(beside, record, target, port, share)
          }
          if (beside.size > 0) return { entries: beside, ttlS: ttlOf(answer.additionals, target) }
          return await this.#addresses(target, port, share, signal)
        }),
      )
      for (const one of found) {
        for (const [key, entry] of one.entries) entries.set(key, entry)
        ttlS = Math.min(ttlS, one.ttlS)
      }
    }
    return { entries, ttlS }
  }
}

function sameName(one: string, other: string): boolean {
  return one.replace(/\.$/, '').toLowerCase() === other.replace(/\.$/, '').toLowerCase()
}

function addressEntry(
  entries: Map<string, Entry>,
  record: Answer,
  name: string,
  port: number | null,
  weight: number | null,
): void {
  if (record.type !== 'A' && record.type !== 'AAAA') return
  entries.set(`${name} ${record.data}${port === null ? '' : ` ${port}`}`, memberAt(record.data, port, weight))
}

function ttlOf(records: readonly Answer[], name: string): number {
  const ttls = records.flatMap((record) =>
    (record.type === 'A' || record.type === 'AAAA') && sameName(record.name, name) ? [record.ttl ?? 0] : [],
  )
  return Math.min(TTL_S_MAX, ...ttls)
}

function resolvConf(): readonly string[] {
  let text = ''
  try {
    text = readFileSync(RESOLV_CONF, 'utf8')
  } catch {
    return []
  }
  return text.split('\n').flatMap((line) => {
    const [word, server] = line.trim().split(/\s+/)
    if (word !== 'nameserver' || server === undefined) return []
    return [server.includes(':') ? `[${server}]:53` : `${server}:53`]
  })
}
