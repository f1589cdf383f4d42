/** The known word that somebody probably meant. */

/** Insertions, deletions, replacements and swaps of neighbours from one word to the other. */
function distance(a: string, b: string): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let best = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, before[j - 2]! + 1)
      }
      row.push(best)
    }
    before = last
    last = row
  }
  return last[b.length]!
}

const plain = (word: string): string => word.toLowerCase().replaceAll(/[-_ ]/g, '')

/** @returns null when nothing is near enough to be worth a guess */
export function nearest(word: string, known: Iterable<string>): string | null {
  let best: string | null = null
  let least = Math.max(2, Math.floor(word.length / 3)) + 0.5
  for (const candidate of known) {
    const far = distance(plain(word), plain(candidate))
    if (far < least) {
      best = candidate
      least = far
    }
  }
  return best
}
