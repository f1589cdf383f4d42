/**
 * The domain name system, asked for hosts that /etc/hosts does not know.
 *
 * By c-ares, which Node brings along, and not by getaddrinfo: that waits in the four threads the whole
 * process has for such things, as long as resolv.conf says, and cannot be called off. What it would add are
 * sources of nsswitch.conf other than `files` and `dns`; its search list is kept here.
 */
import { promises as dns } from 'node:dns'
import { readFileSync } from 'node:fs'
import type { IpAddress } from '../../../net/address.ts'
import { parseIpv4 } from '../../../net/address.ts'

/** The part that may have to wait for the network; questions end with null for "no such". */
export interface Resolver {
  address(name: string): Promise<IpAddress | null>
  name(address: IpAddress): Promise<string | null>
  /** Gives up what it has been asked. */
  cancel(): void
}

/** How resolv.conf(5) completes a name. */
interface Search {
  readonly domains: readonly string[]
  /** A name with this many dots is tried as it is first. */
  readonly ndots: number
}

export function parseSearch(text: string): Search {
  let domains: readonly string[] = []
  let ndots = 1
  for (const line of text.split('\n')) {
    const [word, ...rest] = line.trim().split(/[ \t]+/)
    // The last of them counts.
    if (word === 'search' || word === 'domain') domains = rest
    if (word !== 'options') continue
    for (const option of rest) {
      const match = /^ndots:(\d{1,2})$/.exec(option)
      if (match !== null) ndots = Math.min(Number(match[1]), 15)
    }
  }
  return { domains, ndots }
}

/** The names to ask for, in order. */
export function candidates(name: string, { domains, ndots }: Search): string[] {
  if (name.endsWith('.')) return [name.slice(0, -1)]
  const completed = domains.map((domain) => `${name}.${domain.replace(/\.$/, '')}`)
  return name.split('.').length > ndots ? [name, ...completed] : [...completed, name]
}

/** What resolvers can be asked for; anything else is answered without asking the network. */
const HOST_NAME = /^[A-Za-z0-9._-]{1,253}$/
/** For one server, then the next; a question is asked twice, in case a datagram was lost. */
const ANSWER_TIMEOUT_MS = 1500
const TRIES = 2

/** Codes that mean "there is no such", so that the next candidate is tried. */
const NO_SUCH = new Set(['ENOTFOUND', 'ENODATA', 'EBADNAME'])

export interface DnsOptions {
  /** Instead of those in resolv.conf. */
  readonly servers?: readonly string[]
  readonly resolvConf?: string
}

/** For one command: it reads resolv.conf as it is now. */
export function dnsResolver({ servers, resolvConf = '/etc/resolv.conf' }: DnsOptions = {}): Resolver {
  const resolver = new dns.Resolver({ timeout: ANSWER_TIMEOUT_MS, tries: TRIES })
  if (servers !== undefined) resolver.setServers(servers)
  let search: Search | null = null
  return {
    async address(name) {
      if (!HOST_NAME.test(name)) return null
      search ??= parseSearch(textOf(resolvConf))
      for (const candidate of candidates(name, search)) {
        try {
          const [first] = await resolver.resolve4(candidate)
          if (first !== undefined) return parseIpv4(first)
        } catch (error) {
          if (!NO_SUCH.has(codeOf(error))) return null
        }
      }
      return null
    },
    async name(address) {
      try {
        return (await resolver.reverse(address))[0] ?? null
      } catch {
        return null
      }
    },
    cancel: () => resolver.cancel(),
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
