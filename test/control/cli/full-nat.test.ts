/** `pointsman full-nat`, by the API of a director in this process. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import { addFullNat, deleteFullNat, listFullNat } from '../../../control/cli/full-nat.ts'
import { type Api, createApi } from '../../../control/front/api/server.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import { ask } from '../front/ask.ts'
import { contextOf } from '../front/context.ts'
import { openDirector } from '../opened-director.ts'
import { testHost } from '../support.ts'

describe('pointsman full-nat', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pointsman-full-nat-'))
  const socket = join(folder, 'api.sock')
  const { director, applier } = openDirector({ dataplane: new MemoryDataplane(), host: testHost() })
  let api: Api
  before(async () => {
    api = createApi({ context: contextOf(director, {}), failed: (error) => assert.fail(String(error)) })
    await api.listen(socket, 'all')
  })
  beforeEach(async () => {
    const present = director.fullNat().map(({ address }) => address)
    assert.ok(director.changeFullNat({ add: [], delete: present }).ok)
    await director.settle()
  })
  after(async () => {
    await api.close(0)
    await applier.stop()
    rmSync(folder, { recursive: true })
  })
  const listed = async (): Promise<string> => (await listFullNat(socket)).text()

  test('adds addresses, each with the ports that are said or the host’s own choice, and takes them away', async () => {
    assert.equal(await listed(), 'No addresses. Add one of this host: pointsman full-nat add 10.0.0.5\n')
    await addFullNat(socket, ['10.0.2.5', '2001:db8::5'], {})
    await addFullNat(socket, ['10.0.2.6'], { ports: '2000-2999' })
    assert.deepEqual(
      (await listed())
        .trimEnd()
        .split('\n')
        .map((line) => line.trim().split(/ {2,}/)),
      [
        ['address', 'ports', 'connections', 'ports taken', 'of'],
        ['10.0.2.5', '1024-32767', '0', '0', '31744'],
        ['2001:db8::5', '1024-32767', '0', '0', '31744'],
        ['10.0.2.6', '2000-2999', '0', '0', '1000'],
      ],
    )
    await deleteFullNat(socket, ['10.0.2.5', '2001:db8::5'])
    assert.match(await listed(), /^address[^\n]*\n10\.0\.2\.6 [^\n]*\n$/)
    assert.deepEqual((await listFullNat(socket)).json, [
      { address: '10.0.2.6', ports: { from: 2000, to: 2999 }, connections: 0, taken: 0 },
    ])
  })

  test('says what is wrong, and changes nothing then', async () => {
    for (const range of ['5000', '6000-5000', '0-5', '1024-70000', 'many'])
      await assert.rejects(
        addFullNat(socket, ['10.0.2.5'], { ports: range }),
        /Cannot read ports ".*": expected a range/,
      )
    await assert.rejects(
      addFullNat(socket, ['10.0.2.5'], { ports: '40000-50000' }),
      /gives 32768-60999 to its own sockets/,
    )
    await assert.rejects(addFullNat(socket, ['10.0.2.5', '127.0.0.1'], {}), /it is for this host alone/)
    await assert.rejects(addFullNat(socket, ['10.0.2'], {}), /10\.0\.2/)
    await assert.rejects(
      deleteFullNat(socket, ['10.0.2.5']),
      /full NAT does not have it, see pointsman full-nat list/,
    )
    assert.deepEqual(director.fullNat(), [])
  })

  test('a body that is none is refused with the place of what is wrong', async () => {
    for (const [body, path] of [
      [{ add: [{ address: '10.0.2.5', ports: { from: 9, to: 8 } }] }, 'body.add.0.ports'],
      [{ add: [{ address: '10.0.2.5', ports: { from: 0, to: 8 } }] }, 'body.add.0.ports'],
      [{ add: ['10.0.2.5'] }, 'body.add.0'],
      [{ delete: [5] }, 'body.delete.0'],
      [{ flush: true }, 'body.flush'],
    ] as const) {
      const { status, body: said } = await ask(socket, 'POST', '/v1/full-nat', { body: JSON.stringify(body) })
      assert.deepEqual([status, JSON.parse(said.toString()).error.path], [400, path])
    }
  })
})
