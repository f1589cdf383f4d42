/** Virtual services and their real servers. */
import type { z } from 'zod'
import type { Director } from '../../../model/director.ts'
import { serverKey } from '../../../model/identity.ts'
import type { ServerId } from '../../../model/server.ts'
import type { ServiceId, ServiceListing } from '../../../model/service.ts'
import { jsonArray } from '../json.ts'
import {
  type Answer,
  type ApiContext,
  invalid,
  noContent,
  type Route,
  refusal,
  route,
  settled,
} from '../route.ts'
import {
  addressService,
  addressServiceParams,
  markService,
  markServiceParams,
  type ServerParams,
  type ServiceShown,
  serverAnswer,
  serverBody,
  serverId,
  serverJson,
  serverParams,
  serverRequest,
  serviceAnswer,
  serviceBody,
  serviceJson,
  servicePieces,
  serviceRequest,
  servicesAnswer,
} from '../schema/service.ts'

function showService(context: ApiContext, id: ServiceId, status = 200): Answer {
  const service = context.director.service(id)
  return service.ok ? { status, json: shown(context.director, service.value) } : refusal('params', service)
}

function shown(director: Director, service: ServiceListing): ServiceShown {
  return serviceJson(service, director.unsupported(service, service.servers))
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
    const message = `Expected ${wanted}, got ${JSON.stringify(body.netmask)}`
    return invalid([{ path: 'body.netmask', message }])
  }
  const known = director.service(id)
  const outcome = known.ok ? director.editService(request) : director.addService(request)
  if (!outcome.ok) return refusal('body', outcome)
  const refused = body.servers === undefined ? null : putServers(context, id, body.servers)
  if (refused !== null) {
    if (known.ok) undo(director, known.value)
    else director.deleteService(id)
    return refused
  }
  await director.settle([id])
  return showService(context, id, known.ok ? 200 : 201)
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
    if (seen.has(key)) {
      const message = `Real server "${entry.address}" port ${entry.port} is named twice`
      return invalid([{ path, message }])
    }
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
  await director.settle([id])
  return showServer(context, id, server, known.ok ? 200 : 201)
}

function showServer(context: ApiContext, id: ServiceId, server: ServerId, status = 200): Answer {
  const found = context.director.server(id, server)
  return found.ok ? { status, json: serverJson(found.value) } : refusal('params', found)
}

const SHOWN = {
  200: { description: 'The service with its real servers, counters and rates', schema: serviceAnswer },
}
const PUT = { ...SHOWN, 201: { description: 'Created', schema: serviceAnswer } }
const SERVER_SHOWN = {
  200: { description: 'The real server with its connections, counters and rates', schema: serverAnswer },
}
const SERVER_PUT = { ...SERVER_SHOWN, 201: { description: 'Added', schema: serverAnswer } }
const DELETED = { 204: { description: 'Deleted' } }

/** The same six routes for services of an address and of a firewall mark. */
function serviceRoutes<T>(
  path: string,
  params: z.ZodObject & z.ZodType<T>,
  member: z.ZodObject & z.ZodType<T & ServerParams>,
  idOf: (params: T) => ServiceId,
): Route[] {
  const memberPath = `${path}/servers/{server}/{serverPort}`
  const both = (input: T & ServerParams): readonly [ServiceId, ServerId] => [
    idOf(input),
    serverId(input.server, input.serverPort),
  ]
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
        settled(context, 'params', context.director.deleteService(idOf(input.params)), noContent),
    }),
    route({
      method: 'GET',
      path: memberPath,
      summary: 'One real server',
      params: member,
      answers: SERVER_SHOWN,
      handle: (context, input) => showServer(context, ...both(input.params)),
    }),
    route({
      method: 'PUT',
      path: memberPath,
      summary: 'Add a real server, or replace its settings',
      params: member,
      body: serverBody,
      answers: SERVER_PUT,
      handle: (context, input) => putServer(context, ...both(input.params), input.body),
    }),
    route({
      method: 'DELETE',
      path: memberPath,
      summary: 'Remove a real server',
      params: member,
      answers: DELETED,
      handle: (context, input) =>
        settled(context, 'params', context.director.deleteServer(...both(input.params)), noContent, [
          idOf(input.params),
        ]),
    }),
  ]
}

export const SERVICE_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/services',
    summary: 'All virtual services, newest first',
    answers: { 200: { description: 'Services', schema: servicesAnswer } },
    handle: ({ director }) => ({
      status: 200,
      pieces: jsonArray(director.services(), (service) =>
        servicePieces(service, director.unsupported(service, service.servers)),
      ),
    }),
  }),
  route({
    method: 'DELETE',
    path: '/v1/services',
    summary: 'Delete all virtual services',
    answers: DELETED,
    handle: (context) => settled(context, '', context.director.flush(), noContent),
  }),
  ...serviceRoutes(
    '/v1/services/fwmark/{family}/{mark}',
    markServiceParams,
    markServiceParams.extend(serverParams.shape),
    markService,
  ),
  ...serviceRoutes(
    '/v1/services/{protocol}/{address}/{port}',
    addressServiceParams,
    addressServiceParams.extend(serverParams.shape),
    addressService,
  ),
]
