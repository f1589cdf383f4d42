import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openDirector } from '../../control/apply/open.ts'
import { fixedHost } from '../../control/rules/host.ts'
import { builtFile } from '../../dataplane/assets.ts'
import { changePlane } from '../../dataplane/change.ts'
import { copyMaps } from '../../dataplane/copy.ts'
import type { Dataplane } from '../../dataplane/dataplane.ts'
import { KernelDataplane, possibleCpus } from '../../dataplane/kernel/plane.ts'
import { PM_VERDICT_MAX, SettingsRecord, Verdict } from '../../dataplane/layout/layout.gen.ts'
import { OWN_STAMP, readStamp } from '../../dataplane/layout/stamp.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../dataplane/memory.ts'
import { Forwarder } from '../../dataplane/userspace/forwarder/forwarder.ts'
import { parseAddress } from '../../net/address.ts'
import { ethernet, ipv4, tcp } from '../packets/frame.ts'
import { PacketSocket } from '../packets/libc.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, sysctl } from './private-network.ts'

const C0 = '02:00:00:00:01:01'
const ROUTER = '02:00:00:00:01:02'
const R0 = '02:00:00:00:02:01'
const RS1 = '02:00:00:00:02:11'
const CLIENT = '198.51.100.7'
const VIP = parseAddress('192.0.2.100')!
const REAL = parseAddress('10.0.2.11')!

function built(): boolean {
  try {
    return builtFile('pointsman.wasm') !== '' && builtFile('pointsman.bpf.o') !== ''
  } catch {
    return false
  }
}

const skip = skipWithoutPrivileges || (!built() && 'needs npm run build')

describe('changing the data plane of a running director', { skip }, () => {
  const sizes = { ...SMALL_SIZES, cpus: Math.max(2, skip === false ? possibleCpus() : 2) }
  const planes: Dataplane[] = []
  let c: PacketSocket
  let r: PacketSocket

  const kernel = async () => {
    const plane = await KernelDataplane.open({ sizes, pinDirectory: null, mode: 'generic' })
    planes.push(plane)
    return plane
  }
  const userspace = async () => {
    const plane = await Forwarder.open({ sizes })
    planes.push(plane)
    return plane
  }
  /** What came out of a wire: waits for one frame, and a moment for more. */
  const heard = async (socket: PacketSocket): Promise<Uint8Array[]> => {
    const frames: Uint8Array[] = []
    const drain = () => {
      for (let frame = socket.receive(); frame !== null; frame = socket.receive()) {
        if (frame[12] === 8 && frame[13] === 0) frames.push(frame)
      }
    }
    const late = Date.now() + 3000
    for (drain(); frames.length === 0 && Date.now() < late; drain()) await sleep(5)
    await sleep(60)
    drain()
    return frames
  }
  const fromClient = (sport: number, flags: string) =>
    ethernet({ src: ROUTER, dst: C0 }, ipv4({ src: CLIENT, dst: VIP }, tcp({ sport, dport: 80, flags })))
  const fromServer = (dport: number, flags: string) =>
    ethernet({ src: RS1, dst: R0 }, ipv4({ src: REAL, dst: CLIENT }, tcp({ sport: 8080, dport, flags })))

  /** Both directions of an established connection, and no answer of the kernel's own. */
  const passes = async (port: number, plane: Dataplane) => {
    c.send(fromClient(port, 'A'))
    const forward = await heard(r)
    assert.equal(forward.length, 1, `${plane.plane}: to the real server`)
    r.send(fromServer(port, 'A'))
    const back = await heard(c)
    assert.equal(back.length, 1, `${plane.plane}: to the client`)
    assert.equal(Buffer.from(back[0]!.subarray(26, 30)).join('.'), VIP)
  }
  const forwarded = (plane: Dataplane): bigint => {
    let sum = 0n
    for (let cpu = 0; cpu < sizes.cpus; cpu++)
      sum += plane.map('verdicts').u64[cpu * PM_VERDICT_MAX + Verdict.ForwardNat]!
    return sum
  }

  before(() => {
    enterPrivateNetwork()
    ip(`link add c0 address ${C0} type veth peer name wire-c`)
    ip(`link add r0 address ${R0} type veth peer name wire-r`)
    for (const name of ['c0', 'wire-c', 'r0', 'wire-r']) {
      sysctl(`net/ipv6/conf/${name}/disable_ipv6`, 1)
      ip(`link set ${name} up`)
    }
    sysctl('net/ipv4/ip_forward', 1)
    ip('addr add 192.0.2.1/24 dev c0')
    ip(`addr add ${VIP}/32 dev c0`)
    ip('addr add 10.0.2.1/24 dev r0')
    ip(`neigh add 192.0.2.2 lladdr ${ROUTER} dev c0 nud permanent`)
    ip(`neigh add ${REAL} lladdr ${RS1} dev r0 nud permanent`)
    ip('route add default via 192.0.2.2')
    c = new PacketSocket('wire-c')
    r = new PacketSocket('wire-r')
  })
  after(async () => {
    for (const plane of planes) {
      await plane.detach()
      await plane.close()
    }
    c.close()
    r.close()
  })

  test('established connections survive the way there and back, counters go along', async () => {
    const first = await userspace()
    await first.attach(['c0', 'r0'])
    const { director } = openDirector({ dataplane: first, host: fixedHost() })
    const id = { kind: 'address', protocol: 'tcp', address: VIP, family: 4, port: 80 } as const
    const settings = { scheduler: 'rr', schedulerFlags: 0, onePacket: false, persistenceTimeoutS: 0 } as const
    assert.ok(director.addService({ id, ...settings, netmask: 0xffffffff, persistenceEngine: null }).ok)
    const server = {
      id: { address: REAL, family: 4, port: 8080 },
      method: 'nat',
      tunnel: { type: 'ipip' },
      weight: 1,
      upperThreshold: 0,
      lowerThreshold: 0,
    } as const
    assert.ok(director.addServer(id, server).ok)
    await director.settle()

    c.send(fromClient(1000, 'S'))
    assert.equal((await heard(r)).length, 1)
    r.send(fromServer(1000, 'SA'))
    assert.equal((await heard(c)).length, 1)
    await passes(1000, first)

    const second = await kernel()
    await changePlane(first, second, ['c0', 'r0'])
    assert.equal(forwarded(second), 2n)
    await passes(1000, second)
    assert.equal(first.interfaces().length, 0)

    const third = await userspace()
    await changePlane(second, third, ['c0', 'r0'])
    assert.equal(forwarded(third), 3n)
    await passes(1000, third)
    assert.equal(second.interfaces().length, 0)
    // New connections too.
    c.send(fromClient(1001, 'S'))
    assert.equal((await heard(r)).length, 1)
  })

  test('a plane that cannot attach leaves the old one at work', async () => {
    const old = planes.at(-1)!
    const other = await userspace()
    await assert.rejects(changePlane(old, other, ['lo']), /Cannot take packets from lo/)
    await passes(1000, old)
  })
})

test('change plane: the maps say of themselves which layout they have, whatever the others said', () => {
  const [from, to] = [new MemoryDataplane(), new MemoryDataplane()]
  SettingsRecord.setFingerprint(from.map('settings').view, 0, 0, 0)
  copyMaps(from, to)
  assert.deepEqual(readStamp(to.map('settings').view), OWN_STAMP)
})
