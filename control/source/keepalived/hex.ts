/**
 * Bytes as UDP_CHECK writes them: digits in any groups, two to a byte, an odd one at a group's end a byte of
 * its own; in an answer `x` stands for any digit.
 */

const LETTERS = /^[0-9a-fA-F]+$/
const LETTERS_OR_ANY = /^[0-9a-fA-FxX]+$/

function pairs(words: readonly string[], allowed: RegExp): readonly string[] | null {
  const bytes: string[] = []
  for (const word of words) {
    if (!allowed.test(word)) return null
    for (let at = 0; at < word.length; at += 2)
      bytes.push(
        word
          .slice(at, at + 2)
          .padStart(2, '0')
          .toLowerCase(),
      )
  }
  return bytes
}

/** Lower-case hex; null if it is none. */
export function hexPayload(words: readonly string[]): string | null {
  return pairs(words, LETTERS)?.join('') ?? null
}

/** A regular expression over bytes read as Latin-1; null if it is none. */
export function hexPattern(words: readonly string[]): string | null {
  const bytes = pairs(words, LETTERS_OR_ANY)
  if (bytes === null) return null
  return `^${bytes.map(bytePattern).join('')}`
}

function bytePattern(byte: string): string {
  const [high, low] = [byte[0]!, byte[1]!]
  if (high === 'x' && low === 'x') return '.'
  if (low === 'x') return `[\\x${high}0-\\x${high}f]`
  if (high === 'x') return `[${Array.from({ length: 16 }, (_, i) => `\\x${i.toString(16)}${low}`).join('')}]`
  return `\\x${byte}`
}
