/** Pools out of Consul's HTTP API: against a stand-in, since the server is not packaged. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { addressOf, poolOf } from './addresses.ts'
import { ConsulStandIn } from './consul-stand-in.ts'
import { freePorts } from './processes.ts'
import { Watching } from './watching.ts'

describe('a pool in Consul (a stand-in for its agent)', () => {
  let consul = new ConsulStandIn()
  // Nobody else may have it while it is started again.
  before(async () => consul.start((await freePorts(1))[0]))
  after(() => consul.stop())
  const following = async (act: (watching: Watching) => Promise<void>, more = {}): Promise<void> => {
    const watching = new Watching(poolOf(addressOf('consul', [consul.url], more), 'web'))
    try {
      await act(watching)
    } finally {
      watching.close()
      for (const id of consul.ids()) consul.remove(id)
    }
  }
  const web = (id: string, address: string, port = 80, more = {}) => ({
    ...{ ID: id, Service: 'web', Address: address, Port: port },
    ...more,
  })

  test('has the instances of a service whose checks are not critical, with their weights', async () => {
    await following(async (watching) => {
      await watching.until('there is none', () => watching.size === 0)
      const asked = consul.requests
      consul.set(web('a', '10.0.0.1', 8080))
      await watching.has('10.0.0.1:8080')
      consul.set(web('b', '', 81))
      await watching.has('10.0.0.1:8080 10.0.0.250:81')
      consul.set(web('c', '10.0.0.3', 80, { Weights: { Passing: 10, Warning: 2 } }))
      consul.set({ ...web('x', '10.0.0.9'), Service: 'other' })
      await watching.has('10.0.0.1:8080 10.0.0.250:81 10.0.0.3:80*10')
      consul.set(web('c', '10.0.0.3', 80, { Weights: { Passing: 10, Warning: 2 } }), 'warning')
      await watching.has('10.0.0.1:8080 10.0.0.250:81 10.0.0.3:80*2')
      consul.set(web('a', '10.0.0.1', 8080), 'critical')
      await watching.has('10.0.0.250:81 10.0.0.3:80*2')
      consul.set(web('name', 'web-7.internal'))
      await watching.until('skipped', () => watching.state.badCount === 1)
      // It waits at the agent, and asks no more often than there is something new.
      assert.ok(consul.requests - asked < 20, `${consul.requests - asked} requests`)
    })
  })

  test('skips what no port and no weight can be, which Consul takes from everybody', async () => {
    await following(async (watching) => {
      for (const [n, port] of [99_999, 70_000, 80.5].entries()) consul.set(web(`p${n}`, '10.0.0.1', port))
      for (const [n, Passing] of [-1, 2.5, 2 ** 31].entries())
        consul.set(web(`w${n}`, '10.0.0.2', 80, { Weights: { Passing, Warning: 1 } }))
      consul.set(web('a', '10.0.0.3'))
      await watching.until('all are known', () => watching.state.badCount === 6)
      assert.equal(watching.text, '10.0.0.3:80')
    })
  })

  test('begins anew when the index goes backwards, and keeps what is known meanwhile', async () => {
    await following(async (watching) => {
      consul.set(web('a', '10.0.0.1'))
      await watching.has('10.0.0.1:80')
      const { port } = consul
      await consul.stop()
      await watching.until('away', () => watching.state.away !== null)
      assert.equal(watching.text, '10.0.0.1:80')
      consul = new ConsulStandIn()
      consul.index = 1
      consul.set(web('b', '10.0.0.2'))
      await consul.start(port)
      await watching.has('10.0.0.2:80')
      consul.index = 0
      consul.set(web('c', '10.0.0.3'))
      await watching.has('10.0.0.2:80 10.0.0.3:80')
    })
  })

  test('takes no garbage for an answer, and a refused token for no empty service', async () => {
    await following(async (watching) => {
      consul.set(web('a', '10.0.0.1'))
      await watching.has('10.0.0.1:80')
      consul.garbage = '<html>502</html>'
      consul.set(web('b', '10.0.0.2'))
      await watching.until('away', () => watching.state.away !== null)
      assert.match(watching.state.away!.why, /answers something else than Consul does: "<html>502/)
      consul.garbage = null
      await watching.has('10.0.0.1:80 10.0.0.2:80')
      consul.token = 'secret'
      consul.set(web('c', '10.0.0.3'))
      await watching.until('away', () => watching.state.away !== null)
      assert.match(watching.state.away!.why, /HTTP status 403: .*Permission denied/)
      // The third was told to who had waited for it before the token was asked for.
      assert.match(watching.text, /^10\.0\.0\.1:80 10\.0\.0\.2:80/)
    })
    await following(
      async (watching) => {
        consul.set(web('a', '10.0.0.1'))
        await watching.has('10.0.0.1:80')
      },
      { password: 'secret' },
    )
  })
})
