/**
 * The journal beside the other state in the run directory: a line of JSON for each event, so that the next daemon
 * tells what happened to this one, too.
 */
import { appendFileSync, existsSync, readFileSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { EVENT_KINDS, Journal, type JournalEvent } from '../model/journal.ts'

const NAME = 'events.jsonl'
/** Then another file is begun; the one before it is kept. */
const BYTES_MAX = 512 * 1024

export function openJournal(folder: string, wallMs: () => number, warn: (message: string) => void): Journal {
  const path = join(folder, NAME)
  const journal = new Journal(wallMs, [...read(`${path}.1`), ...read(path)])
  let bytes = existsSync(path) ? statSync(path).size : 0
  let failed = false
  journal.follow((event) => {
    try {
      if (bytes > BYTES_MAX) {
        renameSync(path, `${path}.1`)
        bytes = 0
      }
      const line = `${JSON.stringify(event)}\n`
      appendFileSync(path, line, { mode: 0o600 })
      bytes += Buffer.byteLength(line)
      failed = false
    } catch (error) {
      // A disk without room stops nothing; the events are in memory.
      if (!failed) warn(`Cannot keep events in ${path}: ${error instanceof Error ? error.message : error}`)
      failed = true
    }
  })
  return journal
}

/** What is no event is left out: a daemon that was killed may have left half a line. */
function read(path: string): JournalEvent[] {
  if (!existsSync(path)) return []
  return readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        const event: unknown = JSON.parse(line)
        return isEvent(event) ? [event] : []
      } catch {
        return []
      }
    })
}

function isEvent(value: unknown): value is JournalEvent {
  if (typeof value !== 'object' || value === null) return false
  const { id, atMs, kind, about, words } = value as Partial<JournalEvent>
  return (
    Number.isSafeInteger(id) &&
    typeof atMs === 'number' &&
    EVENT_KINDS.some((known) => known === kind) &&
    typeof about === 'string' &&
    typeof words === 'string'
  )
}
