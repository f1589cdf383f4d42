/** What is written down is read to the same values. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { NO_DIRECTOR_SETTINGS } from '../../../control/model/site.ts'
import { siteDocument } from '../../../control/source/file/document.ts'
import { readSite } from '../../../control/source/file/read.ts'
import { documentText } from '../../../control/source/file/write.ts'
import fc from '../../property.ts'
import { type AnyService, siteServices } from './sites.ts'

/** Without places, and without prototypes of generated records. */
function plain(services: readonly AnyService[]): unknown {
  return structuredClone(services.map(({ service, servers, health }) => ({ service, health, servers })))
}

describe('a document', () => {
  test('as text says any site, as YAML and as JSON', () => {
    fc.assert(
      fc.property(siteServices, fc.boolean(), (services, json) => {
        const document = siteDocument(NO_DIRECTOR_SETTINGS, services)
        const text = json ? JSON.stringify(document) : documentText(document)
        const { site, complaints } = readSite('/x.yaml', { read: () => text, list: () => [] })
        assert.deepEqual(complaints, [], text)
        assert.deepEqual(plain(site?.services ?? []), plain(services), text)
      }),
      { numRuns: 300 },
    )
  })
})
