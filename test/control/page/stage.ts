/** A director that somebody looks at in a browser: the packet program in wasm, with connections through it. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { openDirector } from '../../../control/apply/open.ts'
import { readVerdicts } from '../../../control/counting/verdicts.ts'
import type { ExplainAsked, Explanation } from '../../../control/front/api/schema/explanation.ts'
import { createApi } from '../../../control/front/api/server.ts'
import { takeSnapshot } from '../../../control/insight/explain/snapshot.ts'
import { Asker } from '../../../control/insight/explain/thread/asker.ts'
import { Collector } from '../../../control/insight/metrics/collector.ts'
import { HourHistory } from '../../../control/insight/metrics/history.ts'
import type { Rates } from '../../../control/model/counters.ts'
import { Journal } from '../../../control/model/journal.ts'
import type { RuleDirector } from '../../../control/rules/director.ts'
import { Sources } from '../../../control/source/sources.ts'
import { builtFile } from '../../../dataplane/assets.ts'
import { putInterface } from '../../../dataplane/interface-table.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { openWasm } from '../../../dataplane/userspace/wasm-file.ts'
import type { WasmDataplane } from '../../../dataplane/wasm/program.ts'
import type { NextHop } from '../../../linux/netlink/next-hop.ts'
import { macBytes } from '../../packets/bytes.ts'
import { ethernet, ipv4, tcp } from '../../packets/frame.ts'
import { contextOf } from '../front/context.ts'
import { server, service, testHost } from '../support.ts'

export const BROWSER = '/usr/bin/chromium'
const isBuilt = existsSync(fileURLToPath(new URL('../../../dist/page.js', import.meta.url)))
export const skip = !isBuilt
  ? 'the page is not built: npm run build'
  : existsSync(BROWSER)
    ? false
    : 'needs a browser: apt-get install chromium'

const DIRECTOR = '02:00:00:00:00:02'
const hop: NextHop = {
  ...{ result: 'ok', ifindex: 2, mtu: 1500 },
  ...{ smac: macBytes(DIRECTOR), dmac: macBytes('02:00:00:00:00:99') },
}

export interface Stage {
  readonly director: RuleDirector
  readonly dataplane: WasmDataplane
  readonly url: string
  readonly browser: Browser
  explain(asked: ExplainAsked): Promise<Explanation>
  /** A tab with the page in it; what it complains of fails the test at its end. */
  look(options?: BrowserContextOptions, path?: string): Promise<Page>
  /** The same of any place; nothing else may be asked for. */
  open(place: string, options?: BrowserContextOptions): Promise<Page>
  close(): Promise<void>
}

/** @param clients so many connections from 198.51.x.x to two services */
export async function openStage(clients: number): Promise<Stage> {
  const sizes = { ...SMALL_SIZES, connections4: 8192 }
  const dataplane = openWasm({ sizes, wasmPath: builtFile('pointsman.wasm'), fib: () => hop })
  const { director, applier } = openDirector({ dataplane, host: testHost() })
  const web = service('tcp 192.0.2.10:80', { scheduler: 'rr' })
  const mail = service('tcp 192.0.2.11:25', { scheduler: 'wlc' })
  for (const one of [web, mail]) assert.ok(director.addService(one).ok)
  for (const last of [1, 2, 3]) director.addServer(web.id, server(`10.1.0.${last}:8080`, { weight: last }))
  director.addServer(mail.id, server('10.1.0.9:25'))
  await director.settle()
  putInterface(dataplane, { name: 'eth0', ifindex: 2, mac: macBytes(DIRECTOR), mtu: 1500 })
  const frames = Array.from({ length: clients }, (_, i) => {
    const [dst, dport] = i % 8 === 7 ? ['192.0.2.11', 25] : ['192.0.2.10', 80]
    const src = `198.51.${100 + (i % 4)}.${1 + (i % 250)}`
    const syn = tcp({ sport: 20_000 + i, dport: Number(dport), flags: 'S' })
    return ethernet({ dst: DIRECTOR }, ipv4({ src, dst: String(dst) }, syn))
  })
  dataplane.run(frames.map((frame) => ({ frame, ifindex: 2 })))
  while (!applier.estimateSlice());
  let wallMs = Date.now() - 3600_000
  let past: Rates | null = null
  const journal = new Journal(() => wallMs)
  journal.add({ kind: 'rules', about: 'service', service: 'tcp 192.0.2.10:80', words: 'added: scheduler rr' })
  const collector = new Collector(
    () => ({
      ...{ version: '1.2', startedAt: new Date(), reason: 'a test', adopted: false },
      ...{ dataplane, applier, director, sources: new Sources(), holds: [], health: null },
      ...{ warnings: [], attachments: [], sendFailures: null },
      counted: () => director.counted(),
      totals: director.totals().counters,
      totalRates: past ?? director.totals().rates,
      checkedOf: () => null,
      pushed: null,
      verdicts: readVerdicts(dataplane),
      checked: () => [],
    }),
    'real-server',
    new HourHistory(() => wallMs, journal),
  )
  const facts = { version: 'test', wallMs: 0, interfaces: [{ ifindex: 2, name: 'eth0' }], hops: [] }
  const asker = new Asker(
    () => takeSnapshot(dataplane, facts),
    () => hop,
  )
  for (let i = 0; i < 720; i++) {
    wallMs += 5000
    const wave = 1 + Math.sin(i / 60) + (i % 7) / 20
    past = { cps: 90 * wave, inPps: 9e3 * wave, outPps: 7e3 * wave, inBps: 1e6 * wave, outBps: 9e6 * wave }
    collector.sample()
    const state = i === 300 || i === 520 ? 'down' : i === 360 ? 'up' : null
    if (state === null) continue
    const names = { service: 'tcp 192.0.2.10:80', server: '10.1.0.2:8080' }
    const words = state === 'up' ? 'HTTP 200' : 'no answer within 2 s'
    journal.add({ kind: 'health', about: 'server', ...names, state, words })
  }
  past = null
  const failures: unknown[] = []
  const api = createApi({
    context: contextOf(director, {
      explain: (asked, signal) => asker.explain(asked, signal),
      journal,
      verdicts: () => readVerdicts(dataplane),
      overview: (asked) => collector.overview(asked),
      history: (service) => collector.history(service),
    }),
    failed: (error) => failures.push(error),
  })
  const port = await freePort()
  await api.listen({ host: '127.0.0.1', port }, 'web')
  const browser = await chromium.launch({
    executablePath: BROWSER,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  })
  const url = `http://127.0.0.1:${port}/`
  const complaints: string[] = []
  const open = async (place: string, options: BrowserContextOptions): Promise<Page> => {
    const near = place.startsWith(url) ? url : new URL('.', place).href
    const page = await (await browser.newContext(options)).newPage()
    page.on('console', (message) => {
      // What the director refuses the browser tells, too; the page says why.
      if (!/status of 400/.test(message.text())) complaints.push(`${message.type()}: ${message.text()}`)
    })
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('request', (request) => {
      if (!request.url().startsWith(near) && !request.url().startsWith('data:'))
        complaints.push(request.url())
    })
    await page.goto(place)
    return page
  }
  return {
    ...{ director, dataplane, url, browser },
    async explain(asked) {
      const answer = await asker.explain(asked, new AbortController().signal)
      assert.ok(answer !== null && 'explanation' in answer, JSON.stringify(answer))
      return answer.explanation
    },
    look: (options = {}, path = '') => open(`${url}${path}`, options),
    open: (place, options = {}) => open(place, options),
    async close() {
      await browser.close()
      await api.close(0)
      assert.deepEqual([...complaints, ...failures], [], 'nothing is complained of')
    },
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() =>
        typeof address === 'object' && address !== null ? resolve(address.port) : reject(new Error()),
      )
    })
  })
}
