/** Connections and what is counted. */
import { jsonArray } from '../json.ts'
import { noContent, type Route, route, settled } from '../route.ts'
import { countersJson, totalsAnswer } from '../schema/basic.ts'
import { connectionJson, connectionsAnswer, connectionsQuery } from '../schema/connection.ts'
import { zeroBody, zeroedService } from '../schema/service.ts'
import { verdictsAnswer } from '../schema/settings.ts'

export const CONNECTION_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/connections',
    summary: 'Live connections',
    query: connectionsQuery,
    answers: { 200: { description: 'Connections, in no particular order', schema: connectionsAnswer } },
    handle: ({ director }, { query }) => ({
      status: 200,
      pieces: jsonArray(
        director.connections(),
        (connection) => [JSON.stringify(connectionJson(connection))],
        query.limit,
      ),
    }),
  }),
  route({
    method: 'GET',
    path: '/v1/counters',
    summary: 'Counters and rates of the whole director',
    answers: { 200: { description: 'Totals', schema: totalsAnswer } },
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
    answers: { 204: { description: 'Zeroed' } },
    handle: (context, { body }) =>
      settled(context, 'body.service', context.director.zero(zeroedService(body)), noContent),
  }),
  route({
    method: 'GET',
    path: '/v1/verdicts',
    summary: 'Packets by verdict',
    answers: { 200: { description: 'Counts by name', schema: verdictsAnswer } },
    handle: (context) => ({
      status: 200,
      json: Object.fromEntries([...context.verdicts()].map(([name, count]) => [name, Number(count)])),
    }),
  }),
]
