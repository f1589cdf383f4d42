/** The HTTP server over the table of routes. */
import { Readable } from 'node:stream'
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify'
import type { z } from 'zod'
import { MachineError } from '../../../linux/machine-error.ts'
import { CapacityError } from '../../plan/plan.ts'
import { registerIpvsadm } from '../ipvsadm/endpoint.ts'
import { Gate } from './gate.ts'
import { type Answer, type ApiContext, ROUTES, type Route } from './routes.ts'

/** Bytes of a request; a service of 10,000 real servers is about one megabyte. */
const BODY_MAX = 64 * 1024 * 1024

/** The value a validation issue is about, as JSON; undefined where there is none. */
function valueAt(input: unknown, path: readonly PropertyKey[]): string | undefined {
  let value: unknown = input
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined
    value = Reflect.get(value, key)
  }
  return value === undefined ? undefined : JSON.stringify(value)
}

/** The first thing wrong with `input`, with its path and value; null if nothing is. */
export function validationError(
  schema: z.ZodType,
  input: unknown,
  where: string,
): { path: string; message: string } | null {
  const result = schema.safeParse(input)
  if (result.success) return null
  const issue = result.error.issues[0]
  if (issue === undefined) return { path: where, message: 'Invalid' }
  const path = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0] ?? ''] : issue.path
  const value = valueAt(input, path)
  const what = issue.code === 'unrecognized_keys' ? 'Unknown field' : issue.message
  return {
    path: [where, ...path.map(String)].join('.'),
    message: value === undefined ? what : `${what}, got ${value}`,
  }
}

function send(
  reply: { code(status: number): { send(payload?: unknown): unknown; type(t: string): unknown } },
  answer: Answer,
): unknown {
  const started = reply.code(answer.status)
  if ('pieces' in answer) {
    started.type('application/json')
    return started.send(Readable.from(chunks(answer.pieces), { objectMode: false }))
  }
  return started.send(answer.json)
}

const CHUNK = 64 * 1024

/** Larger pieces, so that a listing of a million rows is not a million writes. */
function* chunks(pieces: Iterable<string>): Generator<string> {
  let text = ''
  for (const piece of pieces) {
    text += piece
    if (text.length < CHUNK) continue
    yield text
    text = ''
  }
  if (text !== '') yield text
}

async function answer(
  route: Route,
  context: ApiContext,
  input: { params: unknown; query: unknown; body: unknown },
): Promise<Answer> {
  for (const part of ['params', 'query', 'body'] as const) {
    const schema = route[part]
    if (schema === undefined) continue
    const error = validationError(schema, input[part], part)
    if (error !== null) return { status: 400, json: { error } }
  }
  try {
    return await route.handle(context, input)
  } catch (error) {
    if (error instanceof CapacityError) {
      return { status: 507, json: { error: { path: '', message: error.message, errno: 'ENOMEM' } } }
    }
    if (!(error instanceof MachineError)) throw error
    return { status: 409, json: { error: { path: 'body', message: error.message } } }
  }
}

/** Builds the server; the caller listens. Every request passes the gate. */
export function createApi(
  context: ApiContext,
  log: (error: unknown) => void,
  gate: Gate = new Gate(),
): FastifyInstance {
  const app = Fastify({ bodyLimit: BODY_MAX, routerOptions: { maxParamLength: 64 } })
  const inside = new WeakSet<object>()
  app.addHook('onRequest', async (request) => {
    await gate.enter()
    inside.add(request)
  })
  const leave = (request: object): void => {
    if (inside.delete(request)) gate.leave()
  }
  app.addHook('onResponse', async (request) => leave(request))
  app.addHook('onRequestAbort', async (request) => leave(request))
  app.setErrorHandler((error: FastifyError, _request, reply) => {
    const status = error.statusCode ?? 500
    if (status >= 500) log(error)
    const message = status >= 500 ? 'The daemon failed; its log says more' : error.message
    return reply.code(status).send({ error: { path: 'body', message } })
  })
  app.setNotFoundHandler((request, reply) =>
    reply.code(404).send({ error: { path: 'url', message: `No ${request.method} "${request.url}"` } }),
  )
  // A POST or DELETE without a body may still carry the type of one.
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
    const text = String(body)
    if (text === '') {
      done(null, undefined)
      return
    }
    try {
      done(null, JSON.parse(text))
    } catch (error) {
      done(Object.assign(new Error(`Cannot parse the body as JSON: ${String(error)}`), { statusCode: 400 }))
    }
  })
  for (const route of ROUTES) {
    app.route({
      method: route.method,
      url: route.path.replace(/\{(\w+)\}/g, ':$1'),
      handler: async (request, reply) => {
        const input = { params: request.params, query: request.query, body: request.body ?? {} }
        return send(reply, await answer(route, context, input))
      },
    })
  }
  registerIpvsadm(app, context.director)
  return app
}
