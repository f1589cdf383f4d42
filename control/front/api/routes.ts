/** The API as a table. The server and the OpenAPI document read it. */
import type { Route } from './route.ts'
import { CONNECTION_ROUTES } from './routes/connections.ts'
import { DAEMON_ROUTES } from './routes/daemons.ts'
import { EVENT_ROUTES } from './routes/events.ts'
import { EXPLAIN_ROUTES } from './routes/explain.ts'
import { FILTER_ROUTES } from './routes/filters.ts'
import { FULL_NAT_ROUTES } from './routes/full-nat.ts'
import { HEALTH_ROUTES } from './routes/health.ts'
import { LIMIT_ROUTES } from './routes/limits.ts'
import { MARK_ROUTES } from './routes/marks.ts'
import { METRICS_ROUTES } from './routes/metrics.ts'
import { PLANE_ROUTES } from './routes/plane.ts'
import { RECORDING_ROUTES } from './routes/recording.ts'
import { SERVICE_ROUTES } from './routes/services.ts'
import { SETTING_ROUTES } from './routes/settings.ts'
import { SOURCE_ROUTES } from './routes/sources.ts'

export const ROUTES: readonly Route[] = [
  ...PLANE_ROUTES,
  ...SERVICE_ROUTES,
  ...SOURCE_ROUTES,
  ...CONNECTION_ROUTES,
  ...SETTING_ROUTES,
  ...MARK_ROUTES,
  ...FILTER_ROUTES,
  ...LIMIT_ROUTES,
  ...FULL_NAT_ROUTES,
  ...DAEMON_ROUTES,
  ...HEALTH_ROUTES,
  ...EVENT_ROUTES,
  ...METRICS_ROUTES,
  ...EXPLAIN_ROUTES,
  ...RECORDING_ROUTES,
]
