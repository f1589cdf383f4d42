/** What the quick reader takes, it reads as the whole one does. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { NO_DIRECTOR_SETTINGS } from '../../../control/model/site.ts'
import { siteDocument } from '../../../control/source/file/document.ts'
import { parseQuick } from '../../../control/source/file/quick.ts'
import { parseText } from '../../../control/source/file/text.ts'
import { documentText } from '../../../control/source/file/write.ts'
import fc from '../../property.ts'
import { siteServices } from './sites.ts'

const ITEMS = Array.from(
  { length: 20 },
  (_, i) => `  - tcp: 10.0.${i}.1:80
    scheduler: rr
    checks: [web, { kind: tcp, interval: 500ms }]
    real_servers:
      - { address: 10.1.${i}.1:80, weight: 3 }
      - 10.1.${i}.2
      - address: "[2001:db8::1]:80"
        method: tunnel
`,
)
const LARGE = ITEMS.join('')

/** Pieces that YAML gives a meaning to. */
const PIECES = [
  ...['- ', ': ', ':', '#', ' #', '"', "'", '[', ']', '{', '}', ',', '&a ', '*a', '!!str ', '|', '>', '\\n'],
  ...[
    'null',
    'True',
    '0x1',
    '010',
    '1e3',
    '~',
    '---',
    '...',
    '%',
    '@',
    '`',
    '?',
    ' ',
    '  ',
    '\n',
    '\t',
    '<<: ',
  ],
  ...[
    'a',
    '7',
    '-1',
    '1.5',
    '.5',
    'on',
    'a: b',
    '__proto__: {}',
    '\r',
    '\u00a0',
    '=',
    '10.0.0.1',
    '5s',
    '200-300',
  ],
]

function same(text: string): boolean {
  const quick = parseQuick(text)
  if (quick === null) return false
  const whole = parseText(text)
  assert.deepEqual(whole.errors, [], text)
  assert.deepEqual(quick.value, whole.value, text)
  const services: unknown = (quick.value as { services?: unknown } | null)?.services
  if (Array.isArray(services)) {
    for (const index of services.keys()) {
      if (text.includes('services: [')) continue
      assert.deepEqual(quick.place('services', index), whole.place(['services', index]), text)
    }
  }
  return true
}

describe('the quick reader', () => {
  test('takes what programs write', () => {
    assert.ok(same(`checks:\n  web: { kind: http, url: /health }\nservices:\n${LARGE}`))
    assert.ok(same('services:\n- tcp: 10.0.0.1:80\n- udp: 10.0.0.1:53\n  flags: []\n\n# end\n'))
    assert.ok(same(''))
  })

  test('reads any exported site the same, and takes most', () => {
    let taken = 0
    fc.assert(
      fc.property(siteServices, (services) => {
        if (same(documentText(siteDocument(NO_DIRECTOR_SETTINGS, services)))) taken++
      }),
      { numRuns: 200 },
    )
    assert.ok(taken > 50, `${taken} of 200`)
  })

  test('reads no text otherwise, whatever is put into it or taken out', () => {
    const base = `a: 1\nservices:\n${ITEMS.slice(0, 2).join('')}\nb: { c: d, e: [1, x] }\n`
    const edit = fc.record({
      at: fc.nat({ max: base.length }),
      remove: fc.nat({ max: 3 }),
      insert: fc.constantFrom('', ...PIECES),
    })
    let taken = 0
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
        let text = base
        for (const { at, remove, insert } of edits)
          text = text.slice(0, at) + insert + text.slice(at + remove)
        if (same(text)) taken++
      }),
      { numRuns: 3000 },
    )
    assert.ok(taken > 100, `${taken} of 3000`)
  })
})
