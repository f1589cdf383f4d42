/** What stands in files of its own because nobody else may know it. */
import { readFileSync } from 'node:fs'
import { parseOtlpHeaders } from '../insight/metrics/otlp-headers.ts'
import { StartError } from './run-directory.ts'

function read(what: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new StartError(`Cannot read ${what}: ${cause instanceof Error ? cause.message : cause}`, { cause })
  }
}

/** What whoever looks at the page has to know; null: nothing. */
export function readWebToken(file: string | null): string | null {
  if (file === null) return null
  const token = read('the token for the page', file).trim()
  if (/^\S{16,512}$/.test(token)) return token
  throw new StartError(
    `Cannot use the token in ${file}: expected one word of at least 16 characters; make one: openssl rand -hex 16 > ${file}`,
  )
}

/** What a receiver of metrics wants with each push. */
export function readOtlpHeaders(file: string | null): ReadonlyMap<string, string> {
  if (file === null) return new Map()
  const fields = parseOtlpHeaders(read('the fields of --otlp-headers', file))
  if (typeof fields !== 'string') return fields
  throw new StartError(`Cannot use ${file} (--otlp-headers): ${fields}`)
}
