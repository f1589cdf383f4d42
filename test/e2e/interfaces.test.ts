/** What happens to interfaces while a director takes packets from them, on both data planes. */
import assert from 'node:assert/strict'
import { after, before, describe } from 'node:test'
import { until } from '../../lab/command.ts'
import { chainOf } from '../chain.ts'
import { missingFor, PLANES } from './scene.ts'
import { Wires } from './wires.ts'

/** A change of links is acted on in a second; on a machine where much else goes on, asking takes longer. */
const SOON_MS = 120_000

for (const plane of PLANES) {
  describe(`${plane}: interfaces`, { skip: missingFor(plane) }, () => {
    let wires = new Wires()
    const both = ['--dataplane', plane, '--interface', 'c0', '--interface', 's0']
    const step = chainOf(async () => {
      await wires.remove()
      wires = new Wires()
      await wires.make()
      await wires.start(...both)
    })
    const forwarding = (wanted: boolean, what: string): Promise<true> =>
      until(`forwarding ${wanted} ${what}`, SOON_MS, async () =>
        (await wires.status()).forwarding === wanted ? true : undefined,
      ).catch(async (cause) => {
        throw new Error(`${cause.message}\n${await wires.statusText()}\n${wires.log}`)
      })

    /** What has happened to links is told somewhat later than packets notice it. */
    const says = (words: RegExp): Promise<true> =>
      until(`status to say ${words}`, SOON_MS, async () =>
        words.test(await wires.statusText()) ? true : undefined,
      ).catch(async (cause) => {
        throw new Error(`${cause.message}\n${await wires.statusText()}\n${wires.log}`)
      })

    before(async () => {
      await wires.make()
    })
    after(() => wires.remove())

    step('loopback and layer-3 devices are refused with the reason', async () => {
      await wires.ip(wires.director, 'tuntap add tun0 mode tun')
      for (const [name, why] of [
        ['lo', /Cannot take packets from lo: it is the loopback interface/],
        ['tun0', /Cannot take packets from tun0: it is a layer-3 device \(tun\)/],
      ] as const) {
        assert.match(await wires.refusal('--dataplane', plane, '--interface', name), why)
      }
      await wires.ip(wires.director, 'link del tun0')
    })

    step('one that does not exist yet is waited for', async () => {
      await wires.stop()
      await wires.ip(wires.director, 'link del c0')
      await wires.start(...both)
      assert.equal((await wires.status()).forwarding, false)
      await says(/^waiting for +c0, No interface "c0"/m)
      await wires.makeClientWire()
      await wires.served('by an interface that has appeared')
      await forwarding(true, 'now')
    })

    step('with another MAC address and MTU it goes on', async () => {
      await wires.ip(wires.director, 'link set c0 address 02:aa:bb:cc:dd:01')
      await wires.served('under another MAC address')
      await wires.ip(wires.director, 'link set c0 mtu 1400')
      await wires.served('with another MTU')
      await forwarding(true, 'with another MTU')
    })

    step('deleted, forwarding ends and status says so; made again, it goes on', async () => {
      await wires.ip(wires.director, 'link del c0')
      await forwarding(false, 'without c0')
      await says(/^waiting for +c0/m)
      await wires.makeClientWire()
      await wires.served('by the interface made again')
      await forwarding(true, 'again')
    })

    step('renamed, it is followed; another link of the wanted name is taken in its place', async () => {
      await wires.ip(wires.director, 'link set c0 name wan0')
      await wires.served('by the renamed interface')
      await forwarding(true, 'under another name')
      await says(/^interface +wan0/m)
      // Nobody tells the next daemon of it, nor of what happens between the two.
      await wires.stop('SIGKILL')
      await wires.ip(wires.director, 'link set wan0 name wan1')
      await wires.start(...both)
      await wires.served('by the interface renamed before a restart')
      await forwarding(true, 'under another name, after a restart')
      await says(/^interface +wan1/m)
      await wires.ip(wires.director, 'link set wan1 name wan0')
      await wires.served('renamed once more')
      await wires.ip(wires.director, 'link del wan0')
      await forwarding(false, 'without it')
      await wires.makeClientWire()
      await wires.served('by another of the wanted name')
      await forwarding(true, 'again')
    })

    step('a virtual address on one of many macvlans (VRRP) is served', async () => {
      const vrrp = '192.0.2.101'
      await wires.rules(`-A -t ${vrrp}:80 -s rr`, `-a -t ${vrrp}:80 -r 10.0.2.11:80 -m`)
      // More than the record of an interface holds.
      const others = Array.from({ length: 20 }, (_, i) => i + 1)
      for (const words of [
        ...others.map(
          (i) =>
            `link add vrrp-${i} up link c0 address 00:00:5e:00:02:${String(i).padStart(2, '0')} type macvlan mode private`,
        ),
        'link add vrrp51 link c0 address 00:00:5e:00:01:33 type macvlan mode private',
        'link set vrrp51 up',
        `addr add ${vrrp}/32 dev vrrp51`,
      ]) {
        await wires.ip(wires.director, words)
      }
      await wires.ip(wires.client, `neigh replace ${vrrp} lladdr 00:00:5e:00:01:33 dev eth0 nud permanent`)
      await until('the virtual MAC address to be known', SOON_MS, async () =>
        (await wires.request(vrrp)) === 'served' ? true : undefined,
      )
      await wires.ip(wires.director, 'link del vrrp51')
      for (const i of others) await wires.ip(wires.director, `link del vrrp-${i}`)
      const passed = await wires.verdict('pass_not_for_host')
      await until('it to be forgotten', SOON_MS, async () => {
        await wires.request(vrrp, 100)
        return (await wires.verdict('pass_not_for_host')) > passed ? true : undefined
      })
    })

    step('the daemon is told its names anew at a restart, and finds the interfaces as they are', async () => {
      await wires.stop()
      await wires.start(...both)
      await wires.served('after a restart')
      await forwarding(true, 'after a restart')
    })
  })
}
