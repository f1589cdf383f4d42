/** Health: how it is. */
import { type Route, route } from '../route.ts'
import { healthAnswer, healthJson } from '../schema/health.ts'

export const HEALTH_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/health',
    summary: 'Checks and what they came to, by service and real server',
    answers: { 200: { description: 'Health', schema: healthAnswer } },
    handle: ({ health }) => ({ status: 200, json: healthJson(health.state()) }),
  }),
]
