/** Limits: what services let each source do. */
import { noContent, type Route, route, settled } from '../route.ts'
import { serviceIdOf } from '../schema/filter.ts'
import { limitOf, limitsAnswer, limitsBody, limitsJson } from '../schema/limit.ts'

export const LIMIT_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/limits',
    summary: 'What services let each source do',
    answers: { 200: { description: 'Limits', schema: limitsAnswer } },
    handle: ({ director }) => ({ status: 200, json: limitsJson(director.limits()) }),
  }),
  route({
    method: 'POST',
    path: '/v1/limits',
    summary: 'Limit what each source may do, all at once',
    body: limitsBody,
    answers: { 204: { description: 'In force' } },
    handle: (context, { body }) => {
      const change = { delete: body.delete.map(serviceIdOf), add: body.add.map(limitOf) }
      return settled(context, 'body', context.director.changeLimits(change), noContent)
    },
  }),
]
