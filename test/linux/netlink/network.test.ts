import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, describe, test } from 'node:test'
import type { NetlinkMessage } from '../../../linux/netlink/message.ts'
import { Network, type NetworkChange } from '../../../linux/netlink/network.ts'
import { NextHopResolver } from '../../../linux/netlink/next-hop.ts'
import { QuestionSocket, type Questions } from '../../../linux/netlink/questions.ts'
import type { Query } from '../../../linux/netlink/rtnetlink.ts'
import { RequestSocket } from '../../../linux/netlink/socket.ts'
import type { IpAddress } from '../../../net/address.ts'
import { addressToBytes, parseAddress } from '../../../net/address.ts'
import {
  awaitLocal,
  enterPrivateNetwork,
  ip,
  skipWithoutPrivileges,
  sysctl,
  until,
} from '../../dataplane/private-network.ts'

const address = (text: string): IpAddress => parseAddress(text)!
const mac = (text: string): Uint8Array => Buffer.from(text.replaceAll(':', ''), 'hex')

function query(destination: string, source: string, ifindex: number) {
  const daddr = new Uint8Array(16)
  const saddr = new Uint8Array(16)
  daddr.set(addressToBytes(address(destination)))
  saddr.set(addressToBytes(address(source)))
  const family = destination.includes(':') ? 6 : 4
  return { family, protocol: 6, tos: 0, ifindex, saddr, daddr, smac: daddr, dmac: daddr, mtu: 0 }
}

describe('the network of this host', { skip: skipWithoutPrivileges }, () => {
  let network: Network
  const changes: NetworkChange[] = []
  const changed = (kind: keyof NetworkChange) => until(() => changes.some((change) => change[kind]), kind)

  before(() => {
    enterPrivateNetwork()
    ip('link add r0 address 02:00:00:00:02:01 type veth peer name wire-r')
    sysctl('net/ipv6/conf/r0/accept_dad', 0)
    sysctl('net/ipv6/conf/r0/addr_gen_mode', 1)
    ip('link set r0 up')
    ip('link set wire-r up')
    ip('addr add 10.0.2.1/24 dev r0')
    ip('addr add 2001:db8:2::1/64 dev r0 nodad')
    awaitLocal(['2001:db8:2::1'])
    ip('neigh add 10.0.2.11 lladdr 02:00:00:00:02:11 dev r0 nud permanent')
    ip('neigh add 10.0.2.254 lladdr 02:00:00:00:02:fe dev r0 nud reachable')
    ip('neigh add 2001:db8:2::11 lladdr 02:00:00:00:02:11 dev r0 nud permanent')
    ip('route add 10.0.3.0/24 via 10.0.2.254 mtu 1400')
    network = new Network()
    network.onChange((change) => changes.push(change))
  })
  after(() => network.close())

  test('interfaces carry their addresses, and the list stays the same object until a change', () => {
    const r0 = network.interfaces().find((entry) => entry.name === 'r0')
    assert.ok(r0)
    assert.deepEqual(r0.mac, new Uint8Array(mac('02:00:00:00:02:01')))
    assert.equal(r0.mtu, 1500)
    assert.equal(r0.up, true)
    const addresses = r0.addresses.map((entry) => `${entry.address}/${entry.prefixLength}`)
    assert.deepEqual(addresses.sort(), ['10.0.2.1/24', '2001:db8:2::1/64'])
    assert.equal(network.interfaces(), network.interfaces())
    assert.ok(network.localAddresses().includes(address('127.0.0.1')))
    assert.equal(network.interfaces().find((entry) => entry.name === 'lo')?.mac, null)
  })

  test('routes are looked up in the kernel: gateway, source, MTU, local, none', () => {
    const ifindex = network.interfaces().find((entry) => entry.name === 'r0')!.ifindex
    assert.deepEqual(network.lookup(address('10.0.3.9')), {
      kind: 'unicast',
      ifindex,
      gateway: '10.0.2.254',
      source: '10.0.2.1',
      mtu: 1400,
    })
    assert.equal(network.resolveSource(address('2001:db8:2::99')), '2001:db8:2::1')
    assert.equal(network.resolveSource(address('203.0.113.1')), null)
    assert.deepEqual(network.lookup(address('10.0.2.1')), { kind: 'local' })
    assert.deepEqual(network.lookup(address('2001:db8:2::1')), { kind: 'local' })
    assert.deepEqual(network.lookup(address('203.0.113.1')), { kind: 'none' })
    assert.deepEqual(network.lookup(address('10.0.2.255')), { kind: 'none' })
  })

  test('next hops have both link-layer addresses, or the reason why not', () => {
    const ifindex = network.interfaces().find((entry) => entry.name === 'r0')!.ifindex
    let epoch = 1
    const socket = new RequestSocket()
    const resolver = new NextHopResolver(socket, () => epoch)
    sysctl('net/ipv4/conf/r0/forwarding', 0)
    assert.deepEqual(resolver.resolve(query('10.0.2.11', '198.51.100.1', ifindex)), {
      result: 'forwarding-off',
    })
    sysctl('net/ipv4/conf/r0/forwarding', 1)
    sysctl('net/ipv6/conf/all/forwarding', 1)
    epoch += 1
    const ok = {
      result: 'ok',
      ifindex,
      smac: mac('02:00:00:00:02:01'),
      dmac: mac('02:00:00:00:02:11'),
      mtu: 1500,
    }
    const same = (answer: unknown, want: unknown) =>
      assert.equal(JSON.stringify(answer), JSON.stringify(want))
    same(resolver.resolve(query('10.0.2.11', '198.51.100.1', ifindex)), {
      ...ok,
      smac: new Uint8Array(ok.smac),
      dmac: new Uint8Array(ok.dmac),
    })
    assert.equal(resolver.resolve(query('2001:db8:2::11', '2001:db8:c::1', ifindex)).result, 'ok')
    const routed = resolver.resolve(query('10.0.3.1', '198.51.100.1', ifindex))
    assert.ok(routed.result === 'ok')
    assert.equal(routed.mtu, 1400)
    assert.equal(Buffer.from(routed.dmac).toString('hex'), '0200000002fe')
    for (const [destination, want] of [
      ['10.0.2.1', 'local'],
      ['203.0.113.9', 'no-route'],
      ['10.0.2.99', 'no-neighbour'],
    ] as const) {
      const answer = resolver.resolve(query(destination, '198.51.100.1', ifindex))
      assert.equal(answer.result, want, destination)
    }
    // Asking has started the resolution.
    assert.match(ip('neigh show 10.0.2.99'), /INCOMPLETE/)
    socket.close()
  })

  test('an answer is remembered until the epoch changes', () => {
    const ifindex = network.interfaces().find((entry) => entry.name === 'r0')!.ifindex
    let epoch = 1
    const socket = new RequestSocket()
    const resolver = new NextHopResolver(
      socket,
      () => epoch,
      () => 0,
    )
    const hop = () => resolver.resolve(query('10.0.4.1', '198.51.100.1', ifindex)).result
    assert.equal(hop(), 'no-route')
    ip('route add 10.0.4.0/24 via 10.0.2.11')
    assert.equal(hop(), 'no-route')
    epoch += 1
    assert.equal(hop(), 'ok')
    socket.close()
  })

  test('a flood of addresses is asked about so fast and no faster, and known ones stay known', () => {
    const ifindex = network.interfaces().find((entry) => entry.name === 'r0')!.ifindex
    let now = 0
    let questions = 0
    const socket = new RequestSocket()
    const counting = new Proxy(socket, {
      get: (target, name) => {
        if (name === 'get') questions += 1
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    const resolver = new NextHopResolver(
      counting,
      () => 1,
      () => now,
    )
    const hop = (destination: string) => resolver.resolve(query(destination, '198.51.100.1', ifindex)).result
    ip('route add 10.5.0.0/16 via 10.0.2.11')
    assert.equal(hop('10.5.0.1'), 'ok')
    questions = 0
    for (let i = 0; i < 100; i++) assert.equal(hop(`10.5.1.${i}`), 'ok')
    // One question each for the route: they share the gateway's neighbour.
    assert.equal(questions, 100)
    for (let i = 0; i < 5000; i++) hop(`10.5.${2 + (i >> 8)}.${i & 255}`)
    assert.ok(questions < 300, `${questions} questions`)
    assert.equal(hop('10.5.250.1'), 'no-neighbour')
    assert.equal(hop('10.5.1.99'), 'ok')
    now += 5
    assert.equal(hop('10.5.250.1'), 'ok')
    socket.close()
  })

  test('listeners hear of addresses, routes, links, and neighbours that moved', async () => {
    changes.length = 0
    ip('addr add 10.0.2.2/24 dev r0')
    await changed('addresses')
    assert.ok(network.localAddresses().includes(address('10.0.2.2')))
    ip('route add 10.0.5.0/24 via 10.0.2.254')
    await changed('routes')
    changes.length = 0
    ip('neigh replace 10.0.2.254 lladdr 02:00:00:00:02:fd dev r0 nud reachable')
    await changed('neighbours')
    changes.length = 0
    ip('link set r0 mtu 1400')
    await changed('links')
    assert.equal(network.interfaces().find((entry) => entry.name === 'r0')?.mtu, 1400)
    ip('link add gone0 type veth peer name gone1')
    await until(() => network.interfaces().some((entry) => entry.name === 'gone0'), 'gone0 appears')
    ip('link del gone0')
    await until(() => !network.interfaces().some((entry) => entry.name === 'gone0'), 'gone0 disappears')
  })

  test('a new neighbour is no change: nobody used it yet', async () => {
    changes.length = 0
    ip('neigh add 10.0.2.77 lladdr 02:00:00:00:02:77 dev r0 nud reachable')
    // What the kernel tells later is heard later.
    ip('route add 10.0.6.0/24 via 10.0.2.254')
    await changed('routes')
    assert.ok(!changes.some(({ neighbours }) => neighbours), JSON.stringify(changes))
    ip('link set r0 mtu 1500')
  })

  const shown = (who: string): string => ip(`neigh show ${who} dev r0`)
  const managed = (who: string, wanted = true) =>
    until(() => shown(who).includes('managed') === wanted, `${who} is managed: ${wanted}`)

  test('the kernel is asked to keep next hops resolved, and released again', async () => {
    network.keepResolved([address('10.0.3.7'), address('10.0.2.12'), address('10.0.2.11')])
    await managed('10.0.2.254')
    await managed('10.0.2.12')
    assert.match(shown('10.0.2.11'), /PERMANENT/)
    assert.doesNotMatch(shown('10.0.2.11'), /managed/)
    network.keepResolved([address('10.0.2.12')])
    await managed('10.0.2.254', false)
    assert.match(shown('10.0.2.12'), /managed/)
  })

  test('what a crashed daemon had kept is released by the next', async () => {
    network.keepResolved([])
    await managed('10.0.2.12', false)
    const crashed = new Network()
    crashed.keepResolved([address('10.0.2.12')])
    await managed('10.0.2.12')
    crashed.close()
    const next = new Network()
    next.keepResolved([])
    await managed('10.0.2.12', false)
    next.close()
  })

  test('an entry that is taken away is kept again', async () => {
    network.keepResolved([address('10.0.2.12')])
    await managed('10.0.2.12')
    ip('neigh del 10.0.2.12 dev r0')
    await managed('10.0.2.12')
    network.keepResolved([])
    await managed('10.0.2.12', false)
  })

  test('any number of addresses is kept, each next hop once', async () => {
    const many = Array.from({ length: 3000 }, (_, i) => address(`10.0.3.${i % 250}`))
    const servers = Array.from({ length: 700 }, (_, i) => address(`10.0.2.${(i % 150) + 100}`))
    network.keepResolved([...many, ...servers])
    await until(() => network.neighboursKept === 151, '150 on the link and a gateway')
    network.keepResolved([])
    await until(() => network.neighboursKept === 0, 'none any more')
  })

  test('a route elsewhere is no change for what is kept; one to it, or the default, is', async () => {
    network.keepResolved([address('10.0.3.7')])
    await until(() => network.neighboursKept === 1, 'the gateway is kept')
    const heard = async (words: string): Promise<readonly string[]> => {
      changes.length = 0
      ip(words)
      await until(() => changes.some(({ routes }) => routes), words)
      return changes.filter(({ routes }) => routes).map(({ nextHops }) => nextHops)
    }
    assert.deepEqual(await heard('route add 203.0.113.0/24 via 10.0.2.254'), ['others'])
    assert.deepEqual(await heard('route del 203.0.113.0/24 via 10.0.2.254'), ['others'])
    assert.deepEqual(await heard('route add 10.0.3.4/30 via 10.0.2.14'), ['kept'])
    await until(() => changes.some(({ ways }) => ways.has(address('10.0.3.7'))), 'its way is another')
    await managed('10.0.2.14')
    assert.deepEqual(await heard('route del 10.0.3.4/30 via 10.0.2.14'), ['kept'])
    assert.deepEqual(await heard('route add default via 10.0.2.254'), ['kept'])
    network.keepResolved([])
  })

  test('a link that goes down takes its ways along, also one without an address', async () => {
    ip('link add u0 type veth peer name u1')
    ip('link set u0 up')
    ip('link set u1 up')
    ip('route add 10.0.7.0/24 dev u0')
    network.keepResolved([address('10.0.7.7')])
    await until(() => network.neighboursKept === 1, 'it is kept')
    changes.length = 0
    ip('link set u0 down')
    await until(() => changes.some(({ ways }) => ways.has(address('10.0.7.7'))), 'its way is gone')
    // The answer about the way may come before the event about the link.
    assert.ok(changes.some(({ nextHops }) => nextHops === 'kept'))
    ip('link del u0')
    network.keepResolved([])
    await until(() => network.neighboursKept === 0, 'none any more')
  })

  test('a source address that changes is a way that changed', async () => {
    network.keepResolved([address('10.0.3.7')])
    assert.equal(network.resolveSource(address('10.0.3.7')), '10.0.2.1')
    await until(() => network.neighboursKept === 1, 'the gateway is kept')
    changes.length = 0
    ip('route replace 10.0.3.0/24 via 10.0.2.254 src 10.0.2.2')
    await until(() => changes.some(({ ways }) => ways.has(address('10.0.3.7'))), 'its way is another')
    assert.equal(network.resolveSource(address('10.0.3.7')), '10.0.2.2')
    network.keepResolved([])
  })

  test('kept next hops follow the routes', async () => {
    network.keepResolved([address('10.0.3.7')])
    ip('route replace 10.0.3.0/24 via 10.0.2.13')
    await until(() => ip('neigh show 10.0.2.13 dev r0').includes('managed'), 'the new gateway is kept')
    await managed('10.0.2.254', false)
    network.keepResolved([])
    await until(() => network.neighboursKept === 0, 'none any more')
  })
})

describe('a kernel that is late', { skip: skipWithoutPrivileges }, () => {
  /** Hands on to the kernel, or keeps everything until it is let go. */
  class Reluctant implements Questions {
    readonly #real = new QuestionSocket()
    asked = 0
    silent = true
    /** What happens between the kernel's answer and its being read. */
    afterChange = async (): Promise<void> => {}

    async ask(queries: readonly Query[]) {
      this.asked += queries.length
      return this.silent ? queries.map(() => null) : await this.#real.ask(queries)
    }
    async change(queries: readonly Query[], flags?: number) {
      if (this.silent) return queries.map(() => null)
      const answers = await this.#real.change(queries, flags)
      await this.afterChange()
      return answers
    }
    async dump(query: Query, piece: (messages: readonly NetlinkMessage[]) => void) {
      return this.silent ? false : await this.#real.dump(query, piece)
    }
    close(): void {
      this.#real.close()
    }
  }

  test('what is not answered is asked again, and nothing fails meanwhile', async () => {
    const questions = new Reluctant()
    const network = new Network({ questions, compareMs: 50 })
    network.keepResolved([address('10.0.2.12')])
    ip('link set r0 mtu 1300')
    await until(() => questions.asked >= 2, 'asked again')
    assert.equal(network.neighboursKept, 0)
    await network.resolve(address('10.0.2.12'))
    questions.silent = false
    await until(() => network.neighboursKept === 1, 'the neighbour is kept in the end')
    network.keepResolved([])
    await until(() => network.neighboursKept === 0, 'and released')
    network.close()
    ip('link set r0 mtu 1500')
  })

  test('an entry that goes before the kernel is heard to have made it is made again', async () => {
    const questions = new Reluctant()
    questions.silent = false
    const network = new Network({ questions, compareMs: 3_600_000 })
    let goes = true
    questions.afterChange = async () => {
      if (!goes) return
      goes = false
      ip('neigh del 10.0.2.12 dev r0')
      // The event is heard first.
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    network.keepResolved([address('10.0.2.12')])
    const isManaged = () => ip('neigh show 10.0.2.12 dev r0').includes('managed')
    await until(() => !goes && isManaged() && network.neighboursKept === 1, 'it is kept')
    network.keepResolved([])
    await until(() => network.neighboursKept === 0, 'released')
    network.close()
  })

  test('storms of routes elsewhere ask nothing', async () => {
    const questions = new Reluctant()
    questions.silent = false
    // Comparing with the kernel, which asks too, is not due meanwhile.
    const network = new Network({ questions, compareMs: 3_600_000 })
    network.keepResolved([address('10.0.3.7')])
    await until(() => network.neighboursKept === 1, 'the gateway is kept')
    await new Promise((resolve) => setTimeout(resolve, 200))
    const before = questions.asked
    const generation = network.hopGeneration
    let heard = 0
    network.onChange(({ routes, nextHops }) => {
      if (!routes) return
      heard += 1
      assert.equal(nextHops, 'others')
    })
    const lines = Array.from(
      { length: 4000 },
      (_, i) => `route add 198.18.${i >> 8}.${i & 255}/32 via 10.0.2.254`,
    )
    execFileSync('ip', ['-batch', '-'], { input: lines.join('\n') })
    await until(() => heard > 0, 'routes have changed')
    await new Promise((resolve) => setTimeout(resolve, 300))
    assert.equal(questions.asked, before)
    assert.equal(network.hopGeneration, generation, 'nobody is reached another way')
    network.keepResolved([])
    await until(() => network.neighboursKept === 0, 'released')
    network.close()
  })
})
