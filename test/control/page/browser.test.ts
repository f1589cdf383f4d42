/** The page in Debian's browser: what people do with it, with a mouse and without. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { openStage, type Stage, skip } from './stage.ts'

const CLIENTS = 180

describe('the page in a browser', { skip }, () => {
  let stage: Stage
  before(async () => {
    stage = await openStage(CLIENTS)
  })
  after(() => stage.close())

  test('connections are looked for, put in order, and turned over page by page', async () => {
    const page = await stage.look()
    const rows = page.locator('#connections tbody tr')
    const says = (hasText: string | RegExp): Promise<void> =>
      page.locator('#connections-words', { hasText }).waitFor()
    await says(`1 to 50 of ${CLIENTS}, at that moment`)
    await page.locator('#connection-order').selectOption('client')
    await rows.first().filter({ hasText: '198.51.100.1:20000' }).waitFor()
    // What ends soon says another time at each look.
    const client = (): Promise<string | null> => rows.first().locator('td').first().textContent()
    const first = await client()
    await page.getByRole('button', { name: 'Next' }).click()
    await says(`51 to 100 of ${CLIENTS}, at that moment`)
    assert.notEqual(await client(), first)
    await page.getByRole('button', { name: 'Before' }).click()
    await says(`1 to 50 of ${CLIENTS}, at that moment`)
    assert.equal(await client(), first)
    const search = page.locator('#connection-search')
    await search.fill('tcp/192.0.2.11:25 198.51.103.')
    await says('1 to 22 of 22, at that moment')
    await search.fill('nonsense!')
    await says(/Cannot look for "nonsense!": expected a protocol/)
    await page.close()
  })
})
