/** Metrics that are pushed: to a receiver that holds every request against the protocol. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { OtlpPush, otlpEndpoint } from '../../../control/insight/metrics/otlp.ts'
import { parseOtlpHeaders } from '../../../control/insight/metrics/otlp-headers.ts'

interface Point {
  readonly attributes: readonly { readonly key: string; readonly value: { readonly stringValue: string } }[]
  readonly timeUnixNano: string
  readonly startTimeUnixNano?: string
  readonly asDouble: number
}
interface Metric {
  readonly name: string
  readonly description: string
  readonly gauge?: { readonly dataPoints: readonly Point[] }
  readonly sum?: {
    readonly dataPoints: readonly Point[]
    readonly aggregationTemporality: number
    readonly isMonotonic: boolean
  }
}

/** What opentelemetry-proto's metrics.proto and the JSON encoding want of a request. */
function metricsOf(body: string, headers: IncomingHttpHeaders): readonly Metric[] {
  assert.equal(headers['content-type'], 'application/json')
  const { resourceMetrics } = JSON.parse(body)
  assert.equal(resourceMetrics.length, 1)
  const [{ resource, scopeMetrics }] = resourceMetrics
  assert.ok(resource.attributes.some((one: Point['attributes'][number]) => one.key === 'service.name'))
  const metrics = scopeMetrics[0].metrics as readonly Metric[]
  for (const { name, gauge, sum } of metrics) {
    assert.ok((gauge === undefined) !== (sum === undefined), `${name} is of one kind`)
    if (sum !== undefined) assert.deepEqual([sum.aggregationTemporality, sum.isMonotonic], [2, true])
    const points = (gauge ?? sum)!.dataPoints
    assert.ok(points.length > 0)
    for (const { timeUnixNano, startTimeUnixNano, asDouble, attributes } of points) {
      // 64-bit numbers are strings in JSON.
      assert.match(timeUnixNano, /^\d{19}$/)
      if (sum !== undefined) assert.ok(BigInt(startTimeUnixNano!) <= BigInt(timeUnixNano))
      assert.equal(typeof asDouble, 'number')
      for (const { value } of attributes) assert.equal(typeof value.stringValue, 'string')
    }
  }
  return metrics
}

async function withReceiver(
  answer: (response: ServerResponse) => void,
  act: (scene: {
    readonly push: OtlpPush
    readonly requests: (readonly Metric[])[]
    readonly told: string[]
    readonly heads: readonly IncomingHttpHeaders[]
    readonly clock: { wallMs: number }
  }) => Promise<void>,
  text: () => Iterable<string>,
  headers: ReadonlyMap<string, string> = new Map(),
): Promise<void> {
  const heads: IncomingHttpHeaders[] = []
  const requests: (readonly Metric[])[] = []
  const wrong: unknown[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (part: string) => {
      body += part
    })
    request.on('end', () => {
      try {
        assert.deepEqual([request.method, request.url], ['POST', '/v1/metrics'])
        heads.push(request.headers)
        requests.push(metricsOf(body, request.headers))
      } catch (error) {
        wrong.push(error)
      }
      answer(response)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const told: string[] = []
  const clock = { wallMs: Date.parse('2026-01-01T00:00:00Z') }
  const push = new OtlpPush({
    ...{ url: otlpEndpoint(`http://127.0.0.1:${port}`)!, headers },
    ...{ startedMs: clock.wallMs - 5000, wallMs: () => clock.wallMs },
    async *collect() {
      for (const piece of text()) yield Buffer.from(piece)
    },
    told: (words) => told.push(words),
  })
  try {
    await act({ push, requests, told, heads, clock })
    assert.deepEqual(wrong, [])
  } finally {
    push.close()
    server.closeAllConnections()
    server.close()
  }
}

const TEXT = `# HELP a_total Counted \\\\ so far.
# TYPE a_total counter
a_total{service="tcp/192.0.2.10:80",said="a \\"word\\", and\\nmore"} 5
a_total{service="udp/[2001:db8::1]:53"} 7
# HELP b How many.
# TYPE b gauge
b 1.5e+21
`

test('names, kinds, labels and numbers arrive as they are collected, however they come in pieces', async () => {
  await withReceiver(
    (response) => response.end('{}'),
    async ({ push, requests, told }) => {
      await push.push()
      const [[a, b] = []] = requests
      assert.equal(a!.description, 'Counted \\ so far.')
      assert.deepEqual(
        a!.sum!.dataPoints.map(({ attributes, asDouble }) => [
          Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue])),
          asDouble,
        ]),
        [
          [{ service: 'tcp/192.0.2.10:80', said: 'a "word", and\nmore' }, 5],
          [{ service: 'udp/[2001:db8::1]:53' }, 7],
        ],
      )
      assert.deepEqual([b!.name, b!.gauge!.dataPoints[0]!.asDouble], ['b', 1.5e21])
      assert.deepEqual(told, [])
    },
    () => TEXT.match(/.{1,7}|\n/g)!,
  )
})

test('very many numbers are many requests, each whole', async () => {
  await withReceiver(
    (response) => response.end(),
    async ({ push, requests }) => {
      await push.push()
      assert.equal(requests.length, 4)
      assert.ok(requests.every((metrics) => metrics.length === 1 && metrics[0]!.name === 'many_total'))
      const values = requests.flatMap(([one]) => one!.sum!.dataPoints.map(({ asDouble }) => asDouble))
      assert.deepEqual(
        values,
        Array.from({ length: 7000 }, (_, i) => i),
      )
    },
    function* () {
      yield '# HELP many_total Many.\n# TYPE many_total counter\n'
      for (let i = 0; i < 7000; i++) yield `many_total{i="${i}"} ${i}\n`
    },
  )
})

test('a receiver that fails is told of once, is left alone as long as it says, and heard of when it is back', async () => {
  let status = 500
  await withReceiver(
    (response) => response.writeHead(status, status === 503 ? { 'retry-after': '120' } : {}).end('full'),
    async ({ push, requests, told, clock }) => {
      await push.push()
      await push.push()
      assert.match(
        told.join(),
        /^Cannot push metrics to http:.*: it answered 500 full; tried again every 60 s$/,
      )
      status = 503
      await push.push()
      assert.equal(requests.length, 3)
      clock.wallMs += 60_000
      await push.push()
      assert.equal(requests.length, 3)
      clock.wallMs += 60_000
      status = 200
      await push.push()
      assert.equal(requests.length, 4)
      assert.match(told.at(-1)!, /are pushed to .* again$/)
      assert.equal(told.length, 3)
      assert.deepEqual(push.pushed, { whole: 1, failed: 3, refused: 0 })
    },
    () => [TEXT],
  )
})

test('what is refused of it, an answer without end, and nobody at all are bounded and said', async () => {
  await withReceiver(
    (response) => response.end('{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"too old"}}'),
    async ({ push, told }) => {
      await push.push()
      assert.match(told.join(), /it refused 2 of the numbers: too old/)
      assert.deepEqual(push.pushed, { whole: 0, failed: 1, refused: 2 })
    },
    () => [TEXT],
  )
  let stop: NodeJS.Timeout | undefined
  await withReceiver(
    (response) => {
      stop = setInterval(() => response.write('x'.repeat(10_000)), 1)
      response.on('close', () => clearInterval(stop))
    },
    async ({ push, told }) => {
      await push.push()
      assert.deepEqual(told, [])
    },
    () => [TEXT],
  )
  const told: string[] = []
  const nobody = new OtlpPush({
    ...{ url: otlpEndpoint('http://127.0.0.1:1/')!, headers: new Map() },
    ...{ startedMs: 0, wallMs: () => 1e12 },
    async *collect() {
      yield Buffer.from(TEXT)
    },
    told: (words) => told.push(words),
  })
  await nobody.push()
  assert.match(
    told.join(),
    /Cannot push metrics to http:\/\/127\.0\.0\.1:1\/v1\/metrics: .*ECONNREFUSED|bad port/,
  )
})

test('fields that a receiver wants are in every request, and none that are ours can be said', async () => {
  const fields = parseOtlpHeaders('# of the collector\n\nAuthorization: Bearer abc=\r\n X-Scope-OrgID:  7 \n')
  assert.ok(typeof fields !== 'string', String(fields))
  await withReceiver(
    (response) => response.end(),
    async ({ push, heads }) => {
      await push.push()
      assert.equal(heads.length, 2)
      for (const head of heads) {
        assert.equal(head.authorization, 'Bearer abc=')
        assert.equal(head['x-scope-orgid'], '7')
      }
    },
    function* () {
      yield '# HELP many_total Many.\n# TYPE many_total counter\n'
      for (let i = 0; i < 2001; i++) yield `many_total{i="${i}"} ${i}\n`
    },
    fields,
  )
  const refused: readonly (readonly [string, RegExp])[] = [
    ['', /no field in it, such as Authorization: Bearer TOKEN/],
    ['secret-alone', /^line 1: expected a field/],
    ['a: 1\nb: caf\u00e9-secret', /^line 2: expected a field/],
    [`a: ${'secret'.repeat(2000)}`, /^line 1: expected a field/],
    ['Content-Length: 7', /"Content-Length" is not yours to say/],
    ['host: secret', /"host" is not yours/],
    ['A: 1\na: secret', /"a" is there twice/],
    [Array.from({ length: 40 }, (_, i) => `a${i}: secret`).join('\n'), /at most 32 fields, got 40/],
  ]
  for (const [text, message] of refused) {
    const said = String(parseOtlpHeaders(text))
    assert.match(said, message)
    assert.doesNotMatch(said.replaceAll('secret-alone', ''), /secret/, 'a value is nobody else’s to read')
  }
})

test('only places that can be pushed to are taken', () => {
  assert.equal(otlpEndpoint('http://collector:4318')?.href, 'http://collector:4318/v1/metrics')
  assert.equal(otlpEndpoint('https://collector/otlp/v1/metrics')?.href, 'https://collector/otlp/v1/metrics')
  for (const text of ['collector:4318', 'ftp://collector', 'http://user:word@collector', ''])
    assert.equal(otlpEndpoint(text), null, text)
})
