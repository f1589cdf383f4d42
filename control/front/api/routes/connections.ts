/** Connections and what is counted. */
import { Turns } from '../../../apply/turns.ts'
import { jsonArray } from '../json.ts'
import { type Answer, invalid, noContent, type Route, route, settled } from '../route.ts'
import { countersJson, totalsAnswer } from '../schema/basic.ts'
import {
  connectionJson,
  connectionPageAnswer,
  connectionPageJson,
  connectionPageQuery,
  connectionsAnswer,
  connectionsQuery,
} from '../schema/connection.ts'
import { zeroBody, zeroedService } from '../schema/service.ts'
import { verdictsAnswer } from '../schema/settings.ts'

/** Each looks at the whole table, which takes a part of a second of the daemon's thread. */
const PAGES_AT_ONCE = 4
let pagesUnderWay = 0

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
    path: '/v1/connections/page',
    summary: 'Some of the live connections: of those that are looked for, a page in an order',
    query: connectionPageQuery,
    answers: { 200: { description: 'A page of connections', schema: connectionPageAnswer } },
    handle: async ({ director }, { query: { after = null, ...query }, signal }): Promise<Answer> => {
      if (pagesUnderWay >= PAGES_AT_ONCE) return busy('Others look through the connections at this moment')
      pagesUnderWay++
      try {
        const page = await director.connectionPage({ ...query, after }, new Turns(), () => signal.aborted)
        if (page === null) return busy('The data plane is being changed')
        if (typeof page === 'string') return invalid([{ path: 'query', message: page }])
        return { status: 200, json: connectionPageJson(page) }
      } finally {
        pagesUnderWay--
      }
    },
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

function busy(why: string): Answer {
  return invalid([{ path: 'url', message: `${why}: ask again` }], 503)
}
