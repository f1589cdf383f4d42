/**
 * The page, and who may look at it over the network: it is read-only, asks nobody else, and is shown to nobody who
 * has come by a name of his own (DNS rebinding) or without the token.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { builtFile } from '../../../dataplane/assets.ts'
import { parseEndpoint } from '../../../net/endpoint.ts'
import { type Answer, type Endpoint, invalid } from './route.ts'

const FILES = [
  { path: '/', file: 'page.html', type: 'text/html; charset=utf-8' },
  { path: '/page.css', file: 'page.css', type: 'text/css; charset=utf-8' },
  { path: '/page.js', file: 'page.js', type: 'text/javascript; charset=utf-8' },
  { path: '/playground', file: 'playground.html', type: 'text/html; charset=utf-8' },
  { path: '/playground.js', file: 'playground.js', type: 'text/javascript; charset=utf-8' },
] as const
const PAGE: ReadonlySet<string> = new Set(FILES.map(({ path }) => path))

/** What the page asks for. */
const ASKED: ReadonlySet<string> = new Set([
  '/v1/overview',
  '/v1/status',
  '/v1/events/kept',
  '/v1/connections/page',
  '/v1/explain',
  '/v1/history',
])

export function isOfPage(path: string): boolean {
  return PAGE.has(path) || ASKED.has(path)
}

const policy = (script: string): string =>
  `default-src 'none'; script-src ${script}; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`

/** The playground compiles the packet program, and asks nobody. */
const PLAYGROUND_POLICY = policy("'self' 'wasm-unsafe-eval'").replace("connect-src 'self'; ", '')

export const WEB_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': policy("'self'"),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
}

/** They were made by the build, and are read once. */
export function pageEndpoints(): readonly Endpoint[] {
  return FILES.map(({ path, file, type }): Endpoint => {
    let bytes: Buffer | null = null
    return {
      method: 'GET',
      path,
      bodyMax: 0,
      alone: false,
      handle: () => {
        bytes ??= readFileSync(builtFile(file))
        const own = path === '/playground' ? { 'content-security-policy': PLAYGROUND_POLICY } : {}
        return { status: 200, headers: { 'content-type': type, ...own }, bytes }
      },
    }
  })
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

/** Null: the request may be answered. */
export function refuseWeb({ headers, url = '' }: IncomingMessage, token: string | null): Answer | null {
  const host = headers.host ?? ''
  if (!isAddress(host)) {
    const message = `"${host.slice(0, 100)}" is no address of this director: ask for it by its address, or as localhost`
    return invalid([{ path: 'headers.host', message }], 421)
  }
  if (headers['sec-fetch-site'] === 'cross-site' && !PAGE.has(url)) {
    return invalid([{ path: 'headers', message: 'Pages of others are told nothing' }], 403)
  }
  // The page itself says nothing of the director: it is what asks for the token.
  if (token === null || PAGE.has(url)) return null
  const [, given = ''] = /^Bearer (\S+)$/.exec(headers.authorization ?? '') ?? []
  if (timingSafeEqual(digest(given), digest(token))) return null
  return invalid([{ path: 'headers.authorization', message: 'A token is wanted: Bearer TOKEN' }], 401)
}

/** A name would be somebody's who has it lead here. */
function isAddress(host: string): boolean {
  return /^localhost(:\d{1,5})?$/i.test(host) || parseEndpoint(host) !== null
}
