import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as immediately } from 'node:timers/promises'
import { localsImage } from '../../../control/compile/locals.ts'
import { defence, secondsOfTicks, ticksOfSeconds } from '../../../control/compile/settings.ts'
import { initialSysctls } from '../../../control/model/sysctls.ts'
import { fixedHost } from '../../../control/rules/host.ts'
import {
  PM_BUCKET,
  PM_LOCALS,
  RealRecord,
  Setting,
  SettingsRecord,
} from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import fc from '../../property.ts'
import { realsOf } from '../map-reader.ts'
import { openDirector } from '../opened-director.ts'
import { ip, nic, server, service, testHost } from '../support.ts'

const settings = (dataplane: MemoryDataplane) => SettingsRecord.read(dataplane.map('settings').view, 0)

/** Whatever the rules. */
const ALWAYS = Setting.Ready | Setting.Interest

describe('settings', () => {
  test('seconds survive the way into ticks and back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8589934 }), (s) => secondsOfTicks(ticksOfSeconds(s)) === s),
    )
  })

  test('nothing is published before the first settle, everything after it', async () => {
    const dataplane = new MemoryDataplane()
    const { director } = openDirector({ dataplane, host: testHost() })
    assert.equal(settings(dataplane).flags & Setting.Ready, 0)
    await director.settle()
    const published = settings(dataplane)
    assert.equal(published.flags, ALWAYS)
    assert.deepEqual(
      published.timeouts.slice(0, 13).map(secondsOfTicks),
      [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120, 300, 3],
    )
    assert.equal(published.reuseMode, 1)
    assert.equal(published.unprivilegedPort, 1024)
    assert.notEqual(published.hashSeed, 0)
  })

  test('flags follow what the rules use, down as well as up', async () => {
    const dataplane = new MemoryDataplane()
    const { director } = openDirector({ dataplane, host: testHost() })
    const flags = async () => {
      await director.settle()
      return settings(dataplane).flags & ~ALWAYS
    }
    const ftp = service('tcp 10.0.0.1:21')
    const any6 = service('udp [2001:db8::1]:0')
    director.addService(ftp)
    assert.equal(await flags(), Setting.V4 | Setting.Ftp)
    director.addService(any6)
    assert.equal(await flags(), Setting.V4 | Setting.V6 | Setting.Ftp | Setting.Port0)
    director.deleteService(ftp.id)
    assert.equal(await flags(), Setting.V6 | Setting.Port0)
    director.flush()
    director.setSysctl('sloppy_tcp', 1)
    director.setSysctl('expire_nodest_conn', 1)
    director.setSysctl('pmtu_disc', 0)
    director.setSysctl('secure_tcp', 3)
    director.setSysctl('conn_reuse_mode', 2)
    assert.equal(
      await flags(),
      Setting.SloppyTcp | Setting.ExpireNodest | Setting.NoPmtuDisc | Setting.SecureTcp,
    )
    assert.equal(settings(dataplane).reuseMode, 2)
  })

  const modes: readonly (readonly [number, number | null, number, boolean])[] = [
    [0, 10, 0, false],
    [1, 5000, 0, false],
    [1, 1000, Math.floor(1024 / 24), true],
    [2, 1000, Math.floor(1024 / 24), true],
    [2, 1024, 0, false],
    [1, null, 0, false],
    [3, 5000, 10, true],
  ]
  for (const [mode, pages, dropRate, secureTcp] of modes) {
    test(`defence mode ${mode} with ${pages} pages free drops every ${dropRate}th`, () => {
      const sysctls = { ...initialSysctls(), drop_packet: mode, secure_tcp: mode }
      assert.deepEqual(defence(sysctls, pages), { dropRate, secureTcp })
    })
  }

  test('the packet to drop is the first after the rate was set', async () => {
    const dataplane = new MemoryDataplane()
    const { director } = openDirector({ dataplane, host: testHost() })
    await director.settle()
    SettingsRecord.setDropCount(dataplane.map('settings').view, 0, 7)
    director.setSysctl('drop_packet', 3)
    director.setSysctl('am_droprate', 4)
    await director.settle()
    assert.deepEqual([settings(dataplane).dropRate, settings(dataplane).dropCount], [4, 0])
  })
})

describe('network', () => {
  test('the IPv4 addresses of this host stand where the packet program looks', () => {
    const addresses = Array.from({ length: 200 }, (_, i) => ip(`10.${i}.${(i * 7) % 256}.1`))
    const { image, leftOut } = localsImage([...addresses, ip('::1')])
    assert.equal(leftOut, 0)
    for (const address of addresses) {
      const word = new DataView(Uint8Array.from(address.split('.').map(Number)).buffer).getUint32(0, true)
      const home = Math.imul(word, 0x9e3779b1) >>> 16
      const found = [home, home + 1].some((bucket) => {
        const at = (bucket % PM_LOCALS) * PM_BUCKET
        return image.subarray(at, at + PM_BUCKET).includes(word)
      })
      assert.ok(found, address)
    }
    assert.equal(image.filter((word) => word !== 0).length, addresses.length)
  })

  test('addresses beyond the table are counted and told', () => {
    const many = Array.from({ length: 1200 }, (_, i) => `10.9.${i >> 8}.${i & 255}`)
    const { image, leftOut } = localsImage(many.map(ip))
    assert.equal(image.filter((word) => word !== 0).length + leftOut, many.length)
    assert.ok(leftOut >= many.length - PM_LOCALS * PM_BUCKET)
    const interfaces = [
      nic(
        'eth0',
        2,
        many.map((address) => `${address}/32`),
      ),
    ]
    const dataplane = new MemoryDataplane()
    const { applier } = openDirector({ dataplane, host: { ...fixedHost(), interfaces: () => interfaces } })
    assert.match(
      applier.warnings().join(),
      new RegExp(`^${leftOut} of the addresses of this host are not known`),
    )
  })

  test('real servers learn their tunnel source and whether they are this host, also later', async () => {
    let sources: Record<string, ReturnType<typeof ip>> = {}
    let interfaces = [nic('eth0', 2, ['10.0.0.1/24'])]
    const host = {
      ...fixedHost(),
      interfaces: () => interfaces,
      resolveSource: (to: string) => sources[to] ?? null,
    }
    const dataplane = new MemoryDataplane()
    const { director, applier } = openDirector({ dataplane, host })
    const web = service('tcp 10.0.0.1:80', { scheduler: 'rr' })
    director.addService(web)
    director.addServer(web.id, server('10.0.0.9:80', { method: 'tunnel' }))
    director.addServer(web.id, server('10.0.0.1:81'))
    await director.settle()
    const record = (i: number) => {
      const real = realsOf(dataplane, web).at(-1 - i)!
      const { source, flags } = RealRecord.read(dataplane.map('reals').view, real * RealRecord.size)
      return [source.subarray(0, 4).join('.'), flags]
    }
    assert.deepEqual(
      [record(0), record(1)],
      [
        ['0.0.0.0', 0],
        ['0.0.0.0', 1],
      ],
    )
    const epoch = settings(dataplane).nextHopEpoch
    sources = { '10.0.0.9': ip('10.0.0.1') }
    applier.networkChanged({ links: false, addresses: false, routes: false, neighbours: true })
    assert.deepEqual(record(0), ['0.0.0.0', 0])
    interfaces = []
    applier.networkChanged({ links: false, addresses: true, routes: true, neighbours: false })
    // In slices: on a busy machine the first one ends before anything is placed.
    for (let n = 0; n < 1000 && (record(0)[0] === '0.0.0.0' || record(1)[1] !== 0); n++) await immediately()
    assert.deepEqual(
      [record(0), record(1)],
      [
        ['10.0.0.1', 0],
        ['0.0.0.0', 0],
      ],
    )
    assert.equal(settings(dataplane).nextHopEpoch, epoch + 2)
  })
})
