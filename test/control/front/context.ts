/** What the API works on, around any director. */
import type { ApiContext } from '../../../control/front/api/route.ts'
import type { Status } from '../../../control/front/api/schema/status.ts'
import type { Director } from '../../../control/model/director.ts'
import { Journal } from '../../../control/model/journal.ts'
import { Sources } from '../../../control/source/sources.ts'

export const STATUS: Status = {
  version: '0',
  pid: 1,
  startedAt: '2026-01-01T00:00:00.000Z',
  forwarding: true,
  dataplane: {
    kind: 'memory',
    reason: 'a test',
    adopted: false,
    program: null,
    interfaces: [],
    missing: [],
    answers: null,
    cutting: null,
    own: null,
    warnings: [],
    sendFailures: null,
  },
  services: 0,
  realServers: 0,
  connections: { ipv4: 0, ipv6: 0, templates: 0 },
  capacity: {},
  sources: [],
  pools: [],
  holds: [],
  health: null,
  notInForce: [],
  repairs: {},
  unsupported: [],
  memoryMiB: 1,
}

export function contextOf(director: Director, changes: Partial<ApiContext> = {}): ApiContext {
  return {
    director,
    health: { state: () => [] },
    journal: new Journal(() => 0),
    sources: new Sources(),
    status: () => STATUS,
    verdicts: () => new Map(),
    metrics: () => null,
    overview: () => Promise.reject(new Error('no collector')),
    snapshot: () => null,
    history: () => {
      throw new Error('no collector')
    },
    explain: async () => null,
    nextHop: () => ({ result: 'no-route' }),
    record: () => Promise.reject(new Error('no packets')),
    endRecording: async () => false,
    changePlane: async () => {},
    detach: async () => {},
    ...changes,
  }
}
