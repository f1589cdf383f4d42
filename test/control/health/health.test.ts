/** What checks come to, for real servers and services. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { serverKey, serviceKey } from '../../../control/model/identity.ts'
import { server, service } from '../support.ts'
import { check, site, stage } from './stage.ts'

const WEB = 'tcp 10.0.0.1:80'
const [ONE, TWO] = ['10.1.0.1:80', '10.1.0.2:80'] as const
const key = serviceKey(service(WEB).id)
const of = (text: string) => serverKey(server(text).id)

describe('a real server', () => {
  test('goes down after `fall` bad answers in a row and comes back after `rise` good ones', async () => {
    const { health, say, pass, lines } = stage()
    health.want([site(WEB, [ONE, TWO], [check()])])
    await pass(3000)
    assert.equal(health.weight(key, of(ONE), 5), 5)
    say('10.1.0.1', 'bad', 'HTTP 503, wanted 200-399')
    await pass(2000)
    say('10.1.0.1', 'good', 'HTTP 200')
    await pass(1000)
    say('10.1.0.1', 'bad', 'HTTP 503, wanted 200-399')
    await pass(2000)
    assert.equal(health.weight(key, of(ONE), 5), 5, 'two, one good, and two are not three in a row')
    await pass(1000)
    assert.equal(health.weight(key, of(ONE), 5), null)
    assert.equal(health.weight(key, of(TWO), 5), 5)
    assert.deepEqual(lines, [`Real server ${ONE} of ${WEB} is down: web: HTTP 503, wanted 200-399`])
    say('10.1.0.1', 'good', 'HTTP 200')
    await pass(1000)
    assert.equal(health.weight(key, of(ONE), 5), null)
    await pass(1000)
    assert.equal(health.weight(key, of(ONE), 5), 5)
    assert.equal(lines.length, 2)
  })

  test('that cannot be asked stays what it is', async () => {
    const { health, say, pass } = stage()
    health.want([site(WEB, [ONE], [check()])])
    await pass(3000)
    say('10.1.0.1', 'void', 'the checker has ended')
    await pass(20_000)
    assert.equal(health.weight(key, of(ONE), 5), 5)
    assert.equal(health.state()[0]?.servers[0]?.probes[0]?.probe.last?.words, 'the checker has ended')
  })

  test('is drained instead of removed where that is wanted, and starts down where that is', async () => {
    const { health, say, pass } = stage()
    health.want([site(WEB, [ONE], [check()], { onFailure: 'drain', start: 'down' })])
    assert.equal(health.weight(key, of(ONE), 5), 0)
    await pass(2000)
    assert.equal(health.weight(key, of(ONE), 5), 5)
    say('10.1.0.1', 'bad', 'no')
    await pass(3000)
    assert.equal(health.weight(key, of(ONE), 5), 0)
  })

  test('grows into its weight after it has come up', async () => {
    const { health, say, pass, told } = stage()
    health.want([site(WEB, [ONE], [check({ rise: 1, fall: 1 })], { slowStartMs: 10_000 }, 100)])
    await pass(1000)
    assert.equal(health.weight(key, of(ONE), 100), 100, 'not when it was up from the start')
    say('10.1.0.1', 'bad', 'no')
    await pass(1000)
    assert.equal(health.weight(key, of(ONE), 100), null)
    say('10.1.0.1', 'good', 'yes')
    await pass(1020)
    const early = health.weight(key, of(ONE), 100)
    assert.ok(early !== null && early >= 1 && early <= 5, `weight ${early}`)
    const before = told.length
    await pass(5000)
    const middle = health.weight(key, of(ONE), 100)
    assert.ok(middle !== null && middle > 40 && middle < 60, `weight ${middle}`)
    assert.ok(told.length > before, 'and the rules are told')
    await pass(6000)
    assert.equal(health.weight(key, of(ONE), 100), 100)
    const after = told.length
    await pass(5000)
    assert.equal(told.length, after, 'then nothing changes any more')
  })

  test('has the weight that its checks say', async () => {
    const { health, say, pass } = stage()
    health.want([site(WEB, [ONE, TWO], [check()])])
    say('10.1.0.1', 'good', '75%', { weight: { kind: 'share', share: 0.75 } })
    say('10.1.0.2', 'good', 'status 12', { weight: { kind: 'is', weight: 10 } })
    await pass(3000)
    assert.equal(health.weight(key, of(ONE), 100), 75)
    assert.equal(health.weight(key, of(TWO), 100), 10)
    say('10.1.0.2', 'good', '-4', { weight: { kind: 'plus', weight: -4 } })
    await pass(2000)
    assert.equal(health.weight(key, of(TWO), 100), 96)
  })
})

describe('a service', () => {
  test('uses its sorry server while no real server is up', async () => {
    const sorry = server('10.1.0.9:80')
    const { health, say, pass } = stage()
    health.want([site(WEB, [ONE, TWO], [check()], { sorryServer: sorry })])
    await pass(3000)
    assert.deepEqual(health.extra(key), [])
    say('10.1.0.1', 'bad', 'no')
    say('10.1.0.2', 'bad', 'no')
    await pass(4000)
    assert.deepEqual(health.extra(key), [sorry])
    say('10.1.0.2', 'good', 'yes')
    await pass(3000)
    assert.deepEqual(health.extra(key), [])
  })

  test('is the sorry server alone without its quorum, but for who was drained', async () => {
    const sorry = server('10.1.0.9:80')
    const { health, say, pass } = stage()
    const stated = site(WEB, [ONE, TWO], [check()], { sorryServer: sorry, sorryStays: true, quorum: 2 })
    health.want([stated])
    await pass(3000)
    assert.deepEqual(health.extra(key), [{ ...sorry, weight: 0 }], 'it keeps its connections')
    say('10.1.0.2', 'bad', 'no')
    await pass(4000)
    assert.deepEqual(health.extra(key), [sorry])
    assert.equal(health.weight(key, of(ONE), 1), null)
    assert.equal(health.weight(key, of(ONE), 0), 0)
  })

  test('leaves in the list who says so of itself', async () => {
    const { health, say, pass } = stage()
    const stated = site(WEB, [ONE, TWO], [check()])
    const [one, two] = stated.servers
    const drained = { ...one!, policy: { ...one!.policy, onFailure: 'drain' as const } }
    health.want([{ ...stated, servers: [drained, two!] }])
    say('10.1.0.1', 'bad', 'no')
    say('10.1.0.2', 'bad', 'no')
    await pass(4000)
    assert.deepEqual([health.weight(key, of(ONE), 5), health.weight(key, of(TWO), 5)], [0, null])
  })

  test('loses and wins its quorum with hysteresis, and its hooks are told', async () => {
    const hook = (name: string) => ({ command: [name], user: null })
    const { health, say, pass, hooks } = stage()
    const servers = ['10.1.0.1:80', '10.1.0.2:80', '10.1.0.3:80', '10.1.0.4:80']
    const policy = { quorum: 2, hysteresis: 1, onQuorumUp: hook('up'), onQuorumDown: hook('down') }
    health.want([site(WEB, servers, [check({ rise: 1, fall: 1 })], policy)])
    await pass(1500)
    for (const address of ['10.1.0.1', '10.1.0.2', '10.1.0.3']) say(address, 'bad', 'no')
    await pass(2000)
    assert.deepEqual(hooks, [], 'one is not below 2 - 1')
    say('10.1.0.4', 'bad', 'no')
    await pass(2000)
    assert.deepEqual(
      hooks.map(({ command }) => command[0]),
      ['down'],
    )
    for (const address of ['10.1.0.1', '10.1.0.2']) say(address, 'good', 'yes')
    await pass(2000)
    assert.equal(hooks.length, 1, 'two is not 2 + 1')
    say('10.1.0.3', 'good', 'yes')
    await pass(2000)
    assert.deepEqual(
      hooks.map(({ command, state }) => [command[0], state]),
      [
        ['down', 'down'],
        ['up', 'up'],
      ],
    )
  })

  test('shares the question with every other that wants the same asked of the same', async () => {
    const { health, asked, pass } = stage()
    const other = 'tcp 10.0.0.2:80'
    health.want([site(WEB, [ONE], [check()]), site(other, [ONE], [check({ name: 'another name' })])])
    await pass(950)
    assert.equal(asked.length, 1)
    health.want([site(other, [ONE], [check()])])
    await pass(1000)
    assert.equal(asked.length, 2)
    health.want([])
    await pass(5000)
    assert.equal(asked.length, 2)
    assert.equal(health.weight(key, of(ONE), 5), 5)
  })
})

describe('a restart', () => {
  test('goes on with what was known: nothing flaps, no hook and no line', async () => {
    const first = stage()
    const wanted = [site(WEB, [ONE, TWO], [check()], { sorryServer: server('10.1.0.9:80') })]
    first.health.want(wanted)
    first.say('10.1.0.1', 'bad', 'HTTP 503, wanted 200-399')
    first.say('10.1.0.2', 'bad', 'no')
    await first.pass(5000)
    assert.equal(first.health.weight(key, of(ONE), 5), null)
    first.health.stop()
    const second = stage({}, first.saved())
    second.say('10.1.0.1', 'bad', 'HTTP 503, wanted 200-399')
    second.say('10.1.0.2', 'bad', 'no')
    second.health.want(wanted)
    assert.equal(second.health.weight(key, of(ONE), 5), null)
    assert.equal(second.health.extra(key).length, 1)
    assert.equal(second.health.state()[0]?.servers[0]?.words, 'web: HTTP 503, wanted 200-399')
    await second.pass(10_000)
    assert.deepEqual([second.lines, second.hooks, second.health.journal.since(0)], [[], [], []])
  })

  test('of what was up, with another answer now, needs as many bad ones as ever', async () => {
    const first = stage()
    const wanted = [site(WEB, [ONE], [check()])]
    first.health.want(wanted)
    await first.pass(5000)
    first.health.stop()
    const second = stage({}, first.saved())
    second.say('10.1.0.1', 'bad', 'no')
    second.health.want(wanted)
    await second.pass(1500)
    assert.equal(second.health.weight(key, of(ONE), 5), 5)
    await second.pass(1000)
    assert.equal(second.health.weight(key, of(ONE), 5), null)
  })
})

test('a check that flaps ten times a second keeps no more than so much', async () => {
  const { health, say, pass, lines } = stage()
  health.want([site(WEB, [ONE], [check({ intervalMs: 100, retryIntervalMs: 100, rise: 1, fall: 1 })])])
  for (let n = 0; n < 1000; n++) {
    say('10.1.0.1', n % 2 === 0 ? 'good' : 'bad', `answer ${n}`)
    await pass(100)
  }
  assert.ok(lines.length > 900)
  const [shown] = health.state()
  assert.equal(shown?.servers[0]?.probes[0]?.probe.changes.length, 16)
  assert.equal(health.journal.since(0).length, 1024)
})
