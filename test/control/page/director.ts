/** A director that somebody looks at: the packet program in wasm, with connections through it, and its page on a port. */
import assert from 'node:assert/strict'
import { ticksOfSeconds } from '../../../control/compile/settings.ts'
import { readVerdicts } from '../../../control/counting/verdicts.ts'
import { type Api, createApi } from '../../../control/front/api/server.ts'
import { takeSnapshot } from '../../../control/insight/explain/snapshot.ts'
import { Asker } from '../../../control/insight/explain/thread/asker.ts'
import { Collector } from '../../../control/insight/metrics/collector.ts'
import { HourHistory, SAMPLE_MS } from '../../../control/insight/metrics/history.ts'
import type { Rates } from '../../../control/model/counters.ts'
import { Journal } from '../../../control/model/journal.ts'
import type { RuleDirector } from '../../../control/rules/director.ts'
import { Sources } from '../../../control/source/sources.ts'
import { builtFile } from '../../../dataplane/assets.ts'
import { monotonicTicks } from '../../../dataplane/clock.ts'
import { putInterface } from '../../../dataplane/interface-table.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { openWasm } from '../../../dataplane/userspace/wasm-file.ts'
import type { WasmDataplane } from '../../../dataplane/wasm/program.ts'
import type { NextHop } from '../../../linux/netlink/next-hop.ts'
import { macBytes } from '../../packets/bytes.ts'
import { ethernet, ipv4, tcp } from '../../packets/frame.ts'
import { contextOf } from '../front/context.ts'
import { openDirector } from '../opened-director.ts'
import { server, service, testHost } from '../support.ts'

/** In one sample's time. */
const CAME = 20
/** Samples from one sweep to the next. */
const SWEEP = 12
const DIRECTOR = '02:00:00:00:00:02'
const hop: NextHop = {
  ...{ result: 'ok', ifindex: 2, mtu: 1500 },
  ...{ smac: macBytes(DIRECTOR), dmac: macBytes('02:00:00:00:00:99') },
}

export interface Watched {
  readonly director: RuleDirector
  readonly dataplane: WasmDataplane
  readonly asker: Asker
  readonly api: Api
  readonly url: string
  /** Where Prometheus asks. */
  readonly metrics: string
  /** What the API could not do. */
  readonly failures: readonly unknown[]
  /** New connections, and the next sample of the hour. */
  goOn(): void
  /** All metrics, as often as somebody asks; how many bytes they are. */
  scrape(): Promise<number>
}

/** @param clients so many connections from 198.51.x.x to two services */
export async function openWatched(clients: number): Promise<Watched> {
  const sizes = { ...SMALL_SIZES, connections4: 8192 }
  let later = 0
  const dataplane = openWasm({
    ...{ sizes, wasmPath: builtFile('pointsman.wasm'), fib: () => hop },
    now: () => (monotonicTicks() + later) >>> 0,
  })
  const { director, applier } = openDirector({ dataplane, host: testHost() })
  const web = service('tcp 192.0.2.10:80', { scheduler: 'rr' })
  const mail = service('tcp 192.0.2.11:25', { scheduler: 'wlc' })
  for (const one of [web, mail]) assert.ok(director.addService(one).ok)
  for (const last of [1, 2, 3]) director.addServer(web.id, server(`10.1.0.${last}:8080`, { weight: last }))
  director.addServer(mail.id, server('10.1.0.9:25'))
  await director.settle()
  putInterface(dataplane, { name: 'eth0', ifindex: 2, mac: macBytes(DIRECTOR), mtu: 1500 })
  const syn = (i: number): Uint8Array => {
    const [dst, dport] = i % 8 === 7 ? ['192.0.2.11', 25] : ['192.0.2.10', 80]
    const src = `198.51.${100 + (i % 4)}.${1 + (i % 250)}`
    const first = tcp({ sport: 20_000 + (i % 40_000), dport: Number(dport), flags: 'S' })
    return ethernet({ dst: DIRECTOR }, ipv4({ src, dst: String(dst) }, first))
  }
  dataplane.run(Array.from({ length: clients }, (_, i) => ({ frame: syn(i), ifindex: 2 })))
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
    wallMs += SAMPLE_MS
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
      metrics: (format, detail) => collector.text(format, detail),
    }),
    failed: (error) => failures.push(error),
  })
  const anywhere = { host: '127.0.0.1', port: 0 }
  const port = await api.listen(anywhere, 'web')
  const metrics = await api.listen(anywhere, 'metrics')
  let came = clients
  let samples = 0
  return {
    ...{ director, dataplane, asker, api, failures, url: `http://127.0.0.1:${port}/` },
    metrics: `http://127.0.0.1:${metrics}/metrics`,
    async scrape() {
      let bytes = 0
      for await (const piece of collector.text('text', null) ?? []) bytes += piece.length
      return bytes
    },
    goOn() {
      wallMs += SAMPLE_MS
      later += ticksOfSeconds(SAMPLE_MS / 1000)
      const frames = Array.from({ length: CAME }, () => ({ frame: syn(came++), ifindex: 2 }))
      dataplane.run(frames)
      if (samples++ % SWEEP === 0) while (!applier.sweepSlice(sizes.connections4));
      while (!applier.estimateSlice());
      const state = came % 200 === 0 ? 'up' : 'down'
      const names = { service: 'tcp 192.0.2.10:80', server: '10.1.0.2:8080' }
      journal.add({ kind: 'health', about: 'server', ...names, state, words: `at ${came}` })
      collector.sample()
    },
  }
}
