/** Timeouts and settings. */
import { type Route, route, settled } from '../route.ts'
import {
  sysctlAnswer,
  sysctlBody,
  sysctlJson,
  sysctlParams,
  sysctlsAnswer,
  timeoutsAnswer,
  timeoutsBody,
} from '../schema/settings.ts'

const TIMEOUTS = { 200: { description: 'Timeouts', schema: timeoutsAnswer } }

export const SETTING_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/timeouts',
    summary: 'Timeouts of connections, in seconds',
    answers: TIMEOUTS,
    handle: ({ director }) => ({ status: 200, json: director.timeouts() }),
  }),
  route({
    method: 'PUT',
    path: '/v1/timeouts',
    summary: 'Change timeouts; 0 or left out keeps a value',
    body: timeoutsBody,
    answers: TIMEOUTS,
    handle: (context, { body }) => {
      const { director } = context
      const wanted = { tcp: body.tcp ?? 0, tcpFin: body.tcpFin ?? 0, udp: body.udp ?? 0 }
      return settled(context, 'body', director.setTimeouts(wanted), () => ({
        status: 200,
        json: director.timeouts(),
      }))
    },
  }),
  route({
    method: 'GET',
    path: '/v1/sysctls',
    summary: 'Settings by the names of net.ipv4.vs',
    answers: { 200: { description: 'Settings', schema: sysctlsAnswer } },
    handle: ({ director }) => ({ status: 200, json: director.sysctls() }),
  }),
  route({
    method: 'PUT',
    path: '/v1/sysctls/{name}',
    summary: 'Change a setting',
    params: sysctlParams,
    body: sysctlBody,
    answers: { 200: { description: 'The setting, and whether anything acts on it', schema: sysctlAnswer } },
    handle: (context, { params: { name }, body: { value } }) =>
      settled(context, 'body.value', context.director.setSysctl(name, value), () => ({
        status: 200,
        json: sysctlJson(name, value),
      })),
  }),
]
