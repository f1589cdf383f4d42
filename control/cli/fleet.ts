/** Words about a fleet: publishing for all of its directors, and how they stand. */
import { readdirSync, readFileSync } from 'node:fs'
import { hostname, userInfo } from 'node:os'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ClientError, get } from '../front/api/client.ts'
import { sourcesAnswer } from '../front/api/schema/source.ts'
import { placeText } from '../model/site.ts'
import type { DirectorReport, FleetTexts } from '../registry/fleet/document.ts'
import { Fleet } from '../registry/fleet/fleet.ts'
import { FLEET_FORM, isFleetPlace, parseFleetPlace } from '../registry/fleet/place.ts'
import { readSite } from '../source/file/read.ts'
import type { Shown } from './nouns.ts'
import { age, table } from './text.ts'

type Say = (notice: string) => void

/** How long directors are given to take it: they need some milliseconds, and checks of theirs may be slow. */
const TAKEN_MS = 5000
const LOOK_MS = 100
/** What a reload would say. */
const COMPLAINTS_MAX = 20

async function withFleet<T>(text: string, act: (fleet: Fleet) => Promise<T>): Promise<T> {
  const place = parseFleetPlace(text)
  if (place === null) throw new ClientError(`Cannot use "${text}": ${FLEET_FORM}`)
  const fleet = new Fleet(place)
  try {
    return await act(fleet)
  } finally {
    fleet.close()
  }
}

const whoWeAre = (): string => `${userInfo().username}@${hostname()}`

/** All that the file names, too; what is wrong reaches nobody. */
function textsOf(file: string): FleetTexts {
  const files = new Map<string, string>()
  const folders = new Map<string, readonly string[]>()
  const main = resolve(file)
  const { site, complaints } = readSite(main, {
    read: (path) => {
      const text = readFileSync(path, 'utf8')
      files.set(path, text)
      return text
    },
    list: (folder) => {
      const names = readdirSync(folder)
      folders.set(folder, names)
      return names
    },
  })
  if (site === null) {
    const lines = complaints.slice(0, COMPLAINTS_MAX).map(({ at, message }) => `${placeText(at)}: ${message}`)
    throw new ClientError(`Cannot publish ${file}, nothing has changed:\n${lines.join('\n')}`)
  }
  return { main, files, folders }
}

export async function publish(to: string, file: string, say: Say): Promise<Shown> {
  const texts = textsOf(file)
  return await withFleet(to, async (fleet) => {
    const number = await fleet.publish(texts, whoWeAre(), Date.now())
    say(`revision ${number} is published`)
    return await taken(fleet, number)
  })
}

/** @param to its number; null: the one before */
export async function rollback(at: string, to: number | null, say: Say): Promise<Shown> {
  return await withFleet(at, async (fleet) => {
    const { number } = await fleet.current()
    const wanted = to ?? number - 1
    const revision = wanted < 1 ? null : await fleet.revision(wanted)
    if (revision === null)
      throw new ClientError(`Cannot go back to revision ${wanted}: there is no such: pointsman fleet`)
    const made = await fleet.publish(revision, whoWeAre(), Date.now(), wanted)
    say(`revision ${made} is published, as ${wanted} was`)
    return await taken(fleet, made)
  })
}

/** Waits until all directors that are there have taken or refused it. */
async function taken(fleet: Fleet, number: number): Promise<Shown> {
  const beganMs = Date.now()
  let directors: readonly DirectorReport[] = []
  while (Date.now() - beganMs < TAKEN_MS) {
    directors = await fleet.directors()
    if (directors.every((one) => (one.revision ?? 0) >= number || (one.refused ?? 0) >= number)) break
    await sleep(LOOK_MS)
  }
  const good = directors.every(({ revision }) => (revision ?? 0) >= number)
  return { json: { revision: number, directors }, text: () => directorsText(number, directors), good }
}

/** @param at null: where the daemon here has its configuration from */
export async function showFleet(socket: string, at: string | null): Promise<Shown> {
  return await withFleet(at ?? (await ownFleet(socket)), async (fleet) => {
    const [{ number }, revisions, directors] = [
      await fleet.current(),
      await fleet.revisions(),
      await fleet.directors(),
    ]
    const shown = revisions.map(({ revision, by, atMs, rollbackOf }) => ({
      revision,
      by,
      at: new Date(atMs).toISOString(),
      rollbackOf,
    }))
    return {
      json: { revision: number, revisions: shown, directors },
      text: () => {
        const lines = shown
          .slice(-10)
          .map((one) => [
            `${one.revision === number ? '*' : ' '} ${one.revision}`,
            one.at,
            one.by,
            one.rollbackOf === null ? '' : `as ${one.rollbackOf} was`,
          ])
        return `${table([['  revision', 'published', 'by', ''], ...lines])}\n${directorsText(number, directors)}`
      },
      good: directors.every(({ revision, state }) => revision === number && state === 'in force'),
    }
  })
}

export async function ownFleet(socket: string): Promise<string> {
  const { value } = await get(socket, '/v1/sources', sourcesAnswer)
  const path = value.find(({ source }) => source === 'file')?.path ?? ''
  if (isFleetPlace(path)) return path
  throw new ClientError(`The daemon here follows no fleet: name it: pointsman fleet etcd://HOST:2379/PREFIX`)
}

function directorsText(number: number, directors: readonly DirectorReport[]): string {
  if (directors.length === 0) return 'no director follows it\n'
  const rows = directors.map(({ director, revision, sinceMs, state, refused, why }) => [
    director,
    revision === null ? 'none' : String(revision),
    `for ${age(new Date(sinceMs).toISOString())}`,
    state === 'refused'
      ? `refused ${refused ?? ''}: ${why ?? ''}`
      : revision === number
        ? 'in force'
        : `behind ${number}`,
  ])
  return table([['director', 'revision', '', ''], ...rows])
}
