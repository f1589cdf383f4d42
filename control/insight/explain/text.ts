/** An explanation as lines of text, for a terminal or a pipe; the page makes elements of the same lines. */
import type { Explanation, Line, Mark } from './told.ts'

const COLOURS: Readonly<Record<Mark, string>> = {
  good: '32',
  bad: '31',
  chosen: '1',
  added: '32',
  removed: '31',
  quiet: '2',
}

/** What stands before a line, so that nobody needs colours to see it. */
const SIGNS: Readonly<Partial<Record<Mark, string>>> = { added: '+', removed: '-' }

export function explanationText({ steps }: Explanation, colours: boolean): string {
  const bold = (text: string): string => (colours ? `\u001b[1m${text}\u001b[0m` : text)
  return steps
    .map(({ title, lines }) => `${bold(title)}\n${lines.map((line) => lineText(line, colours)).join('')}`)
    .join('')
}

export function signOf({ mark }: Line): string {
  return (mark === undefined ? undefined : SIGNS[mark]) ?? ' '
}

function lineText(line: Line, colours: boolean): string {
  const { text, mark } = line
  const coloured = colours && mark !== undefined ? `\u001b[${COLOURS[mark]}m${text}\u001b[0m` : text
  return `${signOf(line)} ${coloured}\n`
}
