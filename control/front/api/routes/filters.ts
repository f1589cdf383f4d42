/** Filters: sources that are denied or allowed. */
import { jsonArray } from '../json.ts'
import { noContent, type Route, route, settled } from '../route.ts'
import { batchOf, filterJson, filtersAnswer, filtersBody, flushOf } from '../schema/filter.ts'

export const FILTER_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/filters',
    summary: 'Sources that are denied or allowed, in no particular order',
    answers: { 200: { description: 'Filters', schema: filtersAnswer } },
    handle: ({ director }) => ({
      status: 200,
      pieces: jsonArray(director.filters(), (filter) => [JSON.stringify(filterJson(filter))]),
    }),
  }),
  route({
    method: 'POST',
    path: '/v1/filters',
    summary: 'Deny or allow sources, all at once',
    body: filtersBody,
    answers: { 204: { description: 'In force' } },
    handle: (context, { body }) => {
      const change = {
        flush: flushOf(body.flush),
        delete: body.delete.map(batchOf),
        add: body.add.map(batchOf),
      }
      return settled(context, 'body', context.director.changeFilters(change), noContent)
    },
  }),
]
