/** Metrics, for Prometheus and whoever speaks like it. */
import { z } from 'zod'
import { type Answer, invalid, METRICS_DETAILS, type MetricsFormat, type Route, route } from '../route.ts'
import { METRICS_PATH } from '../router.ts'
import { historyAnswer, historyQuery } from '../schema/history.ts'
import { overviewAnswer, overviewQuery } from '../schema/overview.ts'

const CONTENT_TYPES: Readonly<Record<MetricsFormat, string>> = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
}

const metrics = route({
  method: 'GET',
  path: METRICS_PATH,
  summary: 'All that is measured, as Prometheus text or, if the client accepts it, as OpenMetrics',
  query: z.object({
    detail: z
      .enum(METRICS_DETAILS)
      .optional()
      .meta({ description: 'how finely; left out: as pointsmand --metrics-detail says' }),
    format: z
      .enum(['text', 'openmetrics'])
      .optional()
      .meta({ description: 'left out: by the Accept header' }),
  }),
  answers: { 200: { description: 'text/plain; version=0.0.4, or application/openmetrics-text' } },
  handle: (context, { query }): Answer => {
    const format = query.format ?? 'text'
    const pieces = context.metrics(format, query.detail ?? null)
    if (pieces === null) {
      const message = 'Others are being told the metrics at this moment: ask again'
      return invalid([{ path: 'url', message }], 503)
    }
    return { status: 200, headers: { 'content-type': CONTENT_TYPES[format] }, pieces }
  },
})

export const METRICS_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/overview',
    summary: 'The director at a glance: the busiest services, one of them in full, verdicts',
    query: overviewQuery,
    answers: { 200: { description: 'Overview', schema: overviewAnswer } },
    handle: async (context, { query }) => ({ status: 200, json: await context.overview(query) }),
  }),
  route({
    method: 'GET',
    path: '/v1/history',
    summary: 'The last hour: rates and connections of the director, and how healthy a service was',
    query: historyQuery,
    answers: { 200: { description: 'History', schema: historyAnswer } },
    handle: (context, { query }) => ({ status: 200, json: context.history(query.service ?? null) }),
  }),
  {
    ...metrics,
    handle: (context, asked) => {
      const accepts = String(asked.headers.accept ?? '').includes('application/openmetrics-text')
      const query = { ...(accepts ? { format: 'openmetrics' } : {}), ...asked.query }
      return metrics.handle(context, { ...asked, query })
    },
  },
]
