/**
 * Names of registries, from /etc/hosts and the name servers. Not by getaddrinfo: that waits in the four threads
 * that libuv has for the whole process, as long as resolv.conf says.
 */
import { Resolver } from 'node:dns'
import { readFileSync } from 'node:fs'
import { isIP, type LookupFunction } from 'node:net'

const HOSTS = '/etc/hosts'
const TIMEOUT_MS = 2000
const TRIES = 2

interface Found {
  readonly address: string
  readonly family: number
}

export const lookupName: LookupFunction = (name, options, callback) => {
  void find(name).then(
    (all) => {
      const fitting = all.filter(({ family }) => !options.family || family === Number(options.family))
      if (fitting.length === 0) callback(new Error(`Cannot find an address of "${name}"`), '')
      else if (options.all === true) callback(null, [...fitting])
      else callback(null, fitting[0]!.address, fitting[0]!.family)
    },
    (error: Error) => callback(error, ''),
  )
}

async function find(name: string): Promise<readonly Found[]> {
  const family = isIP(name)
  if (family !== 0) return [{ address: name, family }]
  const known = fromHosts(name)
  if (known.length > 0) return known
  const resolver = new Resolver({ timeout: TIMEOUT_MS, tries: TRIES })
  const ask = (kind: 'resolve4' | 'resolve6', of: number): Promise<Found[]> =>
    new Promise((resolve) => {
      resolver[kind](name, (error, addresses) => {
        resolve(error === null ? addresses.map((address) => ({ address, family: of })) : [])
      })
    })
  return (await Promise.all([ask('resolve4', 4), ask('resolve6', 6)])).flat()
}

function fromHosts(name: string): Found[] {
  let text = ''
  try {
    text = readFileSync(HOSTS, 'utf8')
  } catch {
    // A host without the file has name servers only.
  }
  return text.split('\n').flatMap((line) => {
    const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/)
    const family = isIP(address)
    return family !== 0 && names.some((one) => one.toLowerCase() === name.toLowerCase())
      ? [{ address, family }]
      : []
  })
}
