/**
 * Names of hosts and services, both ways.
 *
 * `/etc/hosts` and `/etc/services` are read here, as glibc's `files` reads them, because a restore may ask
 * a hundred thousand times. Hosts that are not in the file are left to a resolver, which waits for the
 * network: such a question is answered with "none" at first and counted as pending; whoever asked then calls
 * `resolve` and asks everything again. Asking must therefore have no effects.
 *
 * A command gets so much time for all its names, and not more than its client has: what is not known then
 * has no name, or no address. What was not found is not asked for again for a little while, so that a
 * resolver that does not answer costs its time once, not with every command.
 *
 * Text is bytes as latin1, like everything on an ipvsadm command line.
 */
import { readFileSync, statSync } from 'node:fs'
import type { IpAddress } from '../../../net/address.ts'
import { ipv4FromNumber, parseAddress, parseIpv4 } from '../../../net/address.ts'
import type { Protocol } from '../../../net/protocol.ts'
import { dnsResolver, type Resolver } from './resolver.ts'

export interface Names {
  /** First IPv4 address of a host. */
  hostAddress(name: string): IpAddress | null
  hostName(address: IpAddress): string | null
  servicePort(name: string, protocol: Protocol): number | null
  serviceName(port: number, protocol: Protocol): string | null
  /** Questions that wait for `resolve`. */
  readonly pending: number
  /** Ends in bounded time; afterwards nothing is pending. */
  resolve(): Promise<void>
}

interface Hosts {
  readonly addresses: ReadonlyMap<string, IpAddress>
  readonly names: ReadonlyMap<IpAddress, string>
}

interface Services {
  readonly ports: ReadonlyMap<string, number>
  readonly names: ReadonlyMap<string, string>
}

const BLANKS = /[ \t\r\f\v]+/

function lines(text: string): string[][] {
  return text.split('\n').flatMap((line) => {
    const hash = line.indexOf('#')
    const words = (hash < 0 ? line : line.slice(0, hash)).split(BLANKS).filter((word) => word !== '')
    return words.length < 2 ? [] : [words]
  })
}

const MAPPED = '::ffff:'
const LOOPBACK = ipv4FromNumber(0x7f000001)

/** What an address in /etc/hosts means to someone who asks for IPv4, in glibc's eyes. */
function asIpv4(address: IpAddress): IpAddress | null {
  if (!address.includes(':')) return address
  if (address === '::1') return LOOPBACK
  return address.startsWith(MAPPED) ? parseIpv4(address.slice(MAPPED.length)) : null
}

export function parseHosts(text: string): Hosts {
  const addresses = new Map<string, IpAddress>()
  const names = new Map<IpAddress, string>()
  for (const [first, ...hosts] of lines(text)) {
    const address = parseAddress(first!)
    if (address === null) continue
    if (!names.has(address)) names.set(address, hosts[0]!)
    const ipv4 = asIpv4(address)
    if (ipv4 === null) continue
    if (!names.has(ipv4)) names.set(ipv4, hosts[0]!)
    for (const host of hosts) {
      const key = host.toLowerCase()
      if (!addresses.has(key)) addresses.set(key, ipv4)
    }
  }
  return { addresses, names }
}

export function parseServices(text: string): Services {
  const ports = new Map<string, number>()
  const names = new Map<string, string>()
  for (const [name, where, ...aliases] of lines(text)) {
    const match = /^([0-9]+)\/(\w+)$/.exec(where!)
    if (match === null) continue
    const port = Number(match[1])
    const protocol = match[2]!
    const key = `${port}/${protocol}`
    if (!names.has(key)) names.set(key, name!)
    for (const alias of [name!, ...aliases]) {
      if (!ports.has(`${alias}/${protocol}`)) ports.set(`${alias}/${protocol}`, port)
    }
  }
  return { ports, names }
}

/** A file that is read again when it has changed. */
function watched<T>(path: string, parse: (text: string) => T): () => T {
  let stamp = ''
  let value = parse('')
  return () => {
    let now = 'absent'
    try {
      const { mtimeMs, size, ino } = statSync(path)
      now = `${mtimeMs} ${size} ${ino}`
    } catch {
      // No such file: nothing has a name.
    }
    if (now !== stamp) {
      value = parse(now === 'absent' ? '' : readFileSync(path, 'latin1'))
      stamp = now
    }
    return value
  }
}

/** For all names of a command together. */
const DEADLINE_MS = 5000
/** How long "not found" holds. */
const UNKNOWN_MS = 10_000
/** More than this many are not remembered; a listing of connections may ask about every client. */
const UNKNOWN_MAX = 10_000
/** Questions a command has under way at once. */
const QUESTIONS_AT_ONCE = 64

/** What nobody could tell a moment ago. */
class Unknown {
  readonly #sinceMs = new Map<string, number>()

  has(question: string): boolean {
    const sinceMs = this.#sinceMs.get(question)
    if (sinceMs === undefined) return false
    if (performance.now() - sinceMs < UNKNOWN_MS) return true
    this.#sinceMs.delete(question)
    return false
  }

  add(question: string): void {
    this.#sinceMs.delete(question)
    this.#sinceMs.set(question, performance.now())
    // A map remembers in which order: the oldest goes.
    for (const oldest of this.#sinceMs.keys()) {
      if (this.#sinceMs.size <= UNKNOWN_MAX) return
      this.#sinceMs.delete(oldest)
    }
  }
}

interface Asking {
  /** Null: nobody is asked. */
  readonly resolver: (() => Resolver) | null
  readonly unknown: Unknown
  readonly deadlineMs: number
  readonly signal?: AbortSignal
}

class AskingNames implements Names {
  readonly #hosts: Hosts
  readonly #services: Services
  readonly #asking: Asking
  readonly #addresses = new Map<string, IpAddress | null>()
  readonly #names = new Map<IpAddress, string | null>()
  readonly #asked = new Map<string, (resolver: Resolver) => Promise<boolean>>()
  /** When the time for questions is over; it starts with the first one. */
  #endMs: number | null = null

  constructor(hosts: Hosts, services: Services, asking: Asking) {
    this.#hosts = hosts
    this.#services = services
    this.#asking = asking
  }

  get pending(): number {
    return this.#asked.size
  }

  hostAddress(name: string): IpAddress | null {
    const known = this.#hosts.addresses.get(name.toLowerCase()) ?? this.#addresses.get(name)
    if (known !== undefined) return known
    this.#ask(`name ${name}`, async (resolver) => {
      const found = await resolver.address(name)
      this.#addresses.set(name, found)
      return found !== null
    })
    return null
  }

  hostName(address: IpAddress): string | null {
    const known = this.#hosts.names.get(address) ?? this.#names.get(address)
    if (known !== undefined) return known
    this.#ask(`address ${address}`, async (resolver) => {
      const found = await resolver.name(address)
      this.#names.set(address, found)
      return found !== null
    })
    return null
  }

  servicePort(name: string, protocol: Protocol): number | null {
    return this.#services.ports.get(`${name}/${protocol}`) ?? null
  }

  serviceName(port: number, protocol: Protocol): string | null {
    return this.#services.names.get(`${port}/${protocol}`) ?? null
  }

  #ask(question: string, put: (resolver: Resolver) => Promise<boolean>): void {
    const { resolver, unknown } = this.#asking
    if (resolver !== null && this.#leftMs() > 0 && !unknown.has(question)) this.#asked.set(question, put)
  }

  #leftMs(): number {
    if (this.#asking.signal?.aborted === true) return 0
    return this.#endMs === null ? this.#asking.deadlineMs : this.#endMs - performance.now()
  }

  async resolve(): Promise<void> {
    const questions = [...this.#asked]
    this.#asked.clear()
    const { resolver: make, signal, unknown } = this.#asking
    if (make === null || questions.length === 0) return
    this.#endMs ??= performance.now() + this.#asking.deadlineMs
    const resolver = make()
    const open = new Set(questions.map(([question]) => question))
    let next = 0
    const worker = async (): Promise<void> => {
      while (next < questions.length && this.#leftMs() > 0) {
        const [question, put] = questions[next++]!
        if (await put(resolver)) open.delete(question)
      }
    }
    await bounded(this.#leftMs(), signal, Promise.all(Array.from({ length: QUESTIONS_AT_ONCE }, worker)))
    resolver.cancel()
    // A client that goes away says nothing of the names it asked for.
    if (signal?.aborted !== true) for (const question of open) unknown.add(question)
  }
}

/** Waits for the work, the time limit or the signal, whichever comes first. */
function bounded(limitMs: number, signal: AbortSignal | undefined, work: Promise<unknown>): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, Math.max(0, limitMs))
    signal?.addEventListener('abort', end)
    if (signal?.aborted === true) end()
    work.then(end, reject)
  })
}

/** Names from given texts alone: for tests, and wherever nothing may wait. */
export function namesFrom(hosts: string, services: string, resolver: Resolver | null = null): Names {
  return new AskingNames(parseHosts(hosts), parseServices(services), {
    resolver: resolver === null ? null : () => resolver,
    unknown: new Unknown(),
    deadlineMs: DEADLINE_MS,
  })
}

export interface SystemNames {
  readonly hosts?: string
  readonly services?: string
  readonly resolver?: (() => Resolver) | null
  readonly deadlineMs?: number
}

/**
 * The system's names. Each call gives names for one command: they know what the files say now, and forget
 * what a resolver has found before.
 */
export function systemNames({
  hosts: hostsPath = '/etc/hosts',
  services: servicesPath = '/etc/services',
  resolver = dnsResolver,
  deadlineMs = DEADLINE_MS,
}: SystemNames = {}): (signal?: AbortSignal) => Names {
  const hosts = watched(hostsPath, parseHosts)
  const services = watched(servicesPath, parseServices)
  const unknown = new Unknown()
  return (signal) =>
    new AskingNames(hosts(), services(), {
      resolver,
      unknown,
      deadlineMs,
      ...(signal === undefined ? {} : { signal }),
    })
}
