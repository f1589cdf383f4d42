/** A director that writes down who changed what: the one that requests of clients work on. */
import { endpointText } from '../../net/endpoint.ts'
import { prefixText } from '../../net/prefix.ts'
import type { Director } from '../model/director.ts'
import type { FilterBatch, FilterChange } from '../model/filter.ts'
import { serviceText } from '../model/identity.ts'
import type { Journal, NewEvent } from '../model/journal.ts'
import { limitText } from '../model/limit.ts'
import type { Outcome } from '../model/outcome.ts'
import type { RealServer, ServerId } from '../model/server.ts'
import type { ServiceId, ServiceRequest } from '../model/service.ts'

/** Changes of one transaction that are told one by one. */
const TOLD_MAX = 8

type Change = Omit<NewEvent, 'kind' | 'by'>

export function recorded(director: Director, by: string, journal: Pick<Journal, 'add'>): Director {
  return recording(director, (change) => journal.add({ kind: 'rules', by, ...change }), {
    async transact(body) {
      // A restore may be of 100,000 lines: then it is one event, and says how many.
      const changes: Change[] = []
      const counts = new Map<string, number>()
      const result = await director.transact((draft) =>
        body(
          recording(draft, (change) => {
            if (changes.length <= TOLD_MAX) changes.push(change)
            const what = `${change.about} ${change.words.split(/[: ]/)[0]}`
            counts.set(what, (counts.get(what) ?? 0) + 1)
          }),
        ),
      )
      if (changes.length <= TOLD_MAX) {
        for (const change of changes) journal.add({ kind: 'rules', by, ...change })
      } else {
        const words = Array.from(counts, ([what, count]) => `${what}: ${count}`).join(', ')
        journal.add({ kind: 'rules', about: 'restore', words, by })
      }
      return result
    },
  })
}

function recording(
  director: Director,
  note: (change: Change) => void,
  more: Partial<Director> = {},
): Director {
  const noted = <T>(outcome: Outcome<T>, change: () => Change): Outcome<T> => {
    if (outcome.ok) note(change())
    return outcome
  }
  const own: Partial<Director> = {
    addService: (service) => noted(director.addService(service), () => ofService(service, 'added')),
    editService: (service) => noted(director.editService(service), () => ofService(service, 'edited')),
    deleteService: (id) =>
      noted(director.deleteService(id), () => ({
        about: 'service',
        service: serviceText(id),
        words: 'deleted',
      })),
    flush: () =>
      noted(director.flush(), () => ({ about: 'services', words: 'deleted all that commands state' })),
    zero: (id) =>
      noted(director.zero(id), () => ({
        about: 'counters',
        service: id === undefined ? null : serviceText(id),
        words: 'zeroed',
      })),
    addServer: (id, server) => noted(director.addServer(id, server), () => ofServer(id, server, 'added')),
    editServer: (id, server) => {
      const before = director.server(id, server.id)
      const was = before.ok && before.value.weight !== server.weight ? ` (was ${before.value.weight})` : ''
      return noted(director.editServer(id, server), () => ofServer(id, server, 'edited', was))
    },
    deleteServer: (id, server) =>
      noted(director.deleteServer(id, server), () => ({
        ...names(id, server),
        about: 'server',
        words: 'deleted',
      })),
    hold: (id, server, hold) =>
      noted(director.hold(id, server, hold), () => ({
        ...names(id, server),
        about: 'hold',
        words: hold === null ? 'ended' : `held at weight ${hold.weight}${until(hold.untilMs)}`,
      })),
    setTimeouts: (timeouts) =>
      noted(director.setTimeouts(timeouts), () => ({
        about: 'timeouts',
        words: `set to tcp ${timeouts.tcp}, tcpfin ${timeouts.tcpFin}, udp ${timeouts.udp} (0: as before)`,
      })),
    setSysctl: (name, value) =>
      noted(director.setSysctl(name, value), () => ({ about: 'settings', words: `${name}=${value}` })),
    startDaemon: (request) =>
      noted(director.startDaemon(request), () => ({
        about: 'sync daemon',
        words: `${request.state} started on ${request.interface}`,
      })),
    stopDaemon: (state) =>
      noted(director.stopDaemon(state), () => ({ about: 'sync daemon', words: `${state} stopped` })),
    changeMarks: (change) =>
      noted(director.changeMarks(change), () => ({
        about: 'marks',
        words: `rules changed: ${change.add.length} added, ${change.delete.length} deleted${change.flush === false ? '' : ', flushed'}`,
      })),
    changeFilters: (change) =>
      noted(director.changeFilters(change), () => ({ about: 'filters', words: filtersText(change) })),
    changeLimits: (change) =>
      noted(director.changeLimits(change), () => ({
        about: 'limits',
        words: [
          ...change.add.map((limit) => `${serviceText(limit.service)}: ${limitText(limit)}`),
          ...change.delete.map((service) => `${serviceText(service)}: deleted`),
        ].join(', '),
      })),
    ...more,
  }
  return new Proxy(director, {
    get(target, name) {
      const ours: unknown = Reflect.get(own, name)
      if (ours !== undefined) return ours
      // Of the director itself: its private parts are not the proxy's.
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

/** A list may have a million prefixes: then it says how many. */
function filtersText({ flush, delete: deleted, add }: FilterChange): string {
  const of = (service: ServiceId | null): string => (service === null ? '' : ` for ${serviceText(service)}`)
  const batch = ({ prefixes, service, forMs }: FilterBatch): string => {
    const which =
      prefixes.length <= TOLD_MAX ? prefixes.map(prefixText).join(' ') : `${prefixes.length} prefixes`
    return `${which}${of(service)}${forMs === null ? '' : ` for ${Math.round(forMs / 1000)} s`}`
  }
  const all = (done: string, batches: readonly FilterBatch[]): string[] => {
    const told = batches.slice(0, TOLD_MAX).map((one) => `${one.action} ${done}: ${batch(one)}`)
    return batches.length > TOLD_MAX ? [...told, `${batches.length - TOLD_MAX} more`] : told
  }
  const flushed = flush === null ? [] : [`${flush.action} flushed${of(flush.service)}`]
  return [...flushed, ...all('deleted', deleted), ...all('added', add)].join(', ')
}

function ofService(service: ServiceRequest, what: string): Change {
  const { id, scheduler, persistenceTimeoutS } = service
  const persistent = persistenceTimeoutS > 0 ? `, persistent ${persistenceTimeoutS} s` : ''
  return { about: 'service', service: serviceText(id), words: `${what}: scheduler ${scheduler}${persistent}` }
}

function ofServer(id: ServiceId, server: RealServer, what: string, was = ''): Change {
  const words = `${what}: ${server.method}, weight ${server.weight}${was}`
  return { ...names(id, server.id), about: 'server', words }
}

function names(id: ServiceId, server: ServerId): Pick<NewEvent, 'service' | 'server'> {
  return { service: serviceText(id), server: endpointText(server) }
}

function until(ms: number | null): string {
  return ms === null ? '' : ` until ${new Date(ms).toISOString()}`
}
