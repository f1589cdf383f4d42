/** Sources that state whole sets of services: how they stand, what they would change, bringing them in. */
import { Turns } from '../../../apply/turns.ts'
import { DEFAULT_HEALTH_POLICY, NO_SERVER_POLICY } from '../../../model/health-policy.ts'
import { serverKey, serviceKey } from '../../../model/identity.ts'
import type { Complaint, DirectorSettings, SiteFilter, SiteServer } from '../../../model/site.ts'
import { placeText } from '../../../model/site.ts'
import type { SourceName } from '../../../model/source.ts'
import { initialSysctls } from '../../../model/sysctls.ts'
import { DEFAULT_TIMEOUTS } from '../../../rules/director.ts'
import { serviceDocument, siteDocument, type Written } from '../../../source/file/document.ts'
import { countChanges, type SiteSource } from '../../../source/site-source.ts'
import { jsonArray } from '../json.ts'
import { type Answer, type ApiContext, invalid, type Route, route } from '../route.ts'
import { siteAnswer } from '../schema/site.ts'
import {
  appliedAnswer,
  changeJson,
  changesAnswer,
  complaintJson,
  type SourceShown,
  sourceBody,
  sourceJson,
  sourcesAnswer,
} from '../schema/source.ts'

function sourcesShown({ director, sources }: ApiContext): SourceShown[] {
  const owned = new Map<SourceName, number>()
  for (const { source } of director.rules()) owned.set(source, (owned.get(source) ?? 0) + 1)
  const manual: SourceShown = {
    source: 'manual',
    path: null,
    state: 'in force',
    since: null,
    goesOn: null,
    services: owned.get('manual') ?? 0,
    watched: [],
    pools: [],
    complaints: [],
  }
  const stated = sources
    .all()
    .map((source) => sourceJson(source, owned.get(source.source) ?? 0))
    // A file that nobody has written states nothing.
    .filter(({ state, services }) => state !== 'unread' || services > 0)
  return [manual, ...stated]
}

const errors = (complaints: readonly Complaint[]): Complaint[] =>
  complaints.filter(({ severity }) => severity === 'error')

/** All that is wrong, each at its place. */
function refused(complaints: readonly Complaint[]): Answer {
  return invalid(
    complaints.map(({ at, message }) => ({ path: placeText(at), message })),
    422,
  )
}

async function apply(source: SiteSource, path: string | undefined, takeOver: boolean): Promise<Answer> {
  const { changes, complaints } = await source.apply(path, takeOver)
  if (errors(complaints).length > 0) return refused(errors(complaints))
  const json = {
    path: source.from,
    ownPath: source.path,
    counts: countChanges(changes),
    complaints: complaints.map(complaintJson),
  }
  return { status: 200, json }
}

async function diff(
  { director }: ApiContext,
  source: SiteSource,
  path: string | undefined,
  takeOver: boolean,
): Promise<Answer> {
  const { changes, complaints } = await source.diff(path, takeOver)
  if (errors(complaints).length > 0) return refused(errors(complaints))
  const count = await director.countConnections(new Turns())
  const servers = new Map(
    director.rules().map(({ service, servers: list }) => [serviceKey(service.id), list]),
  )
  const connections = (service: string, server: string | null): number =>
    server === null
      ? (servers.get(service) ?? []).reduce((sum, { id }) => sum + count(service, serverKey(id)), 0)
      : count(service, server)
  const json = {
    path: path ?? source.path,
    changes: changes.map((change) => changeJson(change, connections)),
    complaints: complaints.map(complaintJson),
  }
  return { status: 200, json }
}

/** What is not as it is by itself. */
function settings({ director, sources }: ApiContext): DirectorSettings {
  const timeouts = director.timeouts()
  const usual = initialSysctls()
  return {
    interfaces: sources.get('file')?.site?.director.interfaces ?? [],
    timeouts:
      timeouts.tcp === DEFAULT_TIMEOUTS.tcp &&
      timeouts.tcpFin === DEFAULT_TIMEOUTS.tcpFin &&
      timeouts.udp === DEFAULT_TIMEOUTS.udp
        ? null
        : timeouts,
    sysctls: Object.fromEntries(
      Object.entries(director.sysctls()).filter(([name, value]) => usual[name] !== value),
    ),
    daemons: director.daemons(),
    fullNat: director.fullNat().length === 0 ? null : director.fullNat(),
  }
}

/** What is denied or allowed until somebody deletes it, by identity of the service; '': for all. */
function filtersByService({ director }: ApiContext): ReadonlyMap<string, readonly SiteFilter[]> {
  const lists = new Map<string, SiteFilter[]>()
  for (const { prefix, action, service, leftMs } of director.filters()) {
    if (leftMs !== null) continue
    const key = service === null ? '' : serviceKey(service)
    const list = lists.get(key)
    if (list === undefined) lists.set(key, [{ prefix, action }])
    else list.push({ prefix, action })
  }
  return lists
}

/** The rules in force, oldest first, with the checks and policies of those that a source has stated. */
function* written(
  { director, sources }: ApiContext,
  filters: ReadonlyMap<string, readonly SiteFilter[]>,
): Generator<Written> {
  const limits = new Map(director.limits().map((limit) => [serviceKey(limit.service), limit]))
  const known = new Map(sources.services().map((one) => [serviceKey(one.service.id), one]))
  for (const { service, servers } of [...director.rules()].reverse()) {
    const own = known.get(serviceKey(service.id))
    const words = new Map(own?.servers.map((one) => [serverKey(one.real.id), one]))
    yield {
      service,
      servers: [...servers].reverse().map((real): SiteServer => {
        const said = words.get(serverKey(real.id))
        return { checks: said?.checks ?? [], policy: said?.policy ?? NO_SERVER_POLICY, pool: null, real }
      }),
      health: own?.health ?? DEFAULT_HEALTH_POLICY,
      filters: filters.get(serviceKey(service.id)) ?? [],
      limit: limits.get(serviceKey(service.id)) ?? null,
    }
  }
}

function* sitePieces(context: ApiContext): Generator<string> {
  const filters = filtersByService(context)
  const gate = { filters: filters.get('') ?? [], marks: context.director.marks() }
  const { services: _, ...head } = siteDocument(settings(context), [], gate)
  const text = JSON.stringify(head)
  yield text === '{}' ? '{"services":' : `${text.slice(0, -1)},"services":`
  yield* jsonArray(written(context, filters), (one) => [JSON.stringify(serviceDocument(one))])
  yield '}'
}

export const SOURCE_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/sources',
    summary: 'Where services come from, and how that stands',
    answers: { 200: { description: 'Sources', schema: sourcesAnswer } },
    handle: (context) => ({ status: 200, json: sourcesShown(context) }),
  }),
  route({
    method: 'GET',
    path: '/v1/site',
    summary: 'The rules in force as a configuration file says them',
    answers: { 200: { description: 'A configuration file, as JSON', schema: siteAnswer } },
    handle: (context) => ({ status: 200, pieces: sitePieces(context) }),
  }),
  route({
    method: 'POST',
    path: '/v1/diff',
    summary: 'What applying the configuration file would change, and how many connections that touches',
    body: sourceBody,
    answers: { 200: { description: 'Changes', schema: changesAnswer } },
    handle: async (context, { body }) => {
      const source = context.sources.get('file')
      return source === undefined ? NO_FILE : await diff(context, source, body.path, body.takeOver)
    },
  }),
  route({
    method: 'POST',
    path: '/v1/apply',
    summary: 'Read the configuration file and bring it in force: all of it, or nothing',
    body: sourceBody,
    answers: { 200: { description: 'Applied', schema: appliedAnswer } },
    handle: async ({ sources }, { body }) => {
      const source = sources.get('file')
      return source === undefined ? NO_FILE : await apply(source, body.path, body.takeOver)
    },
  }),
]

const NO_FILE = invalid([{ path: 'url', message: 'This daemon reads no configuration file' }], 404)
