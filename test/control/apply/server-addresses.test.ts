/** Which addresses are to stay resolved, as real servers come and go. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import { openDirector } from '../opened-director.ts'
import { ip, server, service, testHost } from '../support.ts'

const web = service('tcp 192.0.2.100:80', { scheduler: 'rr' })
const other = service('tcp 192.0.2.101:80', { scheduler: 'rr' })

test('an address is told when its first real server comes and when its last has gone', async () => {
  const dataplane = new MemoryDataplane(SMALL_SIZES, 1000)
  const { director, applier } = openDirector({ dataplane, host: testHost() })
  const told = (most = 100) => {
    const { added, dropped, more } = applier.addresses.take(most)
    return [[...added].sort(), [...dropped].sort(), more]
  }
  for (const { id } of [web, other]) {
    director.addService(id === web.id ? web : other)
    director.addServer(id, server('10.0.0.1:80'))
  }
  director.addServer(web.id, server('10.0.0.2:80'))
  director.addServer(web.id, server('10.0.0.2:81'))
  await director.settle()
  assert.deepEqual(told(1).at(2), true)
  assert.deepEqual(told(1).at(2), false)
  assert.deepEqual(told(), [[], [], false])

  director.editServer(web.id, server('10.0.0.1:80', { weight: 9 }))
  director.deleteServer(web.id, server('10.0.0.1:80').id)
  director.deleteServer(web.id, server('10.0.0.2:80').id)
  await director.settle()
  assert.deepEqual(told(), [[], [], false], 'others have these addresses')

  director.deleteServer(web.id, server('10.0.0.2:81').id)
  director.deleteService(other.id)
  await director.settle()
  assert.deepEqual(told(), [[], ['10.0.0.1', '10.0.0.2'], false])

  director.addServer(web.id, server('10.0.0.2:81'))
  await director.settle()
  assert.deepEqual(told(), [['10.0.0.2'], [], false], 'also one that comes back')

  const { addresses } = applier
  addresses.wantAlso(new Set([ip('10.0.0.2'), ip('10.0.0.9')]))
  assert.deepEqual(addresses.take(9), { added: ['10.0.0.9'], dropped: [], more: false })
  director.deleteServer(web.id, server('10.0.0.2:81').id)
  await director.settle()
  assert.deepEqual(addresses.take(9), { added: [], dropped: [], more: false }, 'down, and asked after')
  addresses.wantAlso(new Set())
  assert.deepEqual(addresses.take(9), { added: [], dropped: ['10.0.0.2', '10.0.0.9'], more: false })
})

test('a director that takes over knows them all', async () => {
  const dataplane = new MemoryDataplane(SMALL_SIZES, 1000)
  const first = openDirector({ dataplane, host: testHost() })
  first.director.addService(web)
  for (const at of ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.3:80']) first.director.addServer(web.id, server(at))
  await first.director.settle()
  first.director.deleteServer(web.id, server('10.0.0.3:80').id)
  await first.director.settle()
  const { applier } = openDirector({ dataplane, host: testHost() })
  assert.deepEqual([...applier.addresses.all()].sort(), ['10.0.0.1', '10.0.0.2'])
  assert.deepEqual(applier.addresses.take(100), { added: [], dropped: [], more: false })
})
