/** What explaining a packet takes: a copy of the maps, and ways that only the kernel knows. */
import { z } from 'zod'
import { type Answer, invalid, type Route, route } from '../route.ts'
import { explainQuery, explanationAnswer } from '../schema/explanation.ts'
import { nextHopAnswer, nextHopJson, nextHopQuery } from '../schema/next-hop.ts'

const noPlane = (): Answer =>
  invalid([{ path: 'url', message: 'This daemon only keeps rules: no packet meets them' }], 409)

export const EXPLAIN_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/explain',
    summary: 'What would become of a packet, and why, by a copy of the maps; nothing is changed by asking',
    query: explainQuery,
    answers: { 200: { description: 'Its way, step by step', schema: explanationAnswer } },
    handle: async (context, { query, signal }): Promise<Answer> => {
      const answer = await context.explain(query, signal)
      if (answer === null) return noPlane()
      if ('refused' in answer) return invalid([{ path: 'query', message: answer.refused }])
      if ('busy' in answer) return invalid([{ path: 'url', message: answer.busy }], 503)
      return { status: 200, json: answer.explanation }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/snapshot',
    summary: 'The maps as they are, for pointsman explain; nothing is changed by asking',
    query: z.object({
      hops: z.enum(['0', '1']).optional().meta({ description: '1: the next hops of real servers, too' }),
    }),
    answers: { 200: { description: 'application/octet-stream; control/insight/explain/snapshot.ts' } },
    handle: (context, { query }): Answer => {
      const pieces = context.snapshot(query.hops === '1')
      if (pieces !== null)
        return { status: 200, headers: { 'content-type': 'application/octet-stream' }, pieces }
      return noPlane()
    },
  }),
  route({
    method: 'GET',
    path: '/v1/next-hop',
    summary: 'The way of a packet to an address, as the kernel says; nothing is changed by asking',
    query: nextHopQuery,
    answers: { 200: { description: 'The next hop, or why there is none', schema: nextHopAnswer } },
    handle: (context, { query: { to, from, ifindex, tos } }) => {
      const asked = { to: to!, from: from ?? null, ifindex: ifindex ?? null, tos: tos ?? 0 }
      return { status: 200, json: nextHopJson(context.nextHop(asked)) }
    },
  }),
]
