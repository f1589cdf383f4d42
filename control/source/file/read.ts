/** A site from its files: everything is read, and everything that is wrong is said at once. */

import { basename, dirname, isAbsolute, join, resolve } from 'node:path'
import type { z } from 'zod'
import { parseAddress } from '../../../net/address.ts'
import type { FullNatRequest } from '../../model/full-nat.ts'
import { serviceKey, serviceText } from '../../model/identity.ts'
import type { FollowedPool, RegistryAddress } from '../../model/pool.ts'
import {
  type Complaint,
  type DirectorSettings,
  NO_DIRECTOR_SETTINGS,
  type Place,
  placeText,
  type Site,
  type SitePool,
  type SiteService,
} from '../../model/site.ts'
import { checkSysctl } from '../../model/sysctls.ts'
import type { Member } from '../../registry/registry.ts'
import { MarkedOnce, resolveFilters, resolveMark } from './gate.ts'
import { type Complain, findings, quoted } from './issues.ts'
import { type FollowedDocument, followedPool, registryAddress } from './registries.ts'
import { groupOf, type Names, Pool, resolveService, unknown } from './resolve.ts'
import {
  type CheckDocument,
  fileHead,
  type PoolDocument,
  parseDuration,
  parsePorts,
  poolFile,
  type ServerDocument,
  type SiteDocument,
  service,
  siteFile,
} from './schema.ts'
import { Memory, readText, type TextDocument } from './text.ts'

/** Where texts come from; throws the system's errors. */
export interface Files {
  /** @param watched it is looked at again by itself whenever it changes */
  read(path: string, watched?: boolean): string
  /** Names in a folder. */
  list(folder: string): readonly string[]
  /** What a registry has; null: nothing is known yet. Absent where nobody is to be asked. */
  follow?(pool: FollowedPool): readonly Member[] | null
}

export interface Reading {
  /** null: something is wrong, and nothing of it is to be taken. */
  readonly site: Site | null
  readonly complaints: readonly Complaint[]
}

const FILES_MAX = 1000
/** Of a text that is wrong from top to bottom. */
const COMPLAINTS_MAX = 200

type Path = readonly PropertyKey[]
type Head = z.output<typeof fileHead>

/** One file, as far as it could be read. */
interface Source {
  readonly file: string
  readonly document: TextDocument
  readonly head: Head
}

/** Reads the file and all that it names. */
export function readSite(path: string, files: Files, memory: Memory = new Memory()): Reading {
  return new Reader(files, memory).read(resolve(path))
}

class Reader {
  readonly #files: Files
  readonly #memory: Memory
  readonly #complaints: Complaint[] = []
  /** Something outside of services is wrong, perhaps a misspelt `checks`. */
  #incomplete = false
  readonly #read = new Set<string>()
  readonly #watched = new Set<string>()
  readonly #checks = new Map<string, CheckDocument>()
  readonly #pools = new Map<string, Pool>()
  readonly #registries = new Map<string, RegistryAddress>()
  readonly #followed: SitePool[] = []

  constructor(files: Files, memory: Memory) {
    this.#files = files
    this.#memory = memory
  }

  read(path: string): Reading {
    const sources: Source[] = []
    this.#open(path, { file: path, line: 1, column: 1 }, sources)
    for (const source of sources) this.#registriesOf(source)
    for (const source of sources) this.#names(source)
    const services: SiteService[] = []
    const known = new Map<string, SiteService>()
    for (const source of sources) this.#services(source, services, known)
    const director = this.#director(sources)
    const gate = { filters: this.#filters(sources), marks: this.#marks(sources) }
    this.#memory.keepOnly(this.#read)
    const failed = this.#complaints.some(({ severity }) => severity === 'error')
    const complaints = this.#complaints.slice(0, COMPLAINTS_MAX)
    if (failed) return { site: null, complaints }
    const files = { files: [...this.#read], watched: [...this.#watched] }
    return { site: { services, director, ...gate, ...files, followed: this.#followed }, complaints }
  }

  #complain(at: Place, message: string): void {
    this.#complaints.push({ at, message, severity: 'error' })
  }

  #complainer({ file, document }: Source, above: Path = []): Complain {
    return (path, message) => {
      this.#complain({ file, ...document.place([...above, ...path]) }, message)
    }
  }

  #text(path: string, at: Place): string | null {
    try {
      return this.#files.read(path, this.#watched.has(path))
    } catch (error) {
      this.#complain(at, `Cannot read "${path}": ${error instanceof Error ? error.message : error}`)
      return null
    }
  }

  #parse(path: string, at: Place): TextDocument | null {
    this.#read.add(path)
    const text = this.#text(path, at)
    if (text === null) return null
    const document = readText(text, this.#memory, path)
    for (const { line, column, message } of document.errors) {
      this.#complain({ file: path, line, column }, message)
    }
    return document.errors.length > 0 ? null : document
  }

  /** @param at who names the file */
  #open(path: string, at: Place, sources: Source[]): void {
    if (this.#read.has(path)) {
      this.#complain(at, `"${path}" is included twice`)
      return
    }
    if (this.#read.size >= FILES_MAX) {
      this.#complain(at, `More than ${FILES_MAX} files are included`)
      return
    }
    const document = this.#parse(path, at)
    if (document === null) return
    // An empty text is a file that says nothing yet.
    const value = document.value ?? {}
    const head = fileHead.safeParse(value)
    if (!head.success) {
      for (const { path: where, message, key } of findings(head.error, siteFile, value)) {
        this.#complain({ file: path, ...document.place(where, key) }, message)
      }
      this.#incomplete = true
    }
    const source = { file: path, document, head: head.success ? head.data : headOf(value) }
    sources.push(source)
    const { include = [] } = source.head
    const several = Array.isArray(include)
    for (const [index, pattern] of (several ? include : [include]).entries()) {
      const place = { file: path, ...document.place(several ? ['include', index] : ['include']) }
      for (const name of this.#matching(pattern, path, place)) this.#open(name, place, sources)
    }
  }

  /** Files of a pattern in the order of their names; one without wildcards has to be there. */
  #matching(pattern: string, from: string, at: Place): readonly string[] {
    const path = isAbsolute(pattern) ? pattern : join(dirname(from), pattern)
    const last = basename(path)
    if (!/[*?]/.test(last)) return [path]
    const escaped = last.replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
    const wanted = new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`)
    try {
      return this.#files
        .list(dirname(path))
        .filter((name) => wanted.test(name) && !name.startsWith('.'))
        .sort()
        .map((name) => join(dirname(path), name))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      this.#complain(at, `Cannot read "${dirname(path)}": ${error instanceof Error ? error.message : error}`)
      return []
    }
  }

  #registriesOf(source: Source): void {
    for (const [name, registry] of Object.entries(source.head.registries ?? {})) {
      if (this.#registries.has(name)) {
        this.#complainer(source)(['registries', name], `Registry "${name}" is stated twice`)
      }
      const address = registryAddress(registry, (file) => besides(source.file, file))
      this.#registries.set(name, address)
    }
  }

  /** What services of any file may name. */
  #names(source: Source): void {
    const complain = this.#complainer(source)
    for (const [name, check] of Object.entries(source.head.checks ?? {})) {
      if (this.#checks.has(name)) complain(['checks', name], `Check "${name}" is stated twice`)
      this.#checks.set(name, check)
    }
    for (const [name, pool] of Object.entries(source.head.pools ?? {})) {
      if (this.#pools.has(name)) complain(['pools', name], `Pool "${name}" is stated twice`)
      this.#pools.set(name, this.#pool(name, pool, source))
    }
  }

  #pool(name: string, pool: PoolDocument, source: Source): Pool {
    const path = ['pools', name]
    if ('registry' in pool) {
      const { registry, name: entry, max_removal, allow_empty, ...settings } = pool
      const followed = { registry, name: entry, max_removal, allow_empty }
      const members = this.#follow(name, followed, this.#complainer(source, [...path, 'registry']))
      const documents = members.map(({ address, weight }) =>
        weight === null ? { ...settings, address } : { ...settings, address, weight },
      )
      return new Pool(documents, true)
    }
    if ('file' in pool) return new Pool(this.#fromFile(pool, source, path), false)
    const { servers, ...settings } = pool
    const documents = servers.map((own) => ({
      ...settings,
      ...(typeof own === 'string' ? { address: own } : own),
    }))
    return new Pool(documents, false)
  }

  #follow(pool: string, document: FollowedDocument, complain: Complain): readonly Member[] {
    const address = this.#registries.get(document.registry)
    if (address === undefined) {
      complain([], unknown('registry', document.registry, this.#registries.keys()))
      return []
    }
    const followed = followedPool(document, address)
    const members = this.#files.follow?.(followed) ?? null
    this.#followed.push({ pool, known: members !== null, ...followed })
    return members ?? []
  }

  #fromFile(
    { file, ...settings }: PoolDocument & { readonly file: string },
    source: Source,
    path: Path,
  ): readonly ServerDocument[] {
    const name = besides(source.file, file)
    this.#watched.add(name)
    const document = this.#parse(name, { file: source.file, ...source.document.place([...path, 'file']) })
    if (document === null) return []
    if (document.value === null || document.value === undefined) {
      this.#complain({ file: name, line: 1, column: 1 }, 'Empty: a pool of nobody is written []')
      return []
    }
    const parsed = poolFile.safeParse(document.value)
    if (!parsed.success) {
      for (const { path: where, message, key } of findings(parsed.error, poolFile, document.value)) {
        this.#complain({ file: name, ...document.place(where, key) }, message)
      }
      return []
    }
    return parsed.data.flatMap((one): ServerDocument[] => {
      if (typeof one === 'string') return [{ ...settings, address: one }]
      if ('address' in one) return [{ ...settings, ...one }]
      const weight = Number(one.labels?.weight ?? Number.NaN)
      const own = Number.isInteger(weight) && weight >= 0 ? { weight } : {}
      return one.targets.map((address) => ({ ...settings, ...own, address }))
    })
  }

  #services(source: Source, services: SiteService[], taken: Map<string, SiteService>): void {
    const { file, document, head } = source
    const names: Names = {
      checks: this.#checks,
      pools: this.#pools,
      defaults: head.defaults ?? {},
      resolvePath: (path) => besides(file, path),
    }
    const {
      services: _,
      pools: _own,
      registries: _all,
      deny: _deny,
      allow: _allow,
      marks: _marks,
      ...context
    } = head
    const common = JSON.stringify([file, context, [...this.#checks], [...this.#pools.keys()]])
    for (const [index, value] of (head.services ?? []).entries()) {
      const path = ['services', index]
      const from = [common, ...this.#poolTexts(value)]
      const known = this.#known(value, from)
      if (known !== null) {
        this.#add({ ...known, at: { file, ...document.place(path) } }, services, taken)
        continue
      }
      const parsed = service.safeParse(value)
      if (!parsed.success) {
        for (const { path: where, message, key } of findings(parsed.error, service, value)) {
          this.#complain({ file, ...document.place([...path, ...where], key) }, message)
        }
        continue
      }
      // What it names may stand in what is wrong.
      if (this.#incomplete) continue
      const at = { file, ...document.place(path) }
      const before = this.#complaints.length
      const made = resolveService(parsed.data, at, names, this.#complainer(source, path))
      if (made === null) continue
      if (this.#complaints.length === before)
        this.#memory.services.set(Object(value), { from, service: made })
      this.#add(made, services, taken)
    }
  }

  /** Of the pools that a service names: the others are nothing to it. */
  #poolTexts(value: unknown): string[] {
    const names: unknown = typeof value === 'object' && value !== null ? Reflect.get(value, 'pools') : null
    return Array.isArray(names) ? names.map((name) => this.#pools.get(String(name))?.text ?? '') : []
  }

  /** What the same words came to the last time, among the same others. */
  #known(value: unknown, from: readonly string[]): SiteService | null {
    const known = typeof value === 'object' && value !== null ? this.#memory.services.get(value) : undefined
    const same = known?.from.length === from.length && known.from.every((text, index) => text === from[index])
    return known !== undefined && same ? known.service : null
  }

  #add(made: SiteService, services: SiteService[], taken: Map<string, SiteService>): void {
    const key = serviceKey(made.service.id)
    const other = taken.get(key)
    if (other === undefined) {
      taken.set(key, made)
      services.push(made)
      return
    }
    const where = placeText(other.at)
    this.#complain(made.at, `Service "${serviceText(made.service.id)}" is stated twice, first at ${where}`)
  }

  #filters(sources: readonly Source[]): Site['filters'] {
    const seen = new Set<string>()
    return sources.flatMap((source) =>
      resolveFilters(source.head, null, this.#complainer(source), seen).map(({ filter, path }) => ({
        ...filter,
        at: { file: source.file, ...source.document.place(path) },
      })),
    )
  }

  #marks(sources: readonly Source[]): Site['marks'] {
    const once = new MarkedOnce()
    return sources.flatMap((source) =>
      (source.head.marks ?? []).flatMap((document, index) => {
        const path = ['marks', index]
        const complain = this.#complainer(source, path)
        const at = { file: source.file, ...source.document.place(path) }
        return resolveMark(document, complain).map((rule) => {
          once.add(rule, complain)
          return { ...rule, at }
        })
      }),
    )
  }

  #director(sources: readonly Source[]): DirectorSettings {
    const [first, ...others] = sources
    for (const other of others) {
      if (other.head.director !== undefined) {
        const main = first!.file
        this.#complainer(other)(['director'], `What is about the director itself belongs in ${main}`)
      }
    }
    const document = first?.head.director
    if (first === undefined || document === undefined) return NO_DIRECTOR_SETTINGS
    return directorSettings(document, this.#complainer(first, ['director']))
  }
}

/** A path as the file means it that names it. */
function besides(file: string, path: string): string {
  return isAbsolute(path) ? path : join(dirname(file), path)
}

/** Of a text that is wrong, what is right: the rest of what is wrong is said at once, too. */
function headOf(value: unknown): Head {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return {}
  const right: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries(fileHead.shape)) {
    const parsed = schema.safeParse(Reflect.get(value, name))
    if (parsed.success && parsed.data !== undefined) right[name] = parsed.data
  }
  return fileHead.parse(right)
}

function directorSettings(
  document: NonNullable<SiteDocument['director']>,
  complain: Complain,
): DirectorSettings {
  const { interfaces = [], timeouts, sysctls = {}, sync = [], full_nat } = document
  const seconds = (value: string | number | undefined): number =>
    value === undefined ? 0 : Math.round((parseDuration(value) ?? 0) / 1000)
  for (const [name, value] of Object.entries(sysctls)) {
    const outcome = checkSysctl(name, value)
    if (!outcome.ok) complain(['sysctls', name], outcome.message)
  }
  const states = new Set<string>()
  const daemons = sync.map(({ state, interface: nic, sync_id, max_length, group, port, ttl }, index) => {
    if (states.has(state)) complain(['sync', index, 'state'], `There can be one ${state} only`)
    states.add(state)
    const multicast = groupOf(group)
    if (multicast === null) {
      complain(['sync', index, 'group'], `Expected a multicast address, got ${quoted(group)}`)
    }
    return {
      state,
      interface: nic,
      syncId: sync_id ?? 0,
      maxLength: max_length,
      group: multicast ?? undefined,
      port,
      ttl,
    }
  })
  return {
    interfaces,
    timeouts:
      timeouts === undefined
        ? null
        : { tcp: seconds(timeouts.tcp), tcpFin: seconds(timeouts.tcp_fin), udp: seconds(timeouts.udp) },
    sysctls,
    daemons,
    fullNat: full_nat === undefined ? null : full_nat.flatMap(fullNatRequest),
  }
}

function fullNatRequest(
  document: string | { readonly address: string; readonly ports: string },
): FullNatRequest[] {
  const { address: text, ports = null } = typeof document === 'string' ? { address: document } : document
  const address = parseAddress(text)
  if (address === null) return []
  return [{ address, ports: (ports === null ? null : parsePorts(ports)) ?? undefined }]
}
