/**
 * The rules as they are wanted, with IPVS's refusals in IPVS's order. Nothing here knows of maps or
 * packets: every change is noted (changes.ts), and whoever brings rules in force looks the notes up.
 */
import { familyOf } from '../../net/address.ts'
import { endpointText } from '../../net/endpoint.ts'
import type { Hold } from '../model/hold.ts'
import { serverKey, serviceKey, serviceText } from '../model/identity.ts'
import { INT_MAX } from '../model/limits.ts'
import type { Outcome } from '../model/outcome.ts'
import { done, refuse, success } from '../model/outcome.ts'
import type { SchedulerName } from '../model/scheduler.ts'
import { MH_TABLE_SIZE, SCHEDULERS } from '../model/scheduler.ts'
import type { RealServer, ServerId } from '../model/server.ts'
import type { ServiceId, ServiceRequest, VirtualService } from '../model/service.ts'
import type { SourceName } from '../model/source.ts'
import { needsTracking, needsTrackingFor } from '../model/untracked.ts'
import { ChangeLog } from './changes.ts'
import {
  copyEntry,
  type ServerEntry,
  type ServiceEntry,
  serverEntry,
  serviceEntry,
  stated,
} from './entries.ts'
import { HoldBook } from './holds.ts'
import { type Host, isServerAddress, localAddresses } from './host.ts'
import type { Overlays, Statement } from './layers.ts'
import { NO_OVERLAYS } from './layers.ts'
import type { Room } from './room.ts'
import { UNLIMITED } from './room.ts'
import { bindScheduler, serverAdded, serverEdited, serverRemoved, weigh } from './scheduler-state.ts'

const FLAG_BITS = 0x38

/** By the names that clients give. */
const NAMED: Readonly<Record<string, SchedulerName>> = Object.fromEntries(
  SCHEDULERS.map((name) => [name, name]),
)

/** How many services have what packets are asked for first. */
export interface ServiceKinds {
  readonly v4: number
  readonly v6: number
  readonly port0: number
  readonly ftp: number
  readonly fwmark: number
  readonly untracked: number
  /** With a persistence engine. */
  readonly engines: number
}

const NO_KINDS: ServiceKinds = { v4: 0, v6: 0, port0: 0, ftp: 0, fwmark: 0, untracked: 0, engines: 0 }

export class Rules {
  readonly #host: Host
  #services = new Map<string, ServiceEntry>()
  /** In a draft: the entries that nobody else looks at. Null: all are our own. */
  #own: Set<ServiceEntry> | null = null
  #room: Room = UNLIMITED
  #overlays: Overlays = NO_OVERLAYS
  #holds = new HoldBook()
  #orderNext = 1
  #mixed = 0
  #kinds: ServiceKinds = NO_KINDS
  /** Whether a synchronisation daemon runs; it cannot carry mixed families. */
  synchronising = false
  /** What has changed since the rules were last brought in force. */
  readonly changes = new ChangeLog()

  constructor(host: Host) {
    this.#host = host
  }

  /** Real servers whose family is not their service's. */
  get mixedFamilies(): number {
    return this.#mixed
  }

  get serviceCount(): number {
    return this.#services.size
  }

  get kinds(): ServiceKinds {
    return this.#kinds
  }

  #count({ value: { id, untracked, persistenceEngine } }: ServiceEntry, by: 1 | -1): void {
    const { v4, v6, port0, ftp, fwmark } = this.#kinds
    this.#kinds = {
      v4: v4 + (id.family === 4 ? by : 0),
      v6: v6 + (id.family === 6 ? by : 0),
      port0: port0 + (id.kind === 'address' && id.port === 0 ? by : 0),
      ftp: ftp + (id.kind === 'address' && id.protocol === 'tcp' && id.port === 21 ? by : 0),
      fwmark: fwmark + (id.kind === 'fwmark' ? by : 0),
      untracked: this.#kinds.untracked + (untracked ? by : 0),
      engines: this.#kinds.engines + (persistenceEngine === null ? 0 : by),
    }
  }

  find(id: ServiceId): ServiceEntry | undefined {
    return this.#services.get(serviceKey(id))
  }

  findKey(key: string): ServiceEntry | undefined {
    return this.#services.get(key)
  }

  /** Orders up to this one have been given to services that are no more: what is said of those is no other's. */
  skipOrders(last: number): void {
    this.#orderNext = Math.max(this.#orderNext, last + 1)
  }

  /** In no particular order. */
  entries(): IterableIterator<ServiceEntry> {
    return this.#services.values()
  }

  /** Newest first, services of an address and port before those of a firewall mark. */
  list(): ServiceEntry[] {
    const newest = [...this.#services.values()].reverse()
    return [
      ...newest.filter((service) => service.value.id.kind === 'address'),
      ...newest.filter((service) => service.value.id.kind === 'fwmark'),
    ]
  }

  /** From now on the rules have to fit in there; they are measured as they are. */
  limit(room: Room): void {
    this.#room = room
    for (const service of this.#services.values()) room.entered(service)
  }

  /** Everything is to be compared with what the maps hold. */
  lookAtAll(): void {
    for (const key of this.#services.keys()) this.changes.noteAll(key)
  }

  /**
   * The same rules, to be changed beside these, which stay as they are. Entries are copied when they are
   * changed first, so a draft costs what it changes.
   */
  draft(): Rules {
    const draft = new Rules(this.#host)
    draft.#services = new Map(this.#services)
    draft.#own = new Set()
    draft.#room = this.#room.fork()
    draft.#overlays = this.#overlays
    draft.#holds = this.#holds.copy()
    draft.#orderNext = this.#orderNext
    draft.#mixed = this.#mixed
    draft.#kinds = this.#kinds
    draft.synchronising = this.synchronising
    return draft
  }

  /** Takes over, in one go, what a draft of these rules has become. */
  become(draft: Rules): void {
    this.#services = draft.#services
    this.#room = draft.#room
    this.#overlays = draft.#overlays
    this.#holds = draft.#holds
    this.#orderNext = draft.#orderNext
    this.#mixed = draft.#mixed
    this.#kinds = draft.#kinds
    this.synchronising = draft.synchronising
    this.changes.append(draft.changes)
  }

  /** Takes over a service found in the maps; services come oldest first. */
  adopt(value: VirtualService, order: number, owner: SourceName): ServiceEntry {
    const entry = serviceEntry(serviceKey(value.id), value, order, owner)
    this.#services.set(entry.key, entry)
    this.#count(entry, 1)
    this.#orderNext = Math.max(this.#orderNext, order + 1)
    return entry
  }

  /** Takes over a real server found in the maps; servers come oldest first. */
  adoptServer(service: ServiceEntry, value: RealServer): ServerEntry {
    const entry = serverEntry(serverKey(value.id), value)
    service.servers.push(entry)
    service.byKey.set(entry.key, entry)
    if (value.id.family !== service.value.id.family) this.#mixed++
    return entry
  }

  /** Takes over a hold that was kept beside the maps; the weight it holds is in them. */
  adoptHold(service: string, server: string, hold: Hold): void {
    const entry = this.#services.get(service)
    const held = entry?.byKey.get(server)
    if (entry === undefined || held === undefined) return
    this.#holds.put({ service: entry.value.id, server: held.value.id, hold })
  }

  /** All real servers of an adopted service are there. */
  adopted(service: ServiceEntry): void {
    weigh(service)
  }

  /** The entry as one that may be changed. */
  #writable(entry: ServiceEntry): ServiceEntry {
    if (this.#own === null || this.#own.has(entry)) return entry
    const copy = copyEntry(entry)
    this.#own.add(copy)
    this.#services.set(copy.key, copy)
    return copy
  }

  /** The same, when something that was stated is about to be other. */
  #changing(entry: ServiceEntry): ServiceEntry {
    const own = this.#writable(entry)
    own.statement = null
    return own
  }

  /** The service is now, word for word, as it is stated there. */
  isAsStated(key: string, statement: Statement): void {
    const entry = this.#services.get(key)
    if (entry !== undefined) entry.statement = statement
  }

  addService(request: ServiceRequest, owner: SourceName = 'manual'): Outcome {
    const key = serviceKey(request.id)
    const known = checkFamily(request.id)
    if (!known.ok) return known
    if (this.#services.has(key)) {
      return refuse('EEXIST', `Cannot add service "${serviceText(request.id)}": it exists`)
    }
    const checked = checkService(request)
    if (!checked.ok) return checked
    const tracked = checkUntracked(checked.value, [])
    if (!tracked.ok) return tracked
    if (!this.#room.admitsService(key, this.#services)) {
      return refuse('ENOMEM', `Cannot add service "${serviceText(request.id)}": the table is full`)
    }
    const entry = serviceEntry(key, checked.value, this.#orderNext++, owner)
    this.#services.set(key, entry)
    this.#own?.add(entry)
    this.#count(entry, 1)
    this.#room.entered(entry)
    this.changes.noteCreated(key, bindScheduler(entry, checked.value.scheduler))
    return done
  }

  editService(request: ServiceRequest): Outcome {
    const known = checkFamily(request.id)
    if (!known.ok) return known
    const found = this.find(request.id)
    if (found === undefined) return noService(request.id)
    const checked = checkService(request)
    if (!checked.ok) return checked
    const { scheduler } = checked.value
    const changes = scheduler !== found.value.scheduler
    if (changes && scheduler === 'mh' && found.servers.length > MH_TABLE_SIZE) {
      return refuse(
        'EINVAL',
        `Cannot use scheduler "mh" for ${found.servers.length} real servers: expected at most ${MH_TABLE_SIZE}`,
      )
    }
    const tracked = checkUntracked(checked.value, stated(found))
    if (!tracked.ok) return tracked
    const grows = changes || (checked.value.untracked && !found.value.untracked)
    if (grows && !this.#room.admitsEdit(found, checked.value)) {
      return refuse('ENOMEM', `Cannot use scheduler "${scheduler}" for this service: its table does not fit`)
    }
    const entry = this.#changing(found)
    this.#room.left(entry)
    this.#count(entry, -1)
    entry.value = checked.value
    this.#count(entry, 1)
    const bound = changes ? bindScheduler(entry, scheduler) : null
    this.#room.entered(entry)
    this.changes.noteEdited(entry.key, bound)
    return done
  }

  deleteService(id: ServiceId): Outcome {
    const entry = this.find(id)
    if (entry === undefined) return noService(id)
    this.#remove(entry)
    return done
  }

  /** Deletes what one source states. */
  flush(owner: SourceName): Outcome {
    for (const entry of [...this.#services.values()]) if (entry.owner === owner) this.#remove(entry)
    return done
  }

  /** Nothing that packets could notice: the same service is another source's from now on. */
  giveTo(id: ServiceId, owner: SourceName): void {
    const entry = this.find(id)
    if (entry !== undefined && entry.owner !== owner) this.#writable(entry).owner = owner
  }

  #remove(entry: ServiceEntry): void {
    this.#services.delete(entry.key)
    this.#holds.dropService(entry.key)
    this.#count(entry, -1)
    for (const server of entry.servers) {
      if (server.value.id.family !== entry.value.id.family) this.#mixed--
    }
    this.#room.left(entry)
    this.changes.noteRemoved(entry.key)
  }

  addServer(id: ServiceId, value: RealServer): Outcome {
    const found = this.find(id)
    if (found === undefined) return noService(id)
    return this.addServerTo(found, serverKey(value.id), ownFields(value))
  }

  /**
   * The same, where identities are known: a source states a hundred thousand in one go.
   * @param found the service as it is found now: a change may put another entry in its place
   * @param value kept as it is
   */
  addServerTo(found: ServiceEntry, key: string, value: RealServer): Outcome {
    const checked = this.#checkServer(found, value)
    if (!checked.ok) return checked
    if (statedServer(found, key) !== undefined) {
      return refuse('EEXIST', `Cannot add real server "${endpointText(value.id)}": it exists`)
    }
    if (!isServerAddress(value.id.address, localAddresses(this.#host))) {
      return refuse('EINVAL', `Cannot use "${value.id.address}" as real server: expected a unicast address`)
    }
    if (!this.#room.admitsServer(found, key, this.#services)) {
      return refuse('ENOMEM', `Cannot add real server "${endpointText(value.id)}": the table is full`)
    }
    const entry = this.#changing(found)
    const server = serverEntry(key, value)
    const weight = this.#weight(entry, server)
    if (weight === null) {
      entry.away.set(key, server)
      return done
    }
    const extra = entry.byKey.get(key)
    if (extra !== undefined) this.#takeOut(entry, extra)
    weighServer(server, weight)
    this.#putIn(entry, server)
    return done
  }

  editServer(id: ServiceId, value: RealServer): Outcome {
    const found = this.find(id)
    if (found === undefined) return noService(id)
    const checked = this.#checkServer(found, value)
    if (!checked.ok) return checked
    const key = serverKey(value.id)
    if (statedServer(found, key) === undefined) return noServer(value.id)
    const entry = this.#changing(found)
    const server = statedServer(entry, key)!
    server.said = ownFields(value)
    const weight = this.#weight(entry, server)
    if (entry.away.has(key) || weight === null) this.#follow(entry, server)
    else this.#reweigh(entry, server, weight)
    return done
  }

  deleteServer(id: ServiceId, serverId: ServerId): Outcome {
    const found = this.find(id)
    if (found === undefined) return noService(id)
    const key = serverKey(serverId)
    if (statedServer(found, key) === undefined) return noServer(serverId)
    this.#holds.drop(found.key, key)
    const entry = this.#changing(found)
    const server = statedServer(entry, key)!
    if (entry.away.delete(key)) return done
    // Taken over from the maps, a sorry server looks like any other; it goes on without leaving the list.
    if (this.#overlays.extra(entry.key).some((extra) => serverKey(extra.id) === key)) server.extra = true
    else this.#takeOut(entry, server)
    return done
  }

  /** Into the list, as its newest. */
  #putIn(entry: ServiceEntry, server: ServerEntry): void {
    this.#room.left(entry)
    entry.servers.push(server)
    entry.byKey.set(server.key, server)
    if (server.value.id.family !== entry.value.id.family) this.#mixed++
    this.#room.entered(entry)
    this.changes.noteServer(entry.key, server.key, serverAdded(entry, server))
  }

  #takeOut(entry: ServiceEntry, server: ServerEntry): void {
    this.#room.left(entry)
    const at = entry.servers.indexOf(server)
    // The list runs newest first: in front of an entry stands the next newer one, or the head.
    const previous = entry.servers[at + 1] ?? null
    entry.servers.splice(at, 1)
    entry.byKey.delete(server.key)
    if (server.value.id.family !== entry.value.id.family) this.#mixed--
    this.#room.entered(entry)
    this.changes.noteServer(entry.key, server.key, serverRemoved(entry, server, previous))
  }

  /** What was said, or its weight in force, is another one. */
  #reweigh(entry: ServiceEntry, server: ServerEntry, weight: number): void {
    const before = server.value.weight
    weighServer(server, weight)
    this.changes.noteServer(entry.key, server.key, serverEdited(entry, before, weight))
  }

  /** The weight in force; null: out of the list. A hold stands above all overlays. */
  #weight(service: ServiceEntry, { key, said }: ServerEntry): number | null {
    const hold = this.#holds.of(service.key, key)
    return hold === null ? this.#overlays.weight(service.key, key, said.weight) : hold.weight
  }

  /** Brings one real server to where overlays and holds want it. */
  #follow(entry: ServiceEntry, server: ServerEntry): void {
    const weight = this.#weight(entry, server)
    const away = entry.away.has(server.key)
    if (weight === null) {
      if (away) return
      this.#takeOut(entry, server)
      entry.away.set(server.key, server)
    } else if (away) {
      entry.away.delete(server.key)
      const extra = entry.byKey.get(server.key)
      if (extra !== undefined) this.#takeOut(entry, extra)
      weighServer(server, weight)
      this.#putIn(entry, server)
    } else if (weight !== server.value.weight) {
      this.#reweigh(entry, server, weight)
    }
  }

  /**
   * Overlays say something else than before: what is in force follows, what was said stays.
   * @param services identities of those that it can be about; left out: all
   */
  overlay(overlays: Overlays, services: Iterable<string> = [...this.#services.keys()]): void {
    this.#overlays = overlays
    for (const key of services) {
      const found = this.#services.get(key)
      if (found === undefined) continue
      for (const server of [...stated(found)]) {
        const weight = this.#weight(found, server)
        if (found.away.has(server.key) ? weight === null : weight === server.value.weight) continue
        const entry = this.#writable(found)
        this.#follow(entry, statedServer(entry, server.key)!)
      }
      this.#followExtras(key)
    }
  }

  #followExtras(service: string): void {
    const found = this.#services.get(service)!
    const wanted = new Map(this.#overlays.extra(service).map((value) => [serverKey(value.id), value]))
    for (const { key, extra } of [...found.servers]) {
      if (!extra || wanted.has(key)) continue
      const entry = this.#writable(this.#services.get(service)!)
      this.#takeOut(entry, entry.byKey.get(key)!)
    }
    for (const [key, value] of wanted) {
      const known = this.#services.get(service)!.byKey.get(key)
      if (known?.extra === true && known.said.weight !== value.weight) {
        const entry = this.#writable(this.#services.get(service)!)
        const server = entry.byKey.get(key)!
        server.said = ownFields(value)
        this.#reweigh(entry, server, value.weight)
      }
      if (known !== undefined) continue
      this.#putIn(this.#writable(this.#services.get(service)!), serverEntry(key, ownFields(value), true))
    }
  }

  // Holds by hand

  /** Puts a hold on a real server, or ends it (null). */
  hold(id: ServiceId, serverId: ServerId, hold: Hold | null): Outcome {
    const found = this.find(id)
    if (found === undefined) return noService(id)
    const key = serverKey(serverId)
    if (statedServer(found, key) === undefined) return noServer(serverId)
    if (hold === null) this.#holds.drop(found.key, key)
    else this.#holds.put({ service: found.value.id, server: serverId, hold })
    const entry = this.#writable(found)
    this.#follow(entry, statedServer(entry, key)!)
    return done
  }

  holdOf(service: string, server: string): Hold | null {
    return this.#holds.of(service, server)
  }

  get holds(): HoldBook {
    return this.#holds
  }

  /** The refusals common to adding and editing, in the kernel's order. */
  #checkServer(service: ServiceEntry, value: RealServer): Outcome {
    if (value.id.family !== familyOf(value.id.address)) {
      return refuse(
        'EAFNOSUPPORT',
        `Cannot use "${endpointText(value.id)}" as real server: its family is wrong`,
      )
    }
    if (value.id.family !== service.value.id.family) {
      const text = endpointText(value.id)
      if (this.synchronising) {
        return refuse('EINVAL', `Cannot use "${text}" of another family while a sync daemon runs`)
      }
      if (value.method !== 'tunnel') {
        return refuse('EINVAL', `Cannot use "${text}" of another family by ${value.method}: expected tunnel`)
      }
    }
    const { weight, upperThreshold: upper, lowerThreshold: lower, tunnel } = value
    if (weight < 0 || weight > INT_MAX) {
      return refuse('ERANGE', `Cannot use weight ${weight}: expected 0 to ${INT_MAX}`)
    }
    if (lower > upper) {
      return refuse('ERANGE', `Cannot use lower threshold ${lower}: expected at most the upper one, ${upper}`)
    }
    if (upper > INT_MAX) {
      return refuse('EINVAL', `Cannot use upper threshold ${upper}: expected 0 to ${INT_MAX}`)
    }
    // Even where the method is not tunnel, as in the kernel.
    if (tunnel.type === 'gue' && tunnel.port === 0) {
      return refuse('EINVAL', 'Cannot use gue port 0: expected 1 to 65535')
    }
    return checkUntracked(service.value, [serverEntry('', value)])
  }
}

/** A real server that a source states, in the list or out of it. */
export function statedServer(service: ServiceEntry, key: string): ServerEntry | undefined {
  const server = service.byKey.get(key)
  return server === undefined || server.extra ? service.away.get(key) : server
}

function weighServer(server: ServerEntry, weight: number): void {
  const { said } = server
  server.value = weight === said.weight ? said : { ...said, weight }
  if (weight !== 0) server.lastWeight = weight
}

/** Callers may hand in more than a rule, a listing for example. */
function ownFields(value: RealServer): RealServer {
  const { id, method, tunnel, weight, upperThreshold, lowerThreshold } = value
  return { id, method, tunnel, weight, upperThreshold, lowerThreshold }
}

export function noService(id: ServiceId): Outcome<never> {
  return refuse('ESRCH', `No service "${serviceText(id)}"`)
}

export function noServer(id: ServerId): Outcome<never> {
  return refuse('ENOENT', `No real server "${endpointText(id)}" in this service`)
}

function checkFamily(id: ServiceId): Outcome {
  if (id.kind === 'address' && familyOf(id.address) !== id.family) {
    return refuse('EAFNOSUPPORT', `Cannot use "${serviceText(id)}" as a service: its family is wrong`)
  }
  return done
}

function checkService(request: ServiceRequest): Outcome<VirtualService> {
  const scheduler = Object.hasOwn(NAMED, request.scheduler) ? NAMED[request.scheduler] : undefined
  if (scheduler === undefined) {
    return refuse(
      'ENOENT',
      `Unknown scheduler "${request.scheduler}": expected ${Object.keys(NAMED).join(', ')}`,
    )
  }
  const { persistenceEngine } = request
  if (persistenceEngine !== null && persistenceEngine !== 'sip') {
    return refuse('ENOENT', `Unknown persistence engine "${persistenceEngine}": expected sip`)
  }
  if (request.id.family === 6 && (request.netmask < 1 || request.netmask > 128)) {
    return refuse('EINVAL', `Cannot use prefix length ${request.netmask}: expected 1 to 128`)
  }
  const { id, onePacket, untracked, persistenceTimeoutS, netmask } = request
  const schedulerFlags = request.schedulerFlags & FLAG_BITS
  return success({
    id,
    scheduler,
    schedulerFlags,
    onePacket,
    untracked,
    persistenceTimeoutS,
    netmask,
    persistenceEngine,
  })
}

/** What just enough tracking cannot do without all of its connections in the table. */
function checkUntracked(service: VirtualService, servers: Iterable<ServerEntry>): Outcome {
  if (!service.untracked) return done
  const why = needsTracking(service) ?? needsTrackingFor(Array.from(servers, ({ said }) => said))
  return why === null
    ? done
    : refuse('ENOTSUP', `Cannot track service "${serviceText(service.id)}" just enough: ${why}`)
}
