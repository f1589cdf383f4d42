/** Wanted interfaces against real ones, without a kernel: the plane and the links are plain data. */
import assert from 'node:assert/strict'
import { beforeEach, describe, mock, test } from 'node:test'
import { Attachments } from '../../../control/apply/attachments.ts'
import {
  type AttachedInterface,
  type AttachResult,
  type Dataplane,
  presentName,
  type WantedInterface,
  wantedName,
} from '../../../dataplane/dataplane.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import { type Link, Links } from '../../../linux/links.ts'
import { link } from '../../linux/plain-link.ts'

/** Takes what there is, as the kernel would; a link that goes takes its attachment with it. */
class Machine {
  links = new Links([])
  readonly attaches: string[] = []
  readonly refuse = new Map<string, string>()
  #taken = new Map<number, string>()
  #listener: () => void = () => {}

  readonly source = {
    links: () => this.links,
    onLinkChange: (listener: () => void) => {
      this.#listener = listener
      return () => {}
    },
  }

  readonly plane: Dataplane = Object.assign(new MemoryDataplane(), {
    interfaces: (): readonly AttachedInterface[] =>
      [...this.#taken].flatMap(([ifindex, wanted]) => {
        const found = this.links.at(ifindex)
        if (found === null) return []
        const { name } = found
        return [{ name, ifindex, mode: 'native' as const, ...(wanted === name ? {} : { wanted }) }]
      }),
    attach: async (interfaces: readonly WantedInterface[]): Promise<readonly AttachResult[]> => {
      this.attaches.push(interfaces.map(presentName).join(' '))
      this.#taken.clear()
      return interfaces.map((one) => {
        const name = presentName(one)
        const refused = this.refuse.get(name)
        if (refused !== undefined) return { name, refused, absent: false }
        const found = this.links.named(name)
        if (found === null) return { name, refused: 'no such interface', absent: true }
        this.#taken.set(found.ifindex, wantedName(one))
        return { name, attached: { name, ifindex: found.ifindex, mode: 'native' } }
      })
    },
  })

  has(...links: Link[]): void {
    this.links = new Links(links)
    this.#listener()
  }

  /** As if somebody had taken the program off. */
  loses(ifindex: number): void {
    this.#taken.delete(ifindex)
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('attachments', () => {
  let machine: Machine
  let log: string[]
  let attachments: Attachments
  const states = (): string[] =>
    attachments
      .state()
      .map((one) =>
        one.state === 'attached' ? `${one.wanted} as ${one.attached.name}` : `${one.state} ${one.wanted}`,
      )

  beforeEach(async () => {
    mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
    machine = new Machine()
    log = []
    machine.has(link(2, 'eth0'))
    attachments = new Attachments(['eth0', 'eth1', 'eth0'], machine.source, (message) => log.push(message))
    await attachments.use(machine.plane)
  })

  const done = (): void => {
    attachments.stop()
    mock.timers.reset()
  }

  test('what exists is taken, what does not is waited for and taken when it appears', async () => {
    assert.deepEqual(states(), ['eth0 as eth0', 'waiting eth1'])
    machine.has(link(2, 'eth0'), link(3, 'eth1'))
    await settled()
    assert.deepEqual(states(), ['eth0 as eth0', 'eth1 as eth1'])
    machine.has(link(2, 'eth0'))
    assert.deepEqual(states(), ['eth0 as eth0', 'waiting eth1'], 'asked, not remembered')
    await settled()
    assert.ok(log.includes('Interface eth1 is gone: waiting for it'), log.join('; '))
    done()
  })

  test('one that nobody names any more is detached, which is said; one of our own is not told of', async () => {
    await attachments.takeAlso('pm-check')
    machine.has(link(2, 'eth0'), link(3, 'eth1'), link(4, 'pm-check'))
    await settled()
    assert.equal(machine.attaches.at(-1), 'eth0 eth1 pm-check')
    log.length = 0
    await attachments.takeNoLonger('pm-check')
    assert.equal(machine.attaches.at(-1), 'eth0 eth1')
    await attachments.want(['eth1'])
    assert.equal(machine.attaches.at(-1), 'eth1')
    assert.deepEqual(log, ['Interface eth0 is detached: nobody names it any more'])
    done()
  })

  test('nothing is attached again while nothing that matters has changed', async () => {
    const before = machine.attaches.length
    machine.has(link(2, 'eth0', { carrier: false }), link(9, 'unrelated'))
    await settled()
    mock.timers.tick(10_000)
    await settled()
    assert.equal(machine.attaches.length, before)
    machine.has(link(2, 'eth0', { mac: Uint8Array.of(2, 9, 9, 9, 9, 9) }))
    await settled()
    assert.equal(machine.attaches.length, before + 1)
    machine.has(
      link(2, 'eth0', { mac: Uint8Array.of(2, 9, 9, 9, 9, 9) }),
      link(7, 'vrrp', { kind: 'macvlan', lower: 2 }),
    )
    await settled()
    assert.equal(machine.attaches.length, before + 2)
    done()
  })

  test('a renamed interface is followed while it lives, another of the name takes its place', async () => {
    machine.has(link(2, 'wan0'))
    await settled()
    assert.deepEqual(states(), ['eth0 as wan0', 'waiting eth1'])
    assert.equal(machine.attaches.at(-1), 'wan0 eth1')
    machine.has(link(2, 'wan0'), link(5, 'eth0'))
    await settled()
    assert.deepEqual(states(), ['eth0 as eth0', 'waiting eth1'])
    assert.equal(machine.attaches.at(-1), 'eth0 eth1')
    done()
  })

  test('what was renamed is found again by the next process, unless another has the wanted name', async () => {
    machine.has(link(2, 'wan0'))
    await settled()
    attachments.stop()
    machine.has(link(2, 'wan1'))
    const restart = async () => {
      attachments = new Attachments(['eth0', 'eth1'], machine.source, (message) => log.push(message))
      await attachments.use(machine.plane)
    }
    await restart()
    assert.deepEqual(states(), ['eth0 as wan1', 'waiting eth1'])
    assert.equal(machine.attaches.at(-1), 'wan1 eth1')
    attachments.stop()
    machine.has(link(2, 'wan1'), link(5, 'eth0'))
    await restart()
    assert.deepEqual(states(), ['eth0 as eth0', 'waiting eth1'])
    done()
  })

  test('a plane that takes no packets says why, and not that it is about to', async () => {
    machine.loses(2)
    assert.deepEqual(attachments.state()[0], {
      wanted: 'eth0',
      state: 'waiting',
      why: 'eth0 is about to be attached',
    })
    Object.assign(machine.plane, { trouble: () => 'no forwarder' })
    assert.deepEqual(attachments.state()[0], { wanted: 'eth0', state: 'refused', why: 'no forwarder' })
    done()
  })

  test('an index that comes again is not the link that was followed', async () => {
    machine.has()
    await settled()
    machine.has(link(2, 'stranger'))
    await settled()
    assert.deepEqual(states(), ['waiting eth0', 'waiting eth1'])
    done()
  })

  test('without any event the loss is found by comparing', async () => {
    machine.loses(2)
    assert.deepEqual(states(), ['waiting eth0', 'waiting eth1'])
    mock.timers.tick(10_000)
    await settled()
    assert.deepEqual(states(), ['eth0 as eth0', 'waiting eth1'])
    done()
  })

  test('a refusal is told once, and tried again by itself', async () => {
    machine.refuse.set('eth1', 'eth1 has too large an MTU')
    machine.has(link(2, 'eth0'), link(3, 'eth1'))
    await settled()
    const [, eth1] = attachments.state()
    assert.deepEqual(eth1, { wanted: 'eth1', state: 'refused', why: 'eth1 has too large an MTU' })
    for (let i = 0; i < 4; i++) {
      mock.timers.tick(4000)
      await settled()
    }
    assert.equal(log.filter((line) => line.includes('too large')).length, 1)
    machine.refuse.clear()
    mock.timers.tick(30_000)
    await settled()
    assert.deepEqual(states(), ['eth0 as eth0', 'eth1 as eth1'])
    done()
  })

  test('the plane is told of missing interfaces too, and is left alone while nothing else is amiss', async () => {
    assert.deepEqual(machine.attaches, ['eth0 eth1'])
    mock.timers.tick(9000)
    await settled()
    assert.deepEqual(machine.attaches, ['eth0 eth1'])
    done()
  })

  test('link changes that a refused try makes itself bring about no further try before its time', async () => {
    Object.assign(machine.plane, { plane: 'userspace' })
    machine.refuse.set('eth1', 'no room')
    machine.has(link(2, 'eth0'), link(3, 'eth1'))
    await settled()
    const before = machine.attaches.length
    for (let i = 0; i < 50; i++) {
      machine.has(link(2, 'eth0'), link(3, 'eth1'), link(100 + i, 'made-by-trying'))
      await settled()
    }
    assert.equal(machine.attaches.length, before)
    const tries: number[] = []
    for (let ms = 100; ms <= 40_000; ms += 100) {
      const known = machine.attaches.length
      mock.timers.tick(100)
      await settled()
      if (machine.attaches.length > known) tries.push(ms)
    }
    assert.deepEqual(tries.slice(0, 5), [100, 300, 700, 1500, 3100])
    assert.ok(tries.length < 14, tries.join())
    assert.equal(log.filter((line) => line.includes('no room')).length, 1)
    machine.refuse.set('eth1', 'another reason')
    mock.timers.tick(10_000)
    await settled()
    assert.equal(log.filter((line) => line.includes('another reason')).length, 1)
    machine.refuse.clear()
    mock.timers.tick(10_000)
    await settled()
    assert.equal(log.at(-1), 'Interface eth1 is attached (native)')
    done()
  })

  test('a plane that fails is a refusal, and no end', async () => {
    machine.plane.attach = () => Promise.reject(new Error('nft says no'))
    machine.has(link(2, 'eth0'), link(3, 'eth1'))
    await settled()
    machine.loses(2)
    assert.deepEqual(states(), ['refused eth0', 'refused eth1'])
    done()
  })

  test('no plane, no attachment: nothing is touched between two planes', async () => {
    await attachments.use(null)
    const before = machine.attaches.length
    machine.has(link(2, 'eth0'), link(3, 'eth1'))
    await settled()
    assert.equal(machine.attaches.length, before)
    await attachments.use(machine.plane)
    assert.deepEqual(states(), ['eth0 as eth0', 'eth1 as eth1'])
    done()
  })
})
