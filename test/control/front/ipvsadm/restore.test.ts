/** A restore is one change: packets and other clients see the old rules or the new ones. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Names, namesFrom } from '../../../../control/front/ipvsadm/names.ts'
import { runIpvsadm } from '../../../../control/front/ipvsadm/run.ts'
import type { Director } from '../../../../control/model/director.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../../dataplane/memory.ts'
import { lookUp, membersOf } from '../../map-reader.ts'
import { openDirector } from '../../opened-director.ts'
import { server, service, testHost } from '../../support.ts'

const SERVICES = 8000
const sizes = {
  ...SMALL_SIZES,
  services: 16_384,
  serviceBuckets: 4096,
  reals: 32_768,
  members: 131_072,
}

function open() {
  const dataplane = new MemoryDataplane(sizes)
  return { dataplane, ...openDirector({ dataplane, host: testHost() }) }
}

const address = (i: number): string => `10.${16 + (i >> 14)}.${(i >> 7) & 127}.${1 + (i & 127)}:80`

function file(port: number): string {
  const lines = ['-C']
  for (let i = 0; i < SERVICES; i++) {
    lines.push(`-A -t ${address(i)} -s rr`, `-a -t ${address(i)} -r 10.1.0.1:${port} -m`)
  }
  return lines.join('\n')
}

async function run(
  director: Director,
  words: string,
  stdin = '',
  names: () => Names = () => namesFrom('', ''),
) {
  const result = await runIpvsadm({ argv: ['ipvsadm', ...words.split(' ')], stdin, director, names })
  assert.ok(typeof result !== 'string')
  return { status: result.status, out: result.stdout.toString(), err: result.stderr.toString() }
}

const published = (dataplane: MemoryDataplane): number =>
  dataplane.map('service_index').u64.reduce((count, entry) => count + (entry === 0n ? 0 : 1), 0)

describe('restore', () => {
  test('beside other changes, everybody sees all of the old rules or all of the new ones', async () => {
    const { dataplane, director } = open()
    assert.equal((await run(director, '-R', file(1))).status, 0)
    let over = false
    const restored = run(director, '-R', file(2)).finally(() => {
      over = true
    })
    const seen = new Set<string>()
    let changes = 0
    while (!over) {
      await new Promise((resolve) => setImmediate(resolve))
      if (++changes % 20 !== 0) continue
      assert.equal((await run(director, `--set ${changes} 0 0`)).status, 0)
      assert.equal(published(dataplane), SERVICES, 'no service is ever taken away from packets')
      const rules = director.rules()
      const ports = new Set(rules.map(({ servers }) => servers.map(({ id }) => id.port).join()))
      seen.add(`${rules.length} of ${[...ports].join(' and ')}`)
    }
    assert.equal((await restored).status, 0)
    assert.ok(changes > 20, 'others got their turn')
    for (const state of seen) assert.ok([`${SERVICES} of 1`, `${SERVICES} of 2`].includes(state), state)
    assert.equal(director.rules().length, SERVICES)
    assert.notEqual(director.timeouts().tcp, 900)
  })

  test('a name that takes its time holds up nobody, and nobody sees half of the file', async () => {
    const { dataplane, director } = open()
    const web = service('tcp 10.0.0.1:80', { scheduler: 'rr' })
    const old = service('tcp 10.0.0.2:80', { scheduler: 'rr' })
    await run(director, '-A -t 10.0.0.1:80 -s rr')
    await run(director, '-A -t 10.0.0.2:80 -s rr')
    await run(director, '-a -t 10.0.0.2:80 -r 10.1.0.1:80 -m')
    let answerName: (address: null) => void = () => {}
    const names = () =>
      namesFrom('', '', {
        address: () =>
          new Promise((resolve) => {
            answerName = resolve
          }),
        name: async () => null,
        cancel: () => {},
      })
    const restored = run(
      director,
      '-R',
      '-C\n-A -t 10.0.0.1:80 -s wrr\n-a -t 10.0.0.1:80 -r 10.1.0.9:80 -m\n-a -t 10.0.0.1:80 -r no-such-host:80 -m\n',
      names,
    )
    await new Promise((resolve) => setTimeout(resolve, 20))
    const edited = await run(director, '-E -t 10.0.0.2:80 -s wlc')
    assert.deepEqual(edited, { status: 0, out: '', err: '' })
    assert.notEqual(lookUp(dataplane, old), -1)
    assert.deepEqual(membersOf(dataplane, old), ['10.1.0.1 80'])
    assert.deepEqual(membersOf(dataplane, web), [])
    assert.equal(director.rules().length, 2)
    answerName(null)
    const done = await restored
    assert.notEqual(done.status, 0)
    assert.match(done.err, /no-such-host|illegal/i)
    // As the original: what stands before the wrong line is done.
    assert.deepEqual(membersOf(dataplane, web), ['10.1.0.9 80'])
    assert.equal(lookUp(dataplane, old), -1)
  })

  test('what others change while a restore is made stands on top of it', async () => {
    const { dataplane, director } = open()
    for (const text of ['tcp 10.0.0.1:80', 'tcp 10.0.0.2:80']) director.addService(service(text))
    director.addServer(service('tcp 10.0.0.1:80').id, server('10.1.0.1:80'))
    await director.settle()
    const id = service('tcp 10.0.0.1:80').id
    const lines = ['-C', '-A -t 10.0.0.1:80', '-a -t 10.0.0.1:80 -r 10.1.0.2:80 -m -w 5', '--set 77 0 0']
    await director.transact(async (draft) => {
      for (const line of lines) await run(draft, line)
      assert.deepEqual(
        draft.rules().map(({ servers }) => servers.map(({ id: { address } }) => address)),
        [['10.1.0.2']],
      )
      // Others, on the old rules: a new service, a new real server, an edit of what the draft removes.
      assert.equal(director.rules().length, 2)
      assert.equal(director.timeouts().tcp, 900)
      assert.ok(director.addService(service('tcp 10.0.0.3:80')).ok)
      assert.ok(director.addServer(id, server('10.1.0.3:80')).ok)
      assert.ok(director.editServer(id, server('10.1.0.1:80', { weight: 9 })).ok)
      assert.ok(director.deleteService(service('tcp 10.0.0.2:80').id).ok)
      director.setSysctl('sloppy_tcp', 1)
      await director.settle()
      assert.deepEqual(membersOf(dataplane, service('tcp 10.0.0.1:80')), ['10.1.0.3 80', '10.1.0.1 80'])
    })
    await director.settle()
    assert.deepEqual(
      director
        .rules()
        .map(({ service: { id }, servers }) => [
          id.kind === 'address' ? id.address : '',
          servers.map((one) => `${one.id.address} ${one.weight}`),
        ]),
      [
        ['10.0.0.3', []],
        ['10.0.0.1', ['10.1.0.3 1', '10.1.0.2 5']],
      ],
    )
    assert.deepEqual(membersOf(dataplane, service('tcp 10.0.0.1:80')), ['10.1.0.3 80', '10.1.0.2 80'])
    assert.equal(lookUp(dataplane, service('tcp 10.0.0.2:80')), -1)
    assert.equal(director.timeouts().tcp, 77)
    assert.equal(director.sysctls().sloppy_tcp, 1)
  })

  test('a transaction that fails has not happened; the next one waits for its turn', async () => {
    const { director } = open()
    director.addService(service('tcp 10.0.0.1:80'))
    const order: string[] = []
    const first = director.transact(async (draft) => {
      draft.flush()
      await new Promise((resolve) => setTimeout(resolve, 10))
      order.push('first')
      throw new Error('no')
    })
    const second = director.transact(async (draft) => {
      order.push('second')
      draft.addService(service('tcp 10.0.0.2:80'))
    })
    await assert.rejects(first, /no/)
    await second
    assert.deepEqual(order, ['first', 'second'])
    assert.equal(director.rules().length, 2)
  })

  test('counters of a service that the file brings back go on only if it was not made anew', async () => {
    const { director, dataplane } = open()
    director.addService(service('tcp 10.0.0.1:80'))
    director.addServer(service('tcp 10.0.0.1:80').id, server('10.1.0.1:80'))
    await director.settle()
    dataplane.map('counters').u64[0] = 7n
    assert.equal(director.services()[0]!.counters.conns, 7n)
    const done = await run(
      director,
      '-R',
      '-C\n-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m\n-Ln --stats\n',
    )
    assert.equal(done.status, 0)
    assert.match(done.out, /10\.0\.0\.1:80 +0 +0/)
    assert.equal(director.services()[0]!.counters.conns, 0n)
  })
})
