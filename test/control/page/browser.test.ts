/** The page in Debian's browser: what people do with it, with a mouse and without. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { explanationText } from '../../../control/insight/explain/text.ts'
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

  test('a packet is explained as in a terminal, by words and by bytes', async () => {
    const page = await stage.look()
    await page.locator('#explain-from').fill('203.0.113.9:40000')
    await page.locator('#explain-to').fill('192.0.2.11:25')
    await page.keyboard.press('Enter')
    const words = page.locator('#explain-words')
    await words.filter({ hasText: 'forward_nat on eth0' }).waitFor()
    const steps = page.locator('#explain-steps li')
    assert.match(String(await steps.first().textContent()), /^Packet.*203\.0\.113\.9/s)
    const connection = page.locator('#explain-steps .added', { hasText: 'made: syn_recv' })
    assert.match(String(await connection.textContent()), /^\+ made: .* at 10\.1\.0\.9:25 by nat/)
    const told = await stage.explain({ protocol: 'tcp', from: '203.0.113.9:40000', to: '192.0.2.11:25' })
    assert.equal(
      await page.locator('#explain-steps').textContent(),
      explanationText(told, false).replace(/^([A-Z].*)\n/gm, '$1'),
    )
    await page.locator('summary').click()
    const other = await stage.explain({ protocol: 'tcp', from: '203.0.113.9:1', to: '192.0.2.10:80' })
    const bytes = other.frame.before.replace(/(....)/g, '$1 ').trim()
    await page.locator('#explain-frame').fill(`0x0000:  ${bytes.slice(0, 39)}\n0x0010:  ${bytes.slice(40)}`)
    await page.getByRole('button', { name: 'Explain' }).click()
    await steps
      .filter({ hasText: /tcp 1 > 80 \[S\]/ })
      .first()
      .waitFor()
    assert.match(
      String(await page.locator('#explain-steps').textContent()),
      /tcp\/192\.0\.2\.10:80, scheduler rr/,
    )
    await page.locator('#explain-frame').fill('zz')
    await page.getByRole('button', { name: 'Explain' }).click()
    await words.filter({ hasText: 'Cannot read "z" in the frame: expected hexadecimal digits' }).waitFor()
    assert.equal(await steps.count(), 0)
    await page.close()
  })
})
