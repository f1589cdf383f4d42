/**
 * Which Service has which addresses: what it has already, what it asks for, else the first free one. Pure and the
 * same for the same objects, so that several directors come to the same without asking each other.
 */
import { familyOf, parseAddress } from '../../../net/address.ts'
import type { KubeService } from './objects.ts'
import { type AddressRange, addressNumber, addressText } from './settings.ts'

/** Addresses that it asks for by itself, several with commas: one of each family. */
export const ANNOTATION = 'pointsman.dev/addresses'

export type Given =
  | { readonly addresses: readonly string[] }
  /** Why it has none. */
  | { readonly refused: string }

const familyNumber = (family: 'IPv4' | 'IPv6'): 4 | 6 => (family === 'IPv4' ? 4 : 6)

export function wantedAddresses({ meta, loadBalancerIp }: KubeService): readonly string[] {
  const annotated = (meta.annotations[ANNOTATION] ?? '').split(',').map((one) => one.trim())
  const asked = annotated.some(Boolean) ? annotated : [loadBalancerIp ?? '']
  return asked.filter(Boolean)
}

const keyOf = ({ meta }: KubeService): string => `${meta.namespace}/${meta.name}`

/**
 * @param services those that are ours
 * @param askable what they may ask for, besides the ranges: whoever may make a Service is not to take any address
 */
export function giveAddresses(
  services: readonly KubeService[],
  ranges: readonly AddressRange[],
  askable: readonly AddressRange[] = [],
): ReadonlyMap<string, Given> {
  const given = new Map<string, Given>()
  /** Ports in use of an address, with whose they are. */
  const taken = new Map<string, Map<string, string>>()
  const portsOf = ({ ports }: KubeService): string[] =>
    ports.map(({ protocol, port }) => `${protocol} ${port}`)
  const conflict = (address: string, service: KubeService): string | null => {
    const used = taken.get(address)
    const port = portsOf(service).find((one) => used?.has(one))
    return port === undefined ? null : `${address} ${port} belongs to ${used!.get(port)}`
  }
  const take = (address: string, service: KubeService): void => {
    const used = taken.get(address) ?? new Map<string, string>()
    for (const port of portsOf(service)) used.set(port, keyOf(service))
    taken.set(address, used)
  }
  const oldestFirst = [...services].sort(
    (a, b) =>
      a.meta.creationTimestamp.localeCompare(b.meta.creationTimestamp) ||
      a.meta.uid.localeCompare(b.meta.uid),
  )
  const rest: KubeService[] = []
  for (const service of oldestFirst) {
    const asked = wantedAddresses(service)
    if (asked.length === 0) {
      rest.push(service)
      continue
    }
    const parsed = asked.map((text) => parseAddress(text))
    const bad = asked.find((_, index) => parsed[index] === null)
    const strange = parsed.find((one) => one !== null && !isIn(one, [...ranges, ...askable]))
    const clash = parsed.flatMap((one) => (one === null ? [] : (conflict(one, service) ?? [])))[0]
    if (bad !== undefined) given.set(keyOf(service), { refused: `"${bad}" is no address` })
    else if (strange != null) {
      const message = `${strange} is none of this director's: let it be asked for by asked_addresses in the file that pointsmand --kubernetes names`
      given.set(keyOf(service), { refused: message })
    } else if (clash !== undefined) given.set(keyOf(service), { refused: clash })
    else {
      const addresses = parsed.filter((one) => one !== null)
      for (const address of addresses) take(address, service)
      given.set(keyOf(service), { addresses })
    }
  }
  // Those that have one keep it, before anybody else is given one.
  const without: [KubeService, string[]][] = []
  for (const service of rest) {
    const kept = service.ingress.flatMap((text) => {
      const address = parseAddress(text)
      const fits = address !== null && isIn(address, ranges) && !taken.has(address)
      return fits && service.families.some((one) => familyNumber(one) === familyOf(address)) ? [address] : []
    })
    for (const address of kept) take(address, service)
    without.push([service, kept])
  }
  const cursors = new Map<AddressRange, bigint>()
  for (const [service, kept] of without) {
    const addresses = [...kept]
    let missing: string | null = null
    for (const family of service.families) {
      const number = familyNumber(family)
      if (addresses.some((one) => familyOf(parseAddress(one)!) === number)) continue
      const free = freeAddress(ranges, number, taken, cursors)
      if (free === null) missing = `no ${family} address is left`
      else {
        take(free, service)
        addresses.push(free)
      }
    }
    given.set(
      keyOf(service),
      missing !== null && addresses.length === 0 ? { refused: missing } : { addresses },
    )
  }
  return given
}

function isIn(address: string, ranges: readonly AddressRange[]): boolean {
  const value = addressNumber(address)!
  const family = familyOf(parseAddress(address)!)
  return ranges.some((one) => one.family === family && value >= one.first && value <= one.last)
}

function freeAddress(
  ranges: readonly AddressRange[],
  family: 4 | 6,
  taken: ReadonlyMap<string, unknown>,
  cursors: Map<AddressRange, bigint>,
): string | null {
  for (const range of ranges) {
    if (range.family !== family) continue
    for (let value = cursors.get(range) ?? range.first; value <= range.last; value++) {
      const text = addressText(value, family)
      cursors.set(range, value + 1n)
      if (!taken.has(text)) return text
    }
  }
  return null
}
