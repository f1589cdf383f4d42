/** What is written down is read to the same values. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { FILTER_ACTIONS } from '../../../control/model/filter.ts'
import { NO_DIRECTOR_SETTINGS } from '../../../control/model/site.ts'
import { siteDocument } from '../../../control/source/file/document.ts'
import { readSite } from '../../../control/source/file/read.ts'
import { documentText } from '../../../control/source/file/write.ts'
import fc from '../../property.ts'
import { ip } from '../support.ts'
import { type AnyService, filters as filtersOf, markRules, siteServices } from './sites.ts'

/** Without places, and without prototypes of generated records. */
function plain(services: readonly AnyService[]): unknown {
  return structuredClone(services.map(({ at: _, ...rest }: AnyService & { readonly at?: unknown }) => rest))
}

const copy = <T>(one: T): T => structuredClone(one)
const withoutPlace = ({ at: _, ...rest }: { readonly at: unknown }): unknown => rest
/** Of both families: what is allowed first. */
const ofAll = fc
  .tuple(filtersOf(4), filtersOf(6))
  .map((lists) => FILTER_ACTIONS.flatMap((action) => lists.flat().filter((one) => one.action === action)))

describe('a document', () => {
  test('as text says any site, as YAML and as JSON', () => {
    fc.assert(
      fc.property(siteServices, ofAll, markRules, fc.boolean(), (services, filters, marks, json) => {
        const document = siteDocument(NO_DIRECTOR_SETTINGS, services, { filters, marks })
        const text = json ? JSON.stringify(document) : documentText(document)
        const { site, complaints } = readSite('/x.yaml', { read: () => text, list: () => [] })
        assert.deepEqual(complaints, [], text)
        assert.deepEqual(plain(site?.services ?? []), plain(services), text)
        assert.deepEqual(site?.filters.map(withoutPlace), filters.map(copy), text)
        assert.deepEqual(site?.marks.map(withoutPlace), marks.map(copy), text)
      }),
      { numRuns: 300 },
    )
  })

  test('says addresses of full NAT, with their ports and without, and that there are to be none', () => {
    const five = { address: ip('10.0.2.5'), ports: { from: 2000, to: 2999 } }
    for (const fullNat of [null, [], [five, { address: ip('2001:db8::5'), ports: undefined }]]) {
      const text = documentText(siteDocument({ ...NO_DIRECTOR_SETTINGS, fullNat }, []))
      const { site, complaints } = readSite('/x.yaml', { read: () => text, list: () => [] })
      assert.deepEqual(complaints, [], text)
      assert.deepEqual(site?.director.fullNat, fullNat, text)
    }
  })

  test('that says an address of full NAT wrongly is refused there', () => {
    for (const [wrong, what] of [
      ['10.0.2', 'expected an address'],
      ['{ address: 10.0.2.5 }', 'ports'],
      ['{ address: 10.0.2.5, ports: 5000 }', 'expected a text'],
      ['{ address: 10.0.2.5, ports: 6000-5000 }', 'expected a range of ports'],
      ['{ address: 10.0.2.5, ports: 1-70000 }', 'expected a range of ports'],
      ['{ address: 10.0.2.5, ports: 1-2, weight: 3 }', 'weight'],
    ] as const) {
      const text = `director:\n  full_nat: [${wrong}]\n`
      const { site, complaints } = readSite('/x.yaml', { read: () => text, list: () => [] })
      assert.equal(site, null, wrong)
      assert.match(complaints.map(({ message }) => message).join('\n'), new RegExp(what), wrong)
    }
  })
})
