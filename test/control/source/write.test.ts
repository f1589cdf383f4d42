/** What is written down is read to the same values. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { FILTER_ACTIONS } from '../../../control/model/filter.ts'
import { NO_DIRECTOR_SETTINGS } from '../../../control/model/site.ts'
import { siteDocument } from '../../../control/source/file/document.ts'
import { readSite } from '../../../control/source/file/read.ts'
import { documentText } from '../../../control/source/file/write.ts'
import fc from '../../property.ts'
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
})
