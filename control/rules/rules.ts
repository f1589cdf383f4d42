/**
 * The rules as the operator wants them, with IPVS's refusals in IPVS's order. Nothing here knows of
 * maps or packets: whoever applies the rules is told of every change through `RuleWatcher`.
 */
import { familyOf } from '../../net/address.ts'
import { endpointText } from '../../net/endpoint.ts'
import { serverKey, serviceKey, serviceText } from '../model/identity.ts'
import { INT_MAX } from '../model/limits.ts'
import type { Outcome } from '../model/outcome.ts'
import { done, refuse, success } from '../model/outcome.ts'
import type { SchedulerName } from '../model/scheduler.ts'
import { MH_TABLE_SIZE } from '../model/scheduler.ts'
import type { RealServer, ServerId } from '../model/server.ts'
import type { ServiceId, ServiceRequest, VirtualService } from '../model/service.ts'
import { type ServerEntry, type ServiceEntry, serverEntry, serviceEntry } from './entries.ts'
import { type Host, isServerAddress, localAddresses } from './host.ts'
import { bindScheduler, serverAdded, serverEdited, serverRemoved } from './scheduler-state.ts'

/** Hears of every change, in order. */
export interface RuleWatcher {
  /** Whether another service or another real server of `service` fits; else ENOMEM. */
  admitService(): boolean
  admitServer(service: ServiceEntry): boolean
  /** Before anything of the service changes: the last moment to see its old list. */
  changing(service: ServiceEntry): void
  serviceAdded(service: ServiceEntry): void
  serviceEdited(service: ServiceEntry, schedulerChanged: boolean): void
  serviceRemoved(service: ServiceEntry): void
  /** Added, or edited: its record in the maps may differ now. */
  serverChanged(service: ServiceEntry, server: ServerEntry, added: boolean): void
  serverRemoved(service: ServiceEntry, server: ServerEntry): void
}

const FLAG_BITS = 0x38

/** Schedulers a client may name; `twos` is not among them, as in the IPVS of Debian's kernel. */
const NAMED: Readonly<Record<string, SchedulerName>> = Object.fromEntries(
  (
    ['none', 'rr', 'wrr', 'lc', 'wlc', 'lblc', 'lblcr', 'dh', 'sh', 'sed', 'nq', 'fo', 'ovf', 'mh'] as const
  ).map((name) => [name, name]),
)

export class Rules {
  readonly #services = new Map<string, ServiceEntry>()
  readonly #host: Host
  #watcher: RuleWatcher | null = null
  #orderNext = 1
  #mixed = 0
  /** Whether a synchronisation daemon runs; it cannot carry mixed families. */
  synchronising = false

  constructor(host: Host) {
    this.#host = host
  }

  watch(watcher: RuleWatcher): void {
    this.#watcher = watcher
  }

  /** Real servers whose family is not their service's. */
  get mixedFamilies(): number {
    return this.#mixed
  }

  get serviceCount(): number {
    return this.#services.size
  }

  find(id: ServiceId): ServiceEntry | undefined {
    return this.#services.get(serviceKey(id))
  }

  findKey(key: string): ServiceEntry | undefined {
    return this.#services.get(key)
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

  /** Takes over a service found in the maps; services come oldest first. */
  adopt(value: VirtualService, order: number): ServiceEntry {
    const entry = serviceEntry(serviceKey(value.id), value, order)
    this.#services.set(entry.key, entry)
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

  addService(request: ServiceRequest): Outcome {
    const key = serviceKey(request.id)
    const known = checkFamily(request.id)
    if (!known.ok) return known
    if (this.#services.has(key)) {
      return refuse('EEXIST', `Cannot add service "${serviceText(request.id)}": it exists`)
    }
    const checked = checkService(request)
    if (!checked.ok) return checked
    if (this.#watcher?.admitService() === false) {
      return refuse('ENOMEM', `Cannot add service "${serviceText(request.id)}": the table is full`)
    }
    const entry = serviceEntry(key, checked.value, this.#orderNext++)
    bindScheduler(entry, checked.value.scheduler)
    this.#services.set(key, entry)
    this.#watcher?.serviceAdded(entry)
    return done
  }

  editService(request: ServiceRequest): Outcome {
    const known = checkFamily(request.id)
    if (!known.ok) return known
    const entry = this.find(request.id)
    if (entry === undefined) return noService(request.id)
    const checked = checkService(request)
    if (!checked.ok) return checked
    const { scheduler } = checked.value
    const changes = scheduler !== entry.value.scheduler
    if (changes && scheduler === 'mh' && entry.servers.length > MH_TABLE_SIZE) {
      return refuse(
        'EINVAL',
        `Cannot use scheduler "mh" for ${entry.servers.length} real servers: expected at most ${MH_TABLE_SIZE}`,
      )
    }
    this.#watcher?.changing(entry)
    entry.value = checked.value
    if (changes) bindScheduler(entry, scheduler)
    this.#watcher?.serviceEdited(entry, changes)
    return done
  }

  deleteService(id: ServiceId): Outcome {
    const entry = this.find(id)
    if (entry === undefined) return noService(id)
    this.#remove(entry)
    return done
  }

  flush(): Outcome {
    for (const entry of [...this.#services.values()]) this.#remove(entry)
    return done
  }

  #remove(entry: ServiceEntry): void {
    this.#watcher?.changing(entry)
    this.#services.delete(entry.key)
    for (const server of entry.servers) {
      if (server.value.id.family !== entry.value.id.family) this.#mixed--
    }
    this.#watcher?.serviceRemoved(entry)
  }

  addServer(id: ServiceId, value: RealServer): Outcome {
    const entry = this.find(id)
    if (entry === undefined) return noService(id)
    const checked = this.#checkServer(entry, value)
    if (!checked.ok) return checked
    const key = serverKey(value.id)
    if (entry.byKey.has(key)) {
      return refuse('EEXIST', `Cannot add real server "${endpointText(value.id)}": it exists`)
    }
    if (!isServerAddress(value.id.address, localAddresses(this.#host))) {
      return refuse('EINVAL', `Cannot use "${value.id.address}" as real server: expected a unicast address`)
    }
    if (this.#watcher?.admitServer(entry) === false) {
      return refuse('ENOMEM', `Cannot add real server "${endpointText(value.id)}": the table is full`)
    }
    this.#watcher?.changing(entry)
    const server = serverEntry(key, ownFields(value))
    entry.servers.push(server)
    entry.byKey.set(key, server)
    if (value.id.family !== entry.value.id.family) this.#mixed++
    serverAdded(entry, server)
    this.#watcher?.serverChanged(entry, server, true)
    return done
  }

  editServer(id: ServiceId, value: RealServer): Outcome {
    const entry = this.find(id)
    if (entry === undefined) return noService(id)
    const checked = this.#checkServer(entry, value)
    if (!checked.ok) return checked
    const server = entry.byKey.get(serverKey(value.id))
    if (server === undefined) return noServer(value.id)
    this.#watcher?.changing(entry)
    const before = server.value.weight
    server.value = ownFields(value)
    if (value.weight !== 0) server.lastWeight = value.weight
    serverEdited(entry, before, value.weight)
    this.#watcher?.serverChanged(entry, server, false)
    return done
  }

  deleteServer(id: ServiceId, serverId: ServerId): Outcome {
    const entry = this.find(id)
    if (entry === undefined) return noService(id)
    const server = entry.byKey.get(serverKey(serverId))
    if (server === undefined) return noServer(serverId)
    this.#watcher?.changing(entry)
    const at = entry.servers.indexOf(server)
    // The list runs newest first: in front of an entry stands the next newer one, or the head.
    const previous = entry.servers[at + 1] ?? null
    entry.servers.splice(at, 1)
    entry.byKey.delete(server.key)
    if (server.value.id.family !== entry.value.id.family) this.#mixed--
    serverRemoved(entry, server, previous)
    this.#watcher?.serverRemoved(entry, server)
    return done
  }

  /** The refusals common to adding and editing, in the kernel's order. */
  #checkServer(service: ServiceEntry, value: RealServer): Outcome {
    const text = endpointText(value.id)
    if (value.id.family !== familyOf(value.id.address)) {
      return refuse('EAFNOSUPPORT', `Cannot use "${text}" as real server: its family is wrong`)
    }
    if (value.id.family !== service.value.id.family) {
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
    return done
  }
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
  const { id, onePacket, persistenceTimeoutS, netmask } = request
  const schedulerFlags = request.schedulerFlags & FLAG_BITS
  return success({
    id,
    scheduler,
    schedulerFlags,
    onePacket,
    persistenceTimeoutS,
    netmask,
    persistenceEngine,
  })
}
