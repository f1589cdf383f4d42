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
import { holdBody } from '../schema/source.ts'

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
  const { servers } = body
  try {
    const status = await director.transact(async (draft) => {
      const known = draft.service(id).ok
      const outcome = known ? draft.editService(request) : draft.addService(request)
      const refused = outcome.ok ? servers && putServers(draft, id, servers) : refusal('body', outcome)
      if (refused) throw new Refused(refused)
      return known ? 200 : 201
    })
    await director.settle([id])
    return showService(context, id, status)
  } catch (error) {
    if (error instanceof Refused) return error.answer
    throw error
  }
}

/** Ends a transaction, so that nothing of it happens. */
class Refused extends Error {
  readonly answer: Answer

  constructor(answer: Answer) {
    super('refused')
    this.answer = answer
  }
}

/**
 * The real servers become these; null, or what was refused. Removes first, so that what replaces them has
 * their room.
 */
function putServers(
  director: Director,
  id: ServiceId,
  entries: NonNullable<z.infer<typeof serviceBody>['servers']>,
): Answer | null {
  const wanted = new Set<string>()
  for (const [index, { address, port }] of entries.entries()) {
    const key = serverKey(serverId(address, port))
    if (wanted.has(key)) {
      const message = `Real server "${address}" port ${port} is named twice`
      return invalid([{ path: `body.servers.${index}`, message }])
    }
    wanted.add(key)
  }
  const before = director.service(id)
  const present = new Set<string>()
  for (const { id: server } of before.ok ? before.value.servers : []) {
    present.add(serverKey(server))
    if (!wanted.has(serverKey(server))) director.deleteServer(id, server)
  }
  for (const [index, entry] of entries.entries()) {
    const server = serverRequest(serverId(entry.address, entry.port), entry)
    const outcome = present.has(serverKey(server.id))
      ? director.editServer(id, server)
      : director.addServer(id, server)
    if (!outcome.ok) return refusal(`body.servers.${index}`, outcome)
  }
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

async function holdServer(
  context: ApiContext,
  id: ServiceId,
  server: ServerId,
  body: z.infer<typeof holdBody> | null,
): Promise<Answer> {
  const { director } = context
  const sinceMs = Date.now()
  const hold =
    body === null
      ? null
      : {
          weight: body.weight,
          sinceMs,
          untilMs: body.forS === undefined ? null : sinceMs + body.forS * 1000,
          by: body.by,
        }
  const outcome = director.hold(id, server, hold)
  if (!outcome.ok) return refusal('params', outcome)
  await director.settle([id])
  // Given back to a check that has found it down, it is in the list no more.
  return director.server(id, server).ok ? showServer(context, id, server) : noContent()
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
      method: 'PUT',
      path: `${memberPath}/hold`,
      summary: 'Hold the weight of a real server by hand, above its source and its checks',
      params: member,
      body: holdBody,
      answers: SERVER_SHOWN,
      handle: (context, input) => holdServer(context, ...both(input.params), input.body),
    }),
    route({
      method: 'DELETE',
      path: `${memberPath}/hold`,
      summary: 'End a hold',
      params: member,
      answers: SERVER_SHOWN,
      handle: (context, input) => holdServer(context, ...both(input.params), null),
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
