/** The words of `pointsman` about configuration files, and about weights held by hand. */
import { readdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { ClientError, call, get, understood } from '../front/api/client.ts'
import { serviceTitle } from '../front/api/names.ts'
import { serverAnswer } from '../front/api/schema/service.ts'
import { siteAnswer } from '../front/api/schema/site.ts'
import { appliedAnswer, type ChangeShown, changesAnswer } from '../front/api/schema/source.ts'
import { placeText } from '../model/site.ts'
import { readSite } from '../source/file/read.ts'
import { jsonSchemaText, parseDuration } from '../source/file/schema.ts'
import { documentText } from '../source/file/write.ts'
import type { Shown } from './nouns.ts'
import { findService, serverPath } from './service-name.ts'
import { table } from './text.ts'

type Say = (notice: string) => void

/** Needs no daemon. */
export function checkFile(file: string): Shown {
  const { site, complaints } = readSite(file, {
    read: (path) => readFileSync(path, 'utf8'),
    list: (folder) => readdirSync(folder),
  })
  const servers = site?.services.reduce((sum, service) => sum + service.servers.length, 0) ?? 0
  return {
    json: {
      good: site !== null,
      services: site?.services.length ?? 0,
      realServers: servers,
      complaints: complaints.map(({ at, message, severity }) => ({ at: placeText(at), message, severity })),
    },
    text: () => {
      const lines = complaints.map(({ at, message }) => `${placeText(at)}: ${message}\n`)
      if (site !== null) lines.push(`${file}: ${site.services.length} services, ${servers} real servers\n`)
      return lines.join('')
    },
    good: site !== null,
  }
}

export const schemaText = jsonSchemaText

export async function applyFile(
  socket: string,
  file: string | undefined,
  takeOver: boolean,
  say: Say,
): Promise<Shown> {
  const body = { ...(file === undefined ? {} : { path: resolve(file) }), takeOver }
  const applied = understood(appliedAnswer, await call(socket, 'POST', '/v1/apply', body), 'POST /v1/apply')
  for (const { at, message } of applied.complaints) say(`${at}: ${message}`)
  if (applied.path !== applied.ownPath) {
    say(`the next reload and the next start read ${applied.ownPath}, not ${applied.path}`)
  }
  return {
    json: applied,
    text: () => {
      const counts = Object.entries(applied.counts).map(([what, count]) => `${what} ${count}`)
      return `${applied.path}: ${counts.length === 0 ? 'nothing has changed' : counts.join(', ')}\n`
    },
    good: true,
  }
}

export async function diffFile(socket: string, file: string | undefined, takeOver: boolean): Promise<Shown> {
  const body = { ...(file === undefined ? {} : { path: resolve(file) }), takeOver }
  const answer = understood(changesAnswer, await call(socket, 'POST', '/v1/diff', body), 'POST /v1/diff')
  return {
    json: answer,
    text: () =>
      answer.changes.length === 0 ? `${answer.path}: nothing would change\n` : changesText(answer.changes),
    good: true,
  }
}

const SIGNS: Readonly<Record<ChangeShown['change'], string>> = {
  'add service': '+',
  'edit service': '~',
  'delete service': '-',
  'take over': '>',
  'add server': '+',
  'edit server': '~',
  'delete server': '-',
  'add filter': '+',
  'delete filter': '-',
  'add limit': '+',
  'delete limit': '-',
  'add mark': '+',
  'delete mark': '-',
}

function changesText(changes: readonly ChangeShown[]): string {
  return table(
    changes.map(({ change, service, server, differences, hold, connections }) => {
      const held = hold === null ? [] : [`held by hand at ${hold.weight}`]
      const touches = !change.startsWith('add') && change !== 'take over' && !/filter|limit|mark/.test(change)
      const touched = touches ? `${connections} connections` : ''
      const title = service === null ? 'all services' : serviceTitle(service)
      return [
        SIGNS[change],
        server === undefined ? title : `  ${title} ${server}`,
        [...differences, ...held].join(', ') || change,
        touched,
      ]
    }),
  )
}

export async function exportSite(socket: string): Promise<Shown> {
  const { value, raw } = await get(socket, '/v1/site', siteAnswer)
  return { json: raw, text: () => documentText(value), good: true }
}

export async function drain(
  socket: string,
  name: string,
  real: string,
  time: string | undefined,
): Promise<string> {
  const ms = time === undefined ? undefined : parseDuration(time)
  if (ms === null || (ms !== undefined && ms < 1000)) {
    throw new ClientError(`Cannot read time "${time}": expected 10m, 90s, 2h`)
  }
  const path = `${serverPath(await findService(socket, name), real)}/hold`
  const forS = ms === undefined ? {} : { forS: Math.round(ms / 1000) }
  const body = { weight: 0, by: 'pointsman drain', ...forS }
  const server = understood(serverAnswer, await call(socket, 'PUT', path, body), `PUT ${path}`)
  const until = server.hold?.until == null ? '' : ` until ${server.hold.until}`
  const left = server.activeConns + server.inactiveConns
  return `held at weight 0${until}; ${left} connections go on; end it: pointsman undrain ${name} ${real}\n`
}

export async function undrain(socket: string, name: string, real: string): Promise<void> {
  await call(socket, 'DELETE', `${serverPath(await findService(socket, name), real)}/hold`)
}
