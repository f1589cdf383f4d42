/** The words of a line of keepalived.conf. */

/** Comments run from `!` or `#` to the end of the line, anywhere outside quotes. */
export function withoutComment(line: string): string {
  let quote = ''
  for (let at = 0; at < line.length; at++) {
    const letter = line[at]!
    if (quote !== '') {
      if (letter === quote) quote = ''
    } else if (letter === '"' || letter === "'") quote = letter
    else if (letter === '!' || letter === '#') return line.slice(0, at)
  }
  return line
}

/** Blanks divide words, quotes keep them together and are left out. */
export function wordsOf(line: string): string[] {
  const words: string[] = []
  let word = ''
  let inside = false
  let quote = ''
  for (const letter of line) {
    if (quote !== '') {
      if (letter === quote) quote = ''
      else word += letter
    } else if (letter === '"' || letter === "'") {
      quote = letter
      inside = true
    } else if (letter === ' ' || letter === '\t') {
      if (inside) words.push(word)
      word = ''
      inside = false
    } else {
      word += letter
      inside = true
    }
  }
  // A quote without end is no word.
  if (inside && quote === '') words.push(word)
  return words
}

/** Whether a quote has no end. */
export function isOpenEnded(line: string): boolean {
  return /["']/.test(line.replaceAll(/"[^"]*"|'[^']*'/g, ''))
}
