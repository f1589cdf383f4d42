/** From a request's line to the route that answers it. */
import type { IncomingMessage } from 'node:http'
import { type Answer, type Endpoint, invalid } from './route.ts'
import { isOfPage } from './web.ts'

/** All of the API, all of it that only reads, nothing but metrics, or the page with what it asks for. */
export type Access = 'all' | 'read-only' | 'metrics' | 'web'

export const METRICS_PATH = '/metrics'

export interface Found {
  readonly endpoint: Endpoint
  readonly params: Readonly<Record<string, string>>
  readonly query: Readonly<Record<string, string>>
}

interface Row {
  readonly endpoint: Endpoint
  /** Parts of the path; those of parameters are their names in braces. */
  readonly parts: readonly string[]
}

export function routingTable(endpoints: readonly Endpoint[]): readonly Row[] {
  return endpoints.map((endpoint) => ({ endpoint, parts: endpoint.path.split('/') }))
}

/** The parameters; null if it is another path. */
function match(pattern: readonly string[], parts: readonly string[]): Record<string, string> | null {
  if (pattern.length !== parts.length) return null
  const params: Record<string, string> = {}
  for (const [index, wanted] of pattern.entries()) {
    const part = parts[index]!
    if (wanted.startsWith('{')) params[wanted.slice(1, -1)] = part
    else if (wanted !== part) return null
  }
  return params
}

/** @returns the route, or the refusal */
export function findRoute(
  table: readonly Row[],
  { method = '', url = '' }: IncomingMessage,
  access: Access,
): Found | Answer {
  const mark = url.indexOf('?')
  let parts: string[]
  try {
    parts = (mark < 0 ? url : url.slice(0, mark)).split('/').map(decodeURIComponent)
  } catch {
    return invalid([{ path: 'url', message: `Cannot decode "${url}"` }])
  }
  const allowed: string[] = []
  for (const { endpoint, parts: pattern } of table) {
    const params = match(pattern, parts)
    if (params === null) continue
    if (access === 'metrics' && endpoint.path !== METRICS_PATH) continue
    if (access === 'web' && !isOfPage(endpoint.path)) continue
    if (endpoint.method !== method) {
      allowed.push(endpoint.method)
      continue
    }
    if (access !== 'all' && method !== 'GET') {
      const message = 'This socket only answers GET: changes go to pointsman.sock'
      return invalid([{ path: 'url', message }], 403)
    }
    const query = mark < 0 ? {} : Object.fromEntries(new URLSearchParams(url.slice(mark)))
    return { endpoint, params, query }
  }
  if (allowed.length === 0) return invalid([{ path: 'url', message: `No ${method} "${url}"` }], 404)
  const message = `No ${method} "${url}": expected ${allowed.join(', ')}`
  return invalid([{ path: 'url', message }], 405)
}
