/** What is not an API server of Kubernetes, and answers all the same. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { test } from 'node:test'
import { KubeApi, KubeFollower } from '../../../../control/source/kubernetes/api.ts'
import { readService, readSlice } from '../../../../control/source/kubernetes/objects.ts'

const PATH = '/api/v1/services'

/** What one attempt to follow it has told, and why it has ended. */
async function attempt(answer: RequestListener): Promise<{ told: string[]; why: string }> {
  const server = createServer(answer)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const api = new KubeApi({
    api: `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`,
    ...{ tokenFile: null, ca: null, cert: null, key: null, class: null },
    ...{ addresses: [], askable: [], targets: 'pods', method: 'nat', scheduler: 'wlc' },
  })
  const told: string[] = []
  const stop = new AbortController()
  try {
    const follower = new KubeFollower(api, PATH, (object) => object)
    const why = await follower
      .attempt((heard) => {
        told.push(heard.kind)
        if (told.length > 20) stop.abort()
      }, stop.signal)
      .catch((error: Error) => error.message)
    return { told, why }
  } finally {
    api.close()
    server.close()
    server.closeAllConnections()
  }
}

for (const body of [
  '<html>maintenance</html>',
  '{}',
  '{"kind":"ServiceList","metadata":{"resourceVersion":"7"}}',
]) {
  test(`a list that is none takes no Service away: ${body}`, async () => {
    const { told, why } = await attempt((_request, response) => response.end(body))
    assert.deepEqual(told, [])
    assert.match(why, /something else than Kubernetes/)
  })
}

test('watches that end as soon as they begin are not asked for without a pause', async () => {
  const list = JSON.stringify({ metadata: { resourceVersion: '7' }, items: [] })
  const { told, why } = await attempt((request, response) =>
    response.end(request.url?.includes('watch=true') ? '' : list),
  )
  assert.deepEqual(told, ['whole'])
  assert.match(why, /ended as soon as it began/)
})

test('what is no port is none', () => {
  const ports = [99_999, -1, 1.5, '80', 443].map((port) => ({ port, nodePort: port }))
  assert.deepEqual(
    readService({ spec: { ports } }).ports.map(({ port, nodePort }) => [port, nodePort]),
    [...Array.from({ length: 4 }, () => [0, 0]), [443, 443]],
  )
  assert.deepEqual(
    readSlice({ ports }).ports.map(({ port }) => port),
    [0, 0, 0, 0, 443],
  )
})

for (const [name, status, body] of [
  ['a Status over several lines', 401, '{\n  "kind": "Status",\n  "message": "Unauthorized"\n}'],
  ['the page of a proxy', 401, '<html>\nUnauthorized\n</html>'],
  ['nothing but a status', 503, ''],
] as const) {
  test(`a watch that is refused says with which status: ${name}`, async () => {
    const list = JSON.stringify({ metadata: { resourceVersion: '7' }, items: [] })
    const { why } = await attempt((request, response) => {
      if (request.url?.includes('watch=true')) response.statusCode = status
      response.end(request.url?.includes('watch=true') ? body : list)
    })
    assert.match(why, new RegExp(`/api/v1/services: HTTP status ${status}: `))
    if (body !== '') assert.match(why, /Unauthorized/)
  })
}
