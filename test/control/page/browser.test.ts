/** The page in Debian's browser: what people do with it, with a mouse and without. */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'
import type { Page } from 'playwright-core'
import { explanationText } from '../../../control/insight/explain/text.ts'
import { builtFile, packageRoot } from '../../../dataplane/assets.ts'
import { openStage, type Stage, skip } from './stage.ts'

const CLIENTS = 180
/** Where pictures of the main views go: POINTSMAN_PICTURES=docs/pictures. */
const PICTURES = process.env.POINTSMAN_PICTURES

async function take(page: Page, name: string): Promise<void> {
  if (PICTURES === undefined) return
  mkdirSync(PICTURES, { recursive: true })
  const clip = { x: 0, y: 0, width: page.viewportSize()?.width ?? 1200, height: 1400 }
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true, clip })
}

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

  test('the last hour is plotted, and a service shows where its packets go and how healthy it was', async () => {
    const page = await stage.look()
    await page.locator('#ways li').filter({ hasText: 'tcp/192.0.2.11:25' }).waitFor()
    const plot = page.locator('figure').filter({ hasText: 'packets a second' }).first()
    assert.match(
      String(await plot.locator('.words').textContent()),
      /^in \S+k now, 21k at most; out \S+k now, 16k at most$/,
    )
    const points = String(await plot.locator('polyline').first().getAttribute('points')).split(' ')
    assert.equal(points.length, 720)
    await page.getByRole('button', { name: 'tcp/192.0.2.10:80' }).first().press('Enter')
    await page.locator('#ways li').filter({ hasText: '10.1.0.3:8080' }).waitFor()
    assert.equal(await page.locator('#ways li').count(), 3)
    const strip = page.locator('#strips li')
    await strip.waitFor()
    assert.match(
      String(await strip.textContent()),
      /10\.1\.0\.2:8080 changed 3 times; down: no answer within 2 s/,
    )
    assert.deepEqual(
      await strip.locator('rect').evaluateAll((all) => all.map((one) => one.getAttribute('class'))),
      ['up', 'down', 'up', 'down'],
    )
    await page.keyboard.press('Escape')
    await page.locator('#servers-part').waitFor({ state: 'hidden' })
    await page.close()
  })

  test('it is whole at the width of a phone, light and dark, and shows itself', async () => {
    for (const [name, width, colorScheme] of [
      ['page', 1200, 'light'],
      ['page-dark', 1200, 'dark'],
      ['page-phone', 360, 'light'],
    ] as const) {
      const page = await stage.look({ viewport: { width, height: 800 }, colorScheme, locale: 'en-GB' })
      await page.getByRole('button', { name: 'tcp/192.0.2.10:80' }).first().click()
      await page.locator('#explain-from').fill('203.0.113.9:40000')
      await page.locator('#explain-to').fill('192.0.2.10:80')
      await page.locator('#explain-to').press('Enter')
      await page.locator('#explain-steps li').first().waitFor()
      await page.locator('#strips li').waitFor()
      const wide = await page.evaluate('document.documentElement.scrollWidth')
      assert.ok(Number(wide) <= width, `${name} is ${wide} wide`)
      await take(page, name)
      await page.close()
    }
  })

  test('the playground runs the program in the browser, and its state is its address', async () => {
    const page = await stage.look({ viewport: { width: 1200, height: 1000 } }, 'playground')
    const sent = page.locator('#sent li')
    await sent.nth(1).filter({ hasText: 'forward_nat_reply → 10.0.0.2:8080' }).waitFor()
    await page.locator('#again').click()
    await sent.nth(2).filter({ hasText: 'forward_nat → 10.0.0.1:8080' }).waitFor()
    await page.locator('#again').click()
    await sent.nth(3).filter({ hasText: 'forward_nat → 10.0.0.2:8080' }).waitFor()
    await page.locator('#listing', { hasText: /10\.0\.0\.2:8080\s+Masq\s+1\s+2\s+0/ }).waitFor()
    await take(page, 'playground')
    const state = page.url()
    assert.match(state, /playground#[\w-]+$/)
    await page.close()
    const other = await stage.look(
      { viewport: { width: 360, height: 800 } },
      new URL(state).pathname.slice(1) + new URL(state).hash,
    )
    await other.locator('#sent li').nth(3).filter({ hasText: 'forward_nat → 10.0.0.2:8080' }).waitFor()
    const wide = await other.evaluate('document.documentElement.scrollWidth')
    assert.ok(Number(wide) <= 360, `the playground is ${wide} wide on a phone`)
    await other.close()
  })

  test('the playground needs no server', async () => {
    const page = await stage.open(pathToFileURL(join(packageRoot(), 'docs/playground/index.html')).href)
    await page.locator('#example').selectOption('Drain')
    await page.locator('#sent li').nth(2).filter({ hasText: 'forward_nat → 10.0.0.1:80' }).waitFor()
    await page.close()
  })

  test('all that a browser loads is small', () => {
    const sizes = ['page.html', 'page.css', 'page.js'].map(
      (name) => gzipSync(readFileSync(builtFile(name))).length,
    )
    const all = sizes.reduce((sum, size) => sum + size)
    assert.ok(all <= 150_000, `${all} bytes`)
  })
})
