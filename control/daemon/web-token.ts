import { readFileSync } from 'node:fs'
import { StartError } from './run-directory.ts'

/** What whoever looks at the page has to know; null: nothing. */
export function readWebToken(file: string | null): string | null {
  if (file === null) return null
  let token: string
  try {
    token = readFileSync(file, 'utf8').trim()
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : cause
    throw new StartError(`Cannot read the token for the page: ${why}`, { cause })
  }
  if (/^\S{16,512}$/.test(token)) return token
  throw new StartError(
    `Cannot use the token in ${file}: expected one word of at least 16 characters; make one: openssl rand -hex 16 > ${file}`,
  )
}
