import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

/** What `pointsman verdicts` prints: what a packet can end with, and what can become of a connection. */
function verdictNames(): string[] {
  return [
    ...read('bpf/types.h').matchAll(
      /^\tPM_((?:PASS|FORWARD|ANSWER|DROP|EVICTED|EXPIRED|FORGOT|REPAIRED)_\w+) = \d+,/gm,
    ),
  ].map((match) => (match[1] ?? '').toLowerCase())
}

test('docs/verdicts.md explains every verdict and no other', () => {
  const explained = [...read('docs/verdicts.md').matchAll(/^\| `(\w+[a-z])` \|/gm)].map((match) => match[1])
  assert.deepEqual(explained.sort(), verdictNames().sort())
})
