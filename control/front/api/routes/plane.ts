/** The data plane: how it is, another one, none. */
import { type Route, route } from '../route.ts'
import { dataplaneBody, detachAnswer, statusAnswer } from '../schema/status.ts'

const STATUS = { 200: { description: 'Status', schema: statusAnswer } }

export const PLANE_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/status',
    summary: 'Data plane, interfaces, program, sizes, what is not supported',
    answers: STATUS,
    handle: (context) => ({ status: 200, json: context.status() }),
  }),
  route({
    method: 'PUT',
    path: '/v1/dataplane',
    summary: 'Change the data plane; rules, connections and counters go along',
    body: dataplaneBody,
    answers: STATUS,
    alone: true,
    handle: async (context, { body }) => {
      await context.changePlane(body.kind)
      context.journal.add({ kind: 'dataplane', about: 'plane', words: `changed to ${body.kind}` })
      return { status: 200, json: context.status() }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/detach',
    summary: 'Stop forwarding: take the packet program off and forget connections; the daemon ends',
    answers: { 202: { description: 'Detached', schema: detachAnswer } },
    alone: true,
    handle: async (context) => {
      context.journal.add({ kind: 'dataplane', about: 'plane', words: 'detached' })
      await context.detach()
      return { status: 202, json: { detached: true } }
    },
  }),
]
