/** What a command says when the daemon is not there to answer. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { call, NoDaemonError } from '../../../control/front/api/client.ts'

const folder = mkdtempSync(join(tmpdir(), 'pointsman-client-'))
after(() => rmSync(folder, { recursive: true, force: true }))

async function refusal(socket: string): Promise<string> {
  const error = await call(socket, 'GET', '/v1/status').then(
    () => assert.fail('it was answered'),
    (cause) => cause,
  )
  assert.ok(error instanceof NoDaemonError)
  return error.message
}

test('nobody listens: it says how to start one', async () => {
  assert.match(
    await refusal(join(folder, 'nobody.sock')),
    /^No pointsmand is running .*start one: pointsmand/,
  )
})

test('a daemon that ends while it is asked is told from one that does not run', async () => {
  const socket = join(folder, 'ended.sock')
  const server = createServer((connection) => connection.once('data', () => connection.destroy()))
  server.listen(socket)
  await once(server, 'listening')
  try {
    assert.match(
      await refusal(socket),
      /^pointsmand .*ended before it had answered.*journalctl -u pointsmand/,
    )
  } finally {
    server.close()
  }
})
