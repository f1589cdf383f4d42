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
/** Of those that are only counted, what says nothing by its number alone. */
const SAID: ReadonlySet<string> = new Set(['settings', 'timeouts'])

type Change = Omit<NewEvent, 'kind' | 'by'>
/** What it was about, what was done in a word, and the rest for who reads it. */
type Note = (about: string, done: string, change: () => Omit<Change, 'about'>) => void

export function recorded(director: Director, by: string, journal: Pick<Journal, 'add'>): Director {
  return recording(
    director,
    (about, _done, change) => journal.add({ kind: 'rules', by, about, ...change() }),
    {
      async transact(body) {
        // A restore may be of 100,000 lines: then it is one event, and says how many.
        const changes: Change[] = []
        const counts = new Map<string, number>()
        const said: string[] = []
        const result = await director.transact((draft) =>
          body(
            recording(draft, (about, done, change) => {
              // Most of them nobody reads: then they are counted, and not put into words.
              if (changes.length <= TOLD_MAX) changes.push({ about, ...change() })
              if (SAID.has(about) && said.length < TOLD_MAX) said.push(`${about}: ${change().words}`)
              else counts.set(`${about} ${done}`, (counts.get(`${about} ${done}`) ?? 0) + 1)
            }),
          ),
        )
        if (changes.length <= TOLD_MAX) {
          for (const change of changes) journal.add({ kind: 'rules', by, ...change })
        } else {
          const numbers = Array.from(counts, ([what, count]) => `${what}: ${count}`)
          const words = [...said, ...numbers].join(', ')
          journal.add({ kind: 'rules', about: 'restore', words, by })
        }
        return result
      },
    },
  )
}

function recording(director: Director, note: Note, more: Partial<Director> = {}): Director {
  const noted = <T>(outcome: Outcome<T>, ...change: Parameters<Note>): Outcome<T> => {
    if (outcome.ok) note(...change)
    return outcome
  }
  const own: Partial<Director> = {
    addService: (service) =>
      noted(director.addService(service), 'service', 'added', () => ofService(service, 'added')),
    editService: (service) =>
      noted(director.editService(service), 'service', 'edited', () => ofService(service, 'edited')),
    deleteService: (id) =>
      noted(director.deleteService(id), 'service', 'deleted', () => ({
        service: serviceText(id),
        words: 'deleted',
      })),
    flush: () =>
      noted(director.flush(), 'services', 'deleted', () => ({ words: 'deleted all that commands state' })),
    zero: (id) =>
      noted(director.zero(id), 'counters', 'zeroed', () => ({
        service: id === undefined ? null : serviceText(id),
        words: 'zeroed',
      })),
    addServer: (id, server) =>
      noted(director.addServer(id, server), 'server', 'added', () => ofServer(id, server, 'added')),
    editServer: (id, server) => {
      const before = director.server(id, server.id)
      const was = before.ok && before.value.weight !== server.weight ? ` (was ${before.value.weight})` : ''
      return noted(director.editServer(id, server), 'server', 'edited', () =>
        ofServer(id, server, 'edited', was),
      )
    },
    deleteServer: (id, server) =>
      noted(director.deleteServer(id, server), 'server', 'deleted', () => ({
        ...names(id, server),
        words: 'deleted',
      })),
    hold: (id, server, hold) =>
      noted(director.hold(id, server, hold), 'hold', hold === null ? 'ended' : 'held', () => ({
        ...names(id, server),
        words: hold === null ? 'ended' : `held at weight ${hold.weight}${until(hold.untilMs)}`,
      })),
    setTimeouts: (timeouts) =>
      noted(director.setTimeouts(timeouts), 'timeouts', 'set', () => ({
        words: `set to tcp ${timeouts.tcp}, tcpfin ${timeouts.tcpFin}, udp ${timeouts.udp} (0: as before)`,
      })),
    setSysctl: (name, value) =>
      noted(director.setSysctl(name, value), 'settings', 'set', () => ({ words: `${name}=${value}` })),
    startDaemon: (request) =>
      noted(director.startDaemon(request), 'sync daemon', 'started', () => ({
        words: `${request.state} started on ${request.interface}`,
      })),
    stopDaemon: (state) =>
      noted(director.stopDaemon(state), 'sync daemon', 'stopped', () => ({ words: `${state} stopped` })),
    changeMarks: (change) =>
      noted(director.changeMarks(change), 'marks', 'changed', () => ({
        words: `rules changed: ${change.add.length} added, ${change.delete.length} deleted${change.flush === false ? '' : ', flushed'}`,
      })),
    changeFullNat: (change) =>
      noted(director.changeFullNat(change), 'settings', 'changed', () => ({
        words: `full NAT: ${[
          ...change.add.map(({ address }) => `${address} added`),
          ...change.delete.map((address) => `${address} deleted`),
        ].join(', ')}`,
      })),
    changeFilters: (change) =>
      noted(director.changeFilters(change), 'filters', 'changed', () => ({ words: filtersText(change) })),
    changeLimits: (change) =>
      noted(director.changeLimits(change), 'limits', 'changed', () => ({
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

function ofService(service: ServiceRequest, what: string): Omit<Change, 'about'> {
  const { id, scheduler, persistenceTimeoutS } = service
  const persistent = persistenceTimeoutS > 0 ? `, persistent ${persistenceTimeoutS} s` : ''
  return { service: serviceText(id), words: `${what}: scheduler ${scheduler}${persistent}` }
}

function ofServer(id: ServiceId, server: RealServer, what: string, was = ''): Omit<Change, 'about'> {
  const words = `${what}: ${server.method}, weight ${server.weight}${was}`
  return { ...names(id, server.id), words }
}

function names(id: ServiceId, server: ServerId): Pick<NewEvent, 'service' | 'server'> {
  return { service: serviceText(id), server: endpointText(server) }
}

function until(ms: number | null): string {
  return ms === null ? '' : ` until ${new Date(ms).toISOString()}`
}
