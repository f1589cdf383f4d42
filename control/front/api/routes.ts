/** The API as a table: what each route takes, what it does. The server and the OpenAPI document read it. */
import { z } from 'zod'
import { parseAddress } from '../../../net/address.ts'
import type { Director } from '../../model/director.ts'
import { serverKey } from '../../model/identity.ts'
import type { Errno, Outcome } from '../../model/outcome.ts'
import type { ServerId } from '../../model/server.ts'
import type { ServiceId, ServiceListing } from '../../model/service.ts'
import { unsupported } from '../../model/supported.ts'
import {
  addressService,
  addressServiceParams,
  connectionJson,
  countersJson,
  daemonBody,
  dataplaneBody,
  markService,
  markServiceParams,
  serverBody,
  serverId,
  serverJson,
  serverParams,
  serverRequest,
  serviceBody,
  serviceJson,
  serviceRequest,
  sysctlBody,
  timeoutsBody,
  zeroBody,
  zeroedService,
} from './schema.ts'

/** What the routes work on. */
export interface ApiContext {
  readonly director: Director
  status(): object
  verdicts(): ReadonlyMap<string, bigint>
  /** Carries on with another data plane; rules, connections and counters go along. */
  changePlane(kind: 'xdp' | 'userspace'): Promise<void>
  /** Takes the packet program off; the daemon ends after the answer. */
  detach(): Promise<void>
}

export type Answer =
  | { readonly status: number; readonly json?: unknown }
  /** A JSON document in pieces, for what may be larger than memory should hold twice. */
  | { readonly status: number; readonly pieces: Iterable<string> }

export interface Route {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  /** In the manner of OpenAPI: `/v1/sysctls/{name}`. */
  readonly path: string
  readonly summary: string
  readonly params?: z.ZodObject
  readonly query?: z.ZodObject
  readonly body?: z.ZodType
  /** Statuses besides those of refusals. */
  readonly answers: Readonly<Record<number, string>>
  handle(
    context: ApiContext,
    input: { params: unknown; query: unknown; body: unknown },
  ): Promise<Answer> | Answer
}

interface Typed<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType> {
  readonly method: Route['method']
  readonly path: string
  readonly summary: string
  readonly params?: P
  readonly query?: Q
  readonly body?: B
  readonly answers: Route['answers']
  handle(
    context: ApiContext,
    input: { params: z.infer<P>; query: z.infer<Q>; body: z.infer<B> },
  ): Promise<Answer> | Answer
}

const nothing = z.object({})

/** Ties the handler's types to the schemas; the server parses before it calls. */
function route<
  P extends z.ZodObject = typeof nothing,
  Q extends z.ZodObject = typeof nothing,
  B extends z.ZodType = typeof nothing,
>(typed: Typed<P, Q, B>): Route {
  const { params, query, body, handle, ...rest } = typed
  return {
    ...rest,
    ...(params === undefined ? {} : { params }),
    ...(query === undefined ? {} : { query }),
    ...(body === undefined ? {} : { body }),
    handle: (context, input) =>
      handle(context, {
        params: (params ?? nothing).parse(input.params) as z.infer<P>,
        query: (query ?? nothing).parse(input.query) as z.infer<Q>,
        body: (body ?? nothing).parse(input.body) as z.infer<B>,
      }),
  }
}

/** IPVS's refusals as HTTP statuses. */
const STATUS: Readonly<Record<Errno, number>> = {
  EPERM: 403,
  ENOENT: 404,
  ESRCH: 404,
  EEXIST: 409,
  EINVAL: 422,
  ERANGE: 422,
  ENODEV: 422,
  EAFNOSUPPORT: 422,
  ENOPROTOOPT: 422,
  EOPNOTSUPP: 422,
  EMSGSIZE: 413,
  ENOMEM: 507,
  ENOSPC: 507,
}

function refusal(path: string, outcome: Outcome<unknown> & { ok: false }): Answer {
  const { errno, message } = outcome
  return { status: STATUS[errno], json: { error: { path, message, errno } } }
}

function invalid(path: string, message: string): Answer {
  return { status: 400, json: { error: { path, message } } }
}

/** The change is in force when the answer goes out. */
async function settled(
  context: ApiContext,
  path: string,
  outcome: Outcome<unknown>,
  answer: Answer,
): Promise<Answer> {
  if (!outcome.ok) return refusal(path, outcome)
  await context.director.settle()
  return answer
}

const NO_CONTENT: Answer = { status: 204 }

function showService(context: ApiContext, id: ServiceId, status = 200): Answer {
  const service = context.director.service(id)
  if (!service.ok) return refusal('params', service)
  return { status, json: serviceJson(service.value, unsupported(service.value, service.value.servers)) }
}

async function putService(
  context: ApiContext,
  id: ServiceId,
  body: z.infer<typeof serviceBody>,
): Promise<Answer> {
  const { director } = context
  const request = serviceRequest(id, body)
  if (request === null) {
    const wanted = id.family === 4 ? 'a dotted IPv4 mask' : 'a prefix length'
    return invalid('body.netmask', `Expected ${wanted}, got ${JSON.stringify(body.netmask)}`)
  }
  const known = director.service(id)
  const exists = known.ok
  const outcome = exists ? director.editService(request) : director.addService(request)
  if (!outcome.ok) return refusal('body', outcome)
  const refused = body.servers === undefined ? null : putServers(context, id, body.servers)
  if (refused !== null) {
    if (known.ok) undo(director, known.value)
    else director.deleteService(id)
    return refused
  }
  await director.settle()
  return showService(context, id, exists ? 200 : 201)
}

/** Nothing is settled yet: the rules become again what they were. */
function undo(director: Director, before: ServiceListing): void {
  const { id } = before
  director.editService(before)
  const now = director.service(id)
  const old = new Map(before.servers.map((server) => [serverKey(server.id), server]))
  for (const server of now.ok ? now.value.servers : []) {
    const was = old.get(serverKey(server.id))
    if (was === undefined) director.deleteServer(id, server.id)
    else director.editServer(id, was)
  }
}

/** Adds and edits first, removes last: a refusal leaves nothing that cannot be undone in place. */
function putServers(
  context: ApiContext,
  id: ServiceId,
  entries: NonNullable<z.infer<typeof serviceBody>['servers']>,
): Answer | null {
  const { director } = context
  const present = director.service(id)
  const gone = new Map(
    (present.ok ? present.value.servers : []).map(({ id: server }) => [serverKey(server), server]),
  )
  const seen = new Set<string>()
  for (const [index, entry] of entries.entries()) {
    const server = serverRequest(serverId(entry.address, entry.port), entry)
    const key = serverKey(server.id)
    const path = `body.servers.${index}`
    if (seen.has(key))
      return invalid(path, `Real server "${entry.address}" port ${entry.port} is named twice`)
    seen.add(key)
    const outcome = gone.has(key) ? director.editServer(id, server) : director.addServer(id, server)
    if (!outcome.ok) return refusal(path, outcome)
    gone.delete(key)
  }
  for (const server of gone.values()) director.deleteServer(id, server)
  return null
}

async function putServer(
  context: ApiContext,
  id: ServiceId,
  server: ServerId,
  body: z.infer<typeof serverBody>,
): Promise<Answer> {
  const { director } = context
  const known = director.server(id, server)
  if (!known.ok && known.errno !== 'ENOENT') return refusal('params', known)
  const request = serverRequest(server, body)
  const outcome = known.ok ? director.editServer(id, request) : director.addServer(id, request)
  if (!outcome.ok) return refusal('body', outcome)
  await director.settle()
  return showServer(context, id, server, known.ok ? 200 : 201)
}

function showServer(context: ApiContext, id: ServiceId, server: ServerId, status = 200): Answer {
  const found = context.director.server(id, server)
  return found.ok ? { status, json: serverJson(found.value) } : refusal('params', found)
}

const SHOWN = { 200: 'The service with its real servers, counters and rates' }
const PUT = { ...SHOWN, 201: 'Created' }
const DELETED = { 204: 'Deleted' }

/** The same five routes for services of an address and of a firewall mark. */
function serviceRoutes<P extends z.ZodObject>(
  path: string,
  params: P,
  toId: (params: z.infer<P>) => ServiceId,
): Route[] {
  const member = z.object({ ...params.shape, ...serverParams })
  const memberPath = `${path}/servers/{server}/{serverPort}`
  const idOf = (input: unknown): ServiceId => toId(params.parse(input) as z.infer<P>)
  const serverOf = (input: unknown): ServerId => {
    const { server, serverPort } = z.object(serverParams).parse(input)
    return serverId(server, Number(serverPort))
  }
  return [
    route({
      method: 'GET',
      path,
      summary: 'One virtual service',
      params,
      answers: SHOWN,
      handle: (context, input) => showService(context, idOf(input.params)),
    }),
    route({
      method: 'PUT',
      path,
      summary: 'Create a virtual service, or replace its settings and, if given, its real servers',
      params,
      body: serviceBody,
      answers: PUT,
      handle: (context, input) => putService(context, idOf(input.params), input.body),
    }),
    route({
      method: 'DELETE',
      path,
      summary: 'Delete a virtual service and its real servers',
      params,
      answers: DELETED,
      handle: (context, input) =>
        settled(context, 'params', context.director.deleteService(idOf(input.params)), NO_CONTENT),
    }),
    route({
      method: 'GET',
      path: memberPath,
      summary: 'One real server',
      params: member,
      answers: { 200: 'The real server with its connections, counters and rates' },
      handle: (context, input) => showServer(context, idOf(input.params), serverOf(input.params)),
    }),
    route({
      method: 'PUT',
      path: memberPath,
      summary: 'Add a real server, or replace its settings',
      params: member,
      body: serverBody,
      answers: { 200: 'The real server', 201: 'Added' },
      handle: (context, input) => putServer(context, idOf(input.params), serverOf(input.params), input.body),
    }),
    route({
      method: 'DELETE',
      path: memberPath,
      summary: 'Remove a real server',
      params: member,
      answers: DELETED,
      handle: (context, input) =>
        settled(
          context,
          'params',
          context.director.deleteServer(idOf(input.params), serverOf(input.params)),
          NO_CONTENT,
        ),
    }),
  ]
}

function* jsonArray(items: Iterable<object>, limit: number): Generator<string> {
  let count = 0
  yield '['
  for (const item of items) {
    if (count === limit) break
    yield `${count === 0 ? '' : ','}${JSON.stringify(item)}`
    count++
  }
  yield ']'
}

function* map<T, U>(items: Iterable<T>, by: (item: T) => U): Generator<U> {
  for (const item of items) yield by(item)
}

export const ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/status',
    summary: 'Data plane, interfaces, program, sizes, what is not supported',
    answers: { 200: 'Status' },
    handle: (context) => ({ status: 200, json: context.status() }),
  }),
  route({
    method: 'GET',
    path: '/v1/services',
    summary: 'All virtual services, newest first',
    answers: { 200: 'Services' },
    handle: ({ director }) => ({
      status: 200,
      pieces: jsonArray(
        map(director.services(), (service) => serviceJson(service, unsupported(service, service.servers))),
        Number.POSITIVE_INFINITY,
      ),
    }),
  }),
  route({
    method: 'DELETE',
    path: '/v1/services',
    summary: 'Delete all virtual services',
    answers: DELETED,
    handle: (context) => settled(context, '', context.director.flush(), NO_CONTENT),
  }),
  ...serviceRoutes('/v1/services/fwmark/{family}/{mark}', markServiceParams, markService),
  ...serviceRoutes('/v1/services/{protocol}/{address}/{port}', addressServiceParams, addressService),
  route({
    method: 'GET',
    path: '/v1/connections',
    summary: 'Live connections',
    query: z.object({
      limit: z
        .string()
        .regex(/^\d{1,9}$/, 'expected a number')
        .optional(),
    }),
    answers: { 200: 'Connections, in no particular order' },
    handle: ({ director }, { query }) => ({
      status: 200,
      pieces: jsonArray(
        map(director.connections(), connectionJson),
        query.limit === undefined ? Number.POSITIVE_INFINITY : Number(query.limit),
      ),
    }),
  }),
  route({
    method: 'GET',
    path: '/v1/counters',
    summary: 'Counters and rates of the whole director',
    answers: { 200: 'Totals' },
    handle: ({ director }) => {
      const { counters, rates } = director.totals()
      return { status: 200, json: { counters: countersJson(counters), rates } }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/zero',
    summary: 'Zero counters and rates of one service, or of everything',
    body: zeroBody,
    answers: { 204: 'Zeroed' },
    handle: (context, { body }) =>
      settled(context, 'body.service', context.director.zero(zeroedService(body)), NO_CONTENT),
  }),
  route({
    method: 'GET',
    path: '/v1/verdicts',
    summary: 'Packets by verdict',
    answers: { 200: 'Counts by name; those that never occurred are left out' },
    handle: (context) => ({
      status: 200,
      json: Object.fromEntries([...context.verdicts()].map(([name, count]) => [name, Number(count)])),
    }),
  }),
  route({
    method: 'GET',
    path: '/v1/timeouts',
    summary: 'Timeouts of connections, in seconds',
    answers: { 200: 'Timeouts' },
    handle: ({ director }) => ({ status: 200, json: director.timeouts() }),
  }),
  route({
    method: 'PUT',
    path: '/v1/timeouts',
    summary: 'Change timeouts; 0 or left out keeps a value',
    body: timeoutsBody,
    answers: { 200: 'Timeouts' },
    handle: async (context, { body }) => {
      const { director } = context
      const wanted = { tcp: body.tcp ?? 0, tcpFin: body.tcpFin ?? 0, udp: body.udp ?? 0 }
      const outcome = director.setTimeouts(wanted)
      return await settled(context, 'body', outcome, { status: 200, json: director.timeouts() })
    },
  }),
  route({
    method: 'GET',
    path: '/v1/sysctls',
    summary: 'Settings by the names of net.ipv4.vs',
    answers: { 200: 'Settings' },
    handle: ({ director }) => ({ status: 200, json: director.sysctls() }),
  }),
  route({
    method: 'PUT',
    path: '/v1/sysctls/{name}',
    summary: 'Change a setting',
    params: z.object({ name: z.string() }),
    body: sysctlBody,
    answers: { 200: 'The setting' },
    handle: (context, { params, body }) =>
      settled(context, 'body.value', context.director.setSysctl(params.name, body.value), {
        status: 200,
        json: { [params.name]: body.value },
      }),
  }),
  route({
    method: 'GET',
    path: '/v1/daemons',
    summary: 'Synchronisation daemons, master first',
    answers: { 200: 'Daemons' },
    handle: ({ director }) => ({ status: 200, json: director.daemons() }),
  }),
  route({
    method: 'PUT',
    path: '/v1/daemons/{state}',
    summary: 'Start a synchronisation daemon',
    params: z.object({ state: z.enum(['master', 'backup']) }),
    body: daemonBody,
    answers: { 201: 'Started' },
    handle: (context, { params, body }) => {
      const { group, ...rest } = body
      const parsed = group === undefined ? null : parseAddress(group)
      const outcome = context.director.startDaemon({
        ...rest,
        state: params.state,
        ...(parsed === null ? {} : { group: parsed }),
      })
      const daemon = context.director.daemons().find(({ state }) => state === params.state)
      return settled(context, 'body', outcome, { status: 201, json: daemon })
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/daemons/{state}',
    summary: 'Stop a synchronisation daemon',
    params: z.object({ state: z.enum(['master', 'backup']) }),
    answers: { 204: 'Stopped' },
    handle: (context, { params }) =>
      settled(context, 'params.state', context.director.stopDaemon(params.state), NO_CONTENT),
  }),
  route({
    method: 'PUT',
    path: '/v1/dataplane',
    summary: 'Change the data plane; rules, connections and counters go along',
    body: dataplaneBody,
    answers: { 200: 'Status' },
    handle: async (context, { body }) => {
      await context.changePlane(body.kind)
      return { status: 200, json: context.status() }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/detach',
    summary: 'Stop forwarding: take the packet program off and forget connections; the daemon ends',
    answers: { 202: 'Detached' },
    handle: async (context) => {
      await context.detach()
      return { status: 202, json: { detached: true } }
    },
  }),
]
