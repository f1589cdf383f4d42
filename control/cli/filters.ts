/** The words of `pointsman deny` and `pointsman allow`: who may reach virtual services. */
import { readFileSync } from 'node:fs'
import { parsePrefix, prefixText } from '../../net/prefix.ts'
import { ClientError, call, get } from '../front/api/client.ts'
import { serviceTitle } from '../front/api/names.ts'
import { filtersAnswer } from '../front/api/schema/filter.ts'
import type { FilterAction } from '../model/filter.ts'
import { parseDuration } from '../source/file/schema.ts'
import type { Shown } from './nouns.ts'
import { findService } from './service-name.ts'
import { table } from './text.ts'

export interface FilterOptions {
  readonly file?: string
  readonly service?: string
  readonly for?: string
}

/** So many go in one request: the daemon serves others between two. */
const AT_ONCE = 20_000

export async function changeFilters(
  socket: string,
  action: FilterAction,
  what: 'add' | 'delete',
  words: readonly string[],
  options: FilterOptions,
): Promise<void> {
  const prefixes = [...words.map((text) => prefixOf(text, null)), ...fromFile(options.file)]
  if (prefixes.length === 0)
    throw new ClientError('Nothing to do: expected prefixes, or --file with some in it')
  const common = {
    action,
    ...(await serviceOf(socket, options.service)),
    ...(options.for === undefined ? {} : { forS: seconds(options.for) }),
  }
  for (let at = 0; at < prefixes.length; at += AT_ONCE) {
    const batch = { ...common, prefixes: prefixes.slice(at, at + AT_ONCE) }
    await call(socket, 'POST', '/v1/filters', { [what]: [batch] })
  }
}

function prefixOf(text: string, where: string | null): string {
  const prefix = parsePrefix(text)
  if (typeof prefix === 'string') throw new ClientError(where === null ? prefix : `${where}: ${prefix}`)
  return prefixText(prefix)
}

/** A prefix in each line, as blocklists have them: what stands behind it, and comments, do not count. */
function fromFile(file: string | undefined): string[] {
  if (file === undefined) return []
  const text = readFileSync(file === '-' ? 0 : file, 'utf8')
  return text.split('\n').flatMap((line, i) => {
    const [word = ''] = line
      .replace(/[#;].*/, '')
      .trim()
      .split(/\s+/)
    return word === '' ? [] : [prefixOf(word, `${file}:${i + 1}`)]
  })
}

function seconds(text: string): number {
  const ms = parseDuration(text)
  if (ms !== null && ms >= 1000) return Math.round(ms / 1000)
  throw new ClientError(`Cannot read time "${text}": expected 10m, 90s, 2h`)
}

async function serviceOf(socket: string, name: string | undefined): Promise<object> {
  if (name === undefined) return {}
  const { service } = await findService(socket, name)
  const { protocol, address, port, fwmark, family } = service
  return { service: fwmark === undefined ? { protocol, address, port } : { fwmark, family } }
}

export async function flushFilters(
  socket: string,
  action: FilterAction,
  options: FilterOptions,
): Promise<void> {
  const flush = { action, ...(await serviceOf(socket, options.service)) }
  await call(socket, 'POST', '/v1/filters', { flush })
}

export async function listFilters(socket: string, action: FilterAction): Promise<Shown> {
  const { value } = await get(socket, '/v1/filters', filtersAnswer)
  const filters = value.filter((filter) => filter.action === action)
  return {
    json: filters,
    text: () =>
      filters.length === 0
        ? `Nothing. Add something: pointsman ${action} add 198.51.100.0/24\n`
        : table([
            ['prefix', 'service', 'ends in', 'stated by'],
            ...filters.map(({ prefix, service, leftS, source }) => [
              prefix,
              service === null ? '*' : serviceTitle(service),
              leftS === null ? 'never' : `${leftS} s`,
              source,
            ]),
          ]),
    good: true,
  }
}
