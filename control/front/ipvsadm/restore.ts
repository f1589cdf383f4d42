/** The lines a restore reads. */

const NEWLINE = '\n'
const SPACE = 32
const TAB = 9
const CARRIAGE_RETURN = 13

/** Words of one line. `ipvsadm` is dropped wherever it stands, so that lines may look like commands. */
function splitWords(text: string, from: number, to: number, program: string): string[] {
  const words = [program]
  let at = from
  while (at < to) {
    const start = at
    let code = 0
    while (at < to) {
      code = text.charCodeAt(at)
      if (code === SPACE || code === TAB || code === CARRIAGE_RETURN) break
      at++
    }
    if (at > start) {
      const word = text.slice(start, at)
      if (word !== 'ipvsadm') words.push(word)
    }
    at++
  }
  return words
}

/** Words are C strings to the original. */
function untilNul(word: string): string {
  const nul = word.indexOf('\0')
  return nul < 0 ? word : word.slice(0, nul)
}

/**
 * Command lines of a restore's input, each with the program's name in front; lines without a word are
 * skipped. There are no comments, quotes or continued lines in this format.
 */
export function* restoreLines(input: string, program: string): Generator<readonly string[]> {
  const nul = input.includes('\0')
  let at = 0
  while (at < input.length) {
    const newline = input.indexOf(NEWLINE, at)
    const end = newline < 0 ? input.length : newline
    const words = splitWords(input, at, end, program)
    if (words.length > 1) yield nul ? words.map(untilNul) : words
    at = end + 1
  }
}
