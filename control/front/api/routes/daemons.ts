/** Synchronisation daemons. */
import { noContent, type Route, route, settled } from '../route.ts'
import { daemonAnswer, daemonBody, daemonParams, daemonsAnswer } from '../schema/daemon.ts'

export const DAEMON_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/daemons',
    summary: 'Synchronisation daemons, master first',
    answers: { 200: { description: 'Daemons', schema: daemonsAnswer } },
    handle: ({ director }) => ({ status: 200, json: director.daemons() }),
  }),
  route({
    method: 'PUT',
    path: '/v1/daemons/{state}',
    summary: 'Start a synchronisation daemon',
    params: daemonParams,
    body: daemonBody,
    answers: { 201: { description: 'Started', schema: daemonAnswer } },
    handle: (context, { params: { state }, body }) => {
      const { director } = context
      return settled(context, 'body', director.startDaemon({ ...body, state }), () => ({
        status: 201,
        json: director.daemons().find((daemon) => daemon.state === state),
      }))
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/daemons/{state}',
    summary: 'Stop a synchronisation daemon',
    params: daemonParams,
    answers: { 204: { description: 'Stopped' } },
    handle: (context, { params }) =>
      settled(context, 'params.state', context.director.stopDaemon(params.state), noContent),
  }),
]
