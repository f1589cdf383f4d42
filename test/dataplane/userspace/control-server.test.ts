/** The forwarder's control socket: whom it greets, and when it greets nobody any more. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { ControlServer } from '../../../dataplane/userspace/forwarder/control-server.ts'
import type { Forwarder } from '../../../dataplane/userspace/forwarder/forwarder.ts'
import { ForwarderLink } from '../../../dataplane/userspace/forwarder/forwarder-link.ts'

const SETUP = { workers: 1, intake: 'packet', busyPoll: false, ringBytes: 0, build: '', maps: 1 }

/** A server whose forwarder takes what is given for `detach`. */
async function serving(
  body: (path: string, server: ControlServer, ended: () => string[]) => Promise<void>,
  detach: () => Promise<void>,
  recordTo: (recording: object | null) => Promise<void> = async () => {},
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-control-'))
  const path = join(folder, 'forwarder.sock')
  const server = new ControlServer(SETUP as never)
  const ended: string[] = []
  const forwarder = { interfaces: () => [], detach, recordTo } as unknown as Forwarder
  try {
    await server.listen(path, forwarder, async (how) => {
      ended.push(how)
    })
    await body(path, server, () => ended)
  } finally {
    await server.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

test('whoever comes while it detaches waits until it is gone, and then finds nobody', async () => {
  let begin = (): void => {}
  const begun = new Promise<void>((resolve) => {
    begin = resolve
  })
  let finish = (): void => {}
  const detaching = new Promise<void>((resolve) => {
    finish = resolve
  })
  await serving(
    async (path, server, ended) => {
      const first = await ForwarderLink.connect(path)
      assert.ok(first !== null)
      const detached = first.order({ order: 'detach' })
      let late: ForwarderLink | null | 'waits' = 'waits'
      await begun
      const second = ForwarderLink.connect(path).then((link) => {
        late = link
      })
      finish()
      await detached
      assert.equal(late, 'waits')
      assert.deepEqual(ended(), ['detach'])
      await server.close()
      await second
      assert.equal(late, null)
      first.close()
    },
    () => {
      begin()
      return detaching
    },
  )
})

test('a detach that fails ends nothing: the next one is greeted', async () => {
  await serving(
    async (path, _, ended) => {
      const first = await ForwarderLink.connect(path)
      await assert.rejects(first!.order({ order: 'detach' }), /no such luck/)
      const second = await ForwarderLink.connect(path)
      assert.ok(second !== null)
      assert.deepEqual(ended(), [])
      first!.close()
      second.close()
    },
    () => Promise.reject(new Error('no such luck')),
  )
})

test('whoever hangs up before its recording has begun is not recorded for', async () => {
  const told: string[] = []
  let over = (): void => {}
  const isOver = new Promise<void>((resolve) => {
    over = resolve
  })
  await serving(
    async (path) => {
      const link = await ForwarderLink.connect(path)
      const filter = { client: null, service: null, verdicts: null, snap: 64, sample: 1 }
      const order = link!.order({ order: 'record', path: '/nowhere', filter }).catch(() => {})
      while (told.length === 0) await new Promise((resolve) => setImmediate(resolve))
      link!.close()
      await Promise.all([order, isOver])
      assert.deepEqual(told, ['begin', 'end'])
    },
    async () => {},
    async (recording) => {
      told.push(recording === null ? 'end' : 'begin')
      if (recording === null) over()
      // Workers that take their time.
      else await isOver
    },
  )
})
