/** A number in a file, times a factor, is added to the weight (keepalived's track_file). */
import { readFile, stat } from 'node:fs/promises'
import { bad, good, type Verdict } from '../protocol.ts'

/** keepalived's range; the smallest one is its word for "down". */
const LEAST = -254
const MOST = 254

export async function askFile(file: string, factor: number): Promise<Verdict> {
  // A pipe would be waited for, by one of the few threads that read.
  if (!(await stat(file)).isFile()) return bad(`${file} is no regular file`)
  const text = (await readFile(file, 'utf8')).trim()
  if (!/^[-+]?\d{1,9}$/.test(text)) return bad(`${JSON.stringify(text.slice(0, 40))} in ${file} is no number`)
  const plus = Math.min(MOST, Math.max(LEAST, Number(text) * factor))
  if (plus === LEAST) return bad(`${text} in ${file}, times ${factor}, is ${LEAST}`)
  return { ...good(`${text} in ${file}`), weight: { kind: 'plus', weight: plus } }
}
