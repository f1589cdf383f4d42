/** Words of `pointsman` that change something, and what they warn of before they do. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { dataplane } from '../../../control/cli/verbs.ts'
import type { Status } from '../../../control/insight/status.ts'

const seen = { seen: true, interfaces: ['c0'], refused: [] }
const status: Status = {
  ...{ version: '0.1.0', pid: 1, startedAt: '2026-11-23T06:00:00.000Z', forwarding: true },
  dataplane: {
    ...{ kind: 'tc', reason: 'asked for', adopted: false, program: null, interfaces: [], missing: [] },
    ...{ answers: null, cutting: null, own: null, warnings: [], sendFailures: null },
  },
  ...{ services: 0, realServers: 0, connections: { ipv4: 0, ipv6: 0, templates: 0 }, capacity: {} },
  ...{ sources: [], pools: [], holds: [], health: null, notInForce: [], repairs: {}, unsupported: [] },
  memoryMiB: 1,
}

/** A daemon that says this of itself; what it was asked for, in turn. */
async function daemon(t: TestContext, answers: Status['dataplane']['answers']) {
  const folder = mkdtempSync(join(tmpdir(), 'pmverbs-'))
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    request.resume()
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ ...status, dataplane: { ...status.dataplane, answers } }))
  })
  const socket = join(folder, 'pointsman.sock')
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
    rmSync(folder, { recursive: true })
  })
  return { socket, asked }
}

test('a change to the userspace plane is warned of before, where it resets connections', async (t) => {
  const { socket, asked } = await daemon(t, seen)
  const said: string[] = []
  await dataplane(socket, 'userspace', (notice) => said.push(`${notice} (after ${asked.join(', ')})`))
  assert.equal(said.length, 1)
  assert.match(said[0]!, /NAT real servers on this host are reset.*\(after GET \/v1\/status\)$/)
  assert.deepEqual(asked, ['GET /v1/status', 'PUT /v1/dataplane', 'GET /v1/status'])
})

test('other changes and other directors are not warned of', async (t) => {
  const local = await daemon(t, seen)
  const none = await daemon(t, null)
  const fail = (notice: string) => assert.fail(notice)
  await dataplane(local.socket, 'xdp', fail)
  await dataplane(local.socket, undefined, fail)
  await dataplane(none.socket, 'userspace', fail)
})
