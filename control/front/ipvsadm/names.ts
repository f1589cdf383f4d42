/**
 * Names of hosts and services, both ways.
 *
 * `/etc/hosts` and `/etc/services` are read here, as glibc's `files` reads them, because a restore may ask
 * a hundred thousand times. Hosts that are not in the file are left to the system's resolver, which may
 * wait for the network: such a question is answered with "none" at first and counted as pending; whoever
 * asked then calls `resolve` and asks everything again. Asking must therefore have no effects.
 *
 * Text is bytes as latin1, like everything on an ipvsadm command line.
 */
import { lookup, lookupService } from 'node:dns/promises'
import { readFileSync, statSync } from 'node:fs'
import type { IpAddress } from '../../../net/address.ts'
import { ipv4FromNumber, parseAddress, parseIpv4 } from '../../../net/address.ts'
import type { Protocol } from '../../../net/protocol.ts'

export interface Names {
  /** First IPv4 address of a host. */
  hostAddress(name: string): IpAddress | null
  hostName(address: IpAddress): string | null
  servicePort(name: string, protocol: Protocol): number | null
  serviceName(port: number, protocol: Protocol): string | null
  /** Questions that wait for `resolve`. */
  readonly pending: number
  resolve(): Promise<void>
}

/** The part that may have to wait for the network; both answer null for "no such". */
export interface Resolver {
  address(name: string): Promise<IpAddress | null>
  name(address: IpAddress): Promise<string | null>
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

/** What resolvers can be asked for; anything else is answered without asking the network. */
const HOST_NAME = /^[A-Za-z0-9._-]{1,253}$/

/** The system's resolver (getaddrinfo, getnameinfo), in libuv's threads. */
export const systemResolver: Resolver = {
  async address(name) {
    if (!HOST_NAME.test(name)) return null
    try {
      return parseIpv4((await lookup(name, { family: 4 })).address)
    } catch {
      return null
    }
  },
  async name(address) {
    try {
      const { hostname } = await lookupService(address, 0)
      return hostname === address ? null : hostname
    } catch {
      return null
    }
  },
}

/** Resolvers answer slowly and from a small pool of threads; more questions at once gain nothing. */
const QUESTIONS_AT_ONCE = 16

class AskingNames implements Names {
  readonly #hosts: Hosts
  readonly #services: Services
  readonly #resolver: Resolver | null
  readonly #addresses = new Map<string, IpAddress | null>()
  readonly #names = new Map<IpAddress, string | null>()
  readonly #asked = new Map<string, () => Promise<void>>()

  constructor(hosts: Hosts, services: Services, resolver: Resolver | null) {
    this.#hosts = hosts
    this.#services = services
    this.#resolver = resolver
  }

  get pending(): number {
    return this.#asked.size
  }

  hostAddress(name: string): IpAddress | null {
    const known = this.#hosts.addresses.get(name.toLowerCase()) ?? this.#addresses.get(name)
    if (known === undefined && this.#resolver !== null) {
      const resolver = this.#resolver
      this.#asked.set(`name ${name}`, async () => {
        this.#addresses.set(name, await resolver.address(name))
      })
    }
    return known ?? null
  }

  hostName(address: IpAddress): string | null {
    const known = this.#hosts.names.get(address) ?? this.#names.get(address)
    if (known === undefined && this.#resolver !== null) {
      const resolver = this.#resolver
      this.#asked.set(`address ${address}`, async () => {
        this.#names.set(address, await resolver.name(address))
      })
    }
    return known ?? null
  }

  servicePort(name: string, protocol: Protocol): number | null {
    return this.#services.ports.get(`${name}/${protocol}`) ?? null
  }

  serviceName(port: number, protocol: Protocol): string | null {
    return this.#services.names.get(`${port}/${protocol}`) ?? null
  }

  async resolve(): Promise<void> {
    const questions = [...this.#asked.values()]
    this.#asked.clear()
    let next = 0
    const worker = async (): Promise<void> => {
      while (next < questions.length) await questions[next++]!()
    }
    await Promise.all(Array.from({ length: QUESTIONS_AT_ONCE }, worker))
  }
}

/** Names from given texts alone: for tests, and wherever nothing may wait. */
export function namesFrom(hosts: string, services: string, resolver: Resolver | null = null): Names {
  return new AskingNames(parseHosts(hosts), parseServices(services), resolver)
}

/**
 * The system's names. Each call gives names that know what the files say now and forget what a resolver
 * has said before: one command, one view.
 */
export function systemNames(
  hostsPath = '/etc/hosts',
  servicesPath = '/etc/services',
  resolver: Resolver | null = systemResolver,
): () => Names {
  const hosts = watched(hostsPath, parseHosts)
  const services = watched(servicesPath, parseServices)
  return () => new AskingNames(hosts(), services(), resolver)
}
