/** What a verdict means and what to do about it: the tables of docs/verdicts.md, which has every one of them. */

export interface VerdictWords {
  readonly meaning: string
  /** '' where there is nothing to do. */
  readonly remedy: string
}

/** By the verdict's name. */
export function verdictWords(markdown: string): ReadonlyMap<string, VerdictWords> {
  const words = new Map<string, VerdictWords>()
  for (const line of markdown.split('\n')) {
    const cells = /^\| `([a-z_]+)` \|(.*)\|$/.exec(line)
    if (cells === null) continue
    const [meaning = '', remedy = ''] = cells[2]!.split(/(?<!\\)\|/).map((cell) => cell.trim())
    words.set(cells[1]!, { meaning, remedy: remedy === 'nothing' ? '' : remedy })
  }
  return words
}
