import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type ManagedDirector, openDirector } from '../../../control/apply/open.ts'
import type { Director } from '../../../control/model/director.ts'
import type { RealServer } from '../../../control/model/server.ts'
import type { VirtualService } from '../../../control/model/service.ts'
import { fixedHost } from '../../../control/rules/host.ts'
import { builtFile } from '../../../dataplane/assets.ts'
import { PM_VERDICT_MAX, Verdict, verdictNames } from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { Forwarder } from '../../../dataplane/userspace/forwarder/forwarder.ts'
import { MapsFile } from '../../../dataplane/userspace/maps-file.ts'
import { openSendSocket } from '../../../dataplane/userspace/packet/rings.ts'
import { check, libc } from '../../../linux/libc.ts'
import { parseAddress } from '../../../net/address.ts'
import { ethernet, ipv4, ipv6, tcp, udp } from '../../packets/frame.ts'
import { PacketSocket } from '../../packets/libc.ts'
import { enterPrivateNetwork, ip, skipWithoutPrivileges, sysctl, until } from '../private-network.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const be16 = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!
const be32 = (bytes: Uint8Array, at: number): number => be16(bytes, at) * 65536 + be16(bytes, at + 2)
const fold = (sum: number): number => (sum > 0xffff ? fold((sum & 0xffff) + (sum >>> 16)) : sum)

function sumOf(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0
  for (let i = from; i < to; i += 2) sum += be16(bytes, i)
  return sum
}

/** 0xffff for an IPv4 header whose checksum is right. */
function headerSum(frame: Uint8Array, ip: number): number {
  return fold(sumOf(frame, ip, ip + 20))
}

/** What a TCP checksum field holds while the checksum is unfinished. */
function pseudoSum(frame: Uint8Array, ip: number, l4: number): number {
  return fold(sumOf(frame, ip + 12, ip + 20) + 6 + be16(frame, ip + 2) - (l4 - ip))
}

/** A TCP segment for several packets of 1400 bytes, behind its virtio header. */
function superPacket(sport: number, dport: number, bytes: number): Uint8Array {
  const payload = new Uint8Array(bytes).map((_, i) => i)
  const segment = tcp({ sport, dport, flags: 'PA' }, payload)
  const frame = ethernet({ src: ROUTER, dst: C0 }, ipv4({ src: CLIENT, dst: VIP }, segment))
  const sum = pseudoSum(frame, 14, 34)
  frame[50] = sum >>> 8
  frame[51] = sum & 0xff
  const vnet = new Uint16Array([1 | (1 << 8), 54, 1400, 34, 16])
  return Buffer.concat([new Uint8Array(vnet.buffer), frame])
}

/** Sends it as a device with segmentation offload would deliver it. */
function sendSuper(packet: Uint8Array): void {
  const fd = openSendSocket(libc.if_nametoindex('wire-c'), false)
  try {
    check(libc.send(fd, packet, packet.length, 0), 'send a super-packet')
  } finally {
    libc.close(fd)
  }
}

const C0 = '02:00:00:00:01:01'
const ROUTER = '02:00:00:00:01:02'
const R0 = '02:00:00:00:02:01'
const RS1 = '02:00:00:00:02:11'
const CLIENT = '198.51.100.7'
const VIP = '192.0.2.100'
const REAL = '10.0.2.11'
const CLIENT6 = '2001:db8:c::7'
const VIP6 = '2001:db8:1::100'
const REAL6 = '2001:db8:2::11'

function service(port: number, protocol: 'tcp' | 'udp' = 'tcp'): VirtualService {
  return {
    id: { kind: 'address', protocol, address: parseAddress(VIP)!, family: 4, port },
    scheduler: 'rr',
    schedulerFlags: 0,
    onePacket: false,
    persistenceTimeoutS: 0,
    netmask: 0xffffffff,
    persistenceEngine: null,
  }
}

function server(method: RealServer['method'], port: number): RealServer {
  return {
    id: { address: parseAddress(REAL)!, family: 4, port },
    method,
    tunnel: { type: 'ipip' },
    weight: 1,
    upperThreshold: 0,
    lowerThreshold: 0,
  }
}

function built(): string | null {
  try {
    return builtFile('pointsman.wasm')
  } catch {
    return null
  }
}

const skip = skipWithoutPrivileges || (built() === null && 'needs npm run build')

const INTAKES = ['packet', 'xdp'] as const

for (const intake of INTAKES)
  describe(`a forwarder, ${intake} intake`, { skip }, () => {
    const offload = intake === 'xdp' && 'AF_XDP knows no offloads'
    const folder = mkdtempSync(join(tmpdir(), 'pointsman-userspace-'))
    const mapsFile = join(folder, 'maps')
    let plane: Forwarder
    let managed: ManagedDirector
    let director: Director
    let c: PacketSocket
    let r: PacketSocket
    const log: string[] = []

    const open = async (workers = 1) => {
      const found = MapsFile.open(mapsFile)
      const maps = found instanceof MapsFile ? found : MapsFile.create(mapsFile, SMALL_SIZES)
      plane = await Forwarder.open({
        sizes: SMALL_SIZES,
        workers,
        intake,
        maps,
        ringBytes: 1 << 20,
        log: (message) => log.push(message),
      })
      const sources = { [REAL]: parseAddress('10.0.2.1')! }
      managed = openDirector({ dataplane: plane, host: fixedHost({ sources }) })
      director = managed.director
    }

    const add = async (virtual: VirtualService, real: RealServer) => {
      assert.ok(director.addService(virtual).ok)
      assert.ok(director.addServer(virtual.id, real).ok)
      await director.settle()
    }

    /**
     * Everything that came out of a wire, without neighbour discovery and the like: waits for `count` frames
     * if need be, and a moment longer for what should not come.
     */
    const heard = async (socket: PacketSocket, count = 1, family: 4 | 6 = 4): Promise<Uint8Array[]> => {
      const frames: Uint8Array[] = []
      const drain = () => {
        for (let frame = socket.receive(); frame !== null; frame = socket.receive()) {
          const type = be16(frame, 12)
          const isDiscovery = type === 0x86dd && frame[20] !== 6 && frame[20] !== 17
          if (type === (family === 4 ? 0x0800 : 0x86dd) && !isDiscovery) frames.push(frame)
        }
      }
      const late = Date.now() + 3000
      for (drain(); frames.length < count && Date.now() < late; drain()) await wait(5)
      await wait(60)
      drain()
      return frames
    }
    const verdict = (number: number): bigint => {
      let sum = 0n
      for (let cpu = 0; cpu < SMALL_SIZES.cpus; cpu++)
        sum += plane.map('verdicts').u64[cpu * PM_VERDICT_MAX + number]!
      return sum
    }
    const verdicts = (): string =>
      Object.entries(verdictNames)
        .map(([number, name]) => [name, verdict(Number(number))] as const)
        .filter(([, count]) => count > 0n)
        .map(([name, count]) => `${name} ${count}`)
        .join(', ')

    const fromClient = (sport: number, dport: number, flags: string, payload = '') =>
      ethernet(
        { src: ROUTER, dst: C0 },
        ipv4({ src: CLIENT, dst: VIP }, tcp({ sport, dport, flags }, payload)),
      )
    const nft = () => execFileSync('nft', ['list', 'ruleset'], { encoding: 'utf8' })

    before(async () => {
      enterPrivateNetwork()
      ip(`link add c0 address ${C0} type veth peer name wire-c`)
      ip(`link add r0 address ${R0} type veth peer name wire-r`)
      for (const name of ['c0', 'wire-c', 'r0', 'wire-r']) {
        sysctl(`net/ipv6/conf/${name}/disable_ipv6`, name.startsWith('wire') ? 1 : 0)
        sysctl(`net/ipv6/conf/${name}/addr_gen_mode`, 1)
        ip(`link set ${name} up`)
      }
      sysctl('net/ipv4/ip_forward', 1)
      sysctl('net/ipv6/conf/all/forwarding', 1)
      ip('addr add 192.0.2.1/24 dev c0')
      ip(`addr add ${VIP}/32 dev c0`)
      ip('addr add 10.0.2.1/24 dev r0')
      ip('addr add 2001:db8:1::1/64 dev c0 nodad')
      ip(`addr add ${VIP6}/128 dev c0 nodad`)
      ip('addr add 2001:db8:2::1/64 dev r0 nodad')
      ip(`neigh add 2001:db8:1::2 lladdr ${ROUTER} dev c0 nud permanent`)
      ip(`neigh add ${REAL6} lladdr ${RS1} dev r0 nud permanent`)
      ip('route add default via 2001:db8:1::2')
      ip(`neigh add 192.0.2.2 lladdr ${ROUTER} dev c0 nud permanent`)
      ip(`neigh add ${REAL} lladdr ${RS1} dev r0 nud permanent`)
      ip('route add default via 192.0.2.2')
      c = new PacketSocket('wire-c', { vnet: true })
      r = new PacketSocket('wire-r', { vnet: true })
      await open()
      await plane.attach(['c0', 'r0'])
    })
    after(async () => {
      await plane.detach()
      await plane.close()
      c.close()
      r.close()
      rmSync(folder, { recursive: true })
    })

    test('NAT: a connection is forwarded both ways, and the kernel sends nothing of its own', async () => {
      await add(service(80), server('nat', 8080))
      c.send(fromClient(1000, 80, 'S'))
      const [syn, ...rest] = await heard(r)
      assert.deepEqual(rest, [])
      assert.ok(syn, verdicts())
      assert.equal(
        hex(syn),
        hex(
          ethernet(
            { src: R0, dst: RS1 },
            ipv4({ src: CLIENT, dst: REAL, ttl: 63 }, tcp({ sport: 1000, dport: 8080, flags: 'S' })),
          ),
        ),
      )
      r.send(
        ethernet(
          { src: RS1, dst: R0 },
          ipv4({ src: REAL, dst: CLIENT }, tcp({ sport: 8080, dport: 1000, flags: 'SA' })),
        ),
      )
      const replies = await heard(c)
      assert.deepEqual(replies.map(hex), [
        hex(
          ethernet(
            { src: C0, dst: ROUTER },
            ipv4({ src: VIP, dst: CLIENT, ttl: 63 }, tcp({ sport: 80, dport: 1000, flags: 'SA' })),
          ),
        ),
      ])
      assert.deepEqual(await heard(r, 0), [])
      assert.equal(verdict(Verdict.ForwardNat), 1n)
      assert.equal(verdict(Verdict.ForwardNatReply), 1n)
    })

    test('what the program passes reaches the stack, although it was taken from it', async () => {
      c.send(fromClient(1001, 80, 'A'))
      const answers = await heard(c)
      assert.equal(answers.length, 1, verdicts())
      // RST from the virtual address, by the kernel.
      assert.equal(answers[0]![14 + 20 + 13], 0x04)
      assert.equal(verdict(Verdict.PassNotFirst), 1n)
    })

    test("a port without service is the kernel's alone: one answer", async () => {
      c.send(fromClient(1002, 81, 'S'))
      assert.equal((await heard(c)).length, 1)
    })

    test('replies that match no connection are forwarded as the kernel would have done', async () => {
      r.send(
        ethernet(
          { src: RS1, dst: R0 },
          ipv4({ src: REAL, dst: CLIENT }, tcp({ sport: 8080, dport: 5, flags: 'A' })),
        ),
      )
      const frames = await heard(c)
      assert.deepEqual(frames.map(hex), [
        hex(
          ethernet(
            { src: C0, dst: ROUTER },
            ipv4({ src: REAL, dst: CLIENT, ttl: 63 }, tcp({ sport: 8080, dport: 5, flags: 'A' })),
          ),
        ),
      ])
    })

    test('the virtual address still answers ping', async () => {
      const echo = Buffer.from('0800f7ff00000000', 'hex')
      const request = ethernet(
        { src: ROUTER, dst: C0 },
        ipv4({ src: CLIENT, dst: VIP }, { protocol: 1, build: () => echo }),
      )
      c.send(request)
      assert.equal((await heard(c)).length, 1)
    })

    test('IPv6: NAT both ways, and the kernel answers what belongs to it', async () => {
      const virtual = service(80)
      const id = { ...virtual.id, address: parseAddress(VIP6)!, family: 6, port: 80 } as VirtualService['id']
      const real = {
        ...server('nat', 8080),
        id: { address: parseAddress(REAL6)!, family: 6 as const, port: 8080 },
      }
      await add({ ...virtual, id, netmask: 128 }, real)
      const to = (sport: number, dport: number, flags: string) =>
        ethernet({ src: ROUTER, dst: C0 }, ipv6({ src: CLIENT6, dst: VIP6 }, tcp({ sport, dport, flags })))
      c.send(to(1000, 80, 'S'))
      assert.deepEqual((await heard(r, 1, 6)).map(hex), [
        hex(
          ethernet(
            { src: R0, dst: RS1 },
            ipv6({ src: CLIENT6, dst: REAL6, hopLimit: 63 }, tcp({ sport: 1000, dport: 8080, flags: 'S' })),
          ),
        ),
      ])
      r.send(
        ethernet(
          { src: RS1, dst: R0 },
          ipv6({ src: REAL6, dst: CLIENT6 }, tcp({ sport: 8080, dport: 1000, flags: 'SA' })),
        ),
      )
      assert.deepEqual((await heard(c, 1, 6)).map(hex), [
        hex(
          ethernet(
            { src: C0, dst: ROUTER },
            ipv6({ src: VIP6, dst: CLIENT6, hopLimit: 63 }, tcp({ sport: 80, dport: 1000, flags: 'SA' })),
          ),
        ),
      ])
      // No connection: the stack resets.
      c.send(to(1001, 80, 'A'))
      assert.equal((await heard(c, 1, 6)).length, 1, verdicts())
      // A reply without connection: the kernel forwards.
      r.send(
        ethernet(
          { src: RS1, dst: R0 },
          ipv6({ src: REAL6, dst: CLIENT6 }, tcp({ sport: 8080, dport: 5, flags: 'A' })),
        ),
      )
      const [passed] = await heard(c, 1, 6)
      assert.equal(passed?.[21], 63, verdicts())
    })

    test('an unfinished checksum stays unfinished and right', { skip: offload }, async () => {
      const frame = fromClient(1003, 80, 'S', 'hello')
      const sum = pseudoSum(frame, 14, 34)
      frame[50] = sum >>> 8
      frame[51] = sum & 0xff
      c.sendPartial(frame, 34, 16)
      const [out] = await heard(r)
      assert.ok(out, verdicts())
      // The wire's socket shows it unfinished too: the pseudo header's sum follows the new address.
      assert.equal(be16(out, 50), pseudoSum(out, 14, 34))
    })

    test('VLAN packets and fragments stay with the kernel', async () => {
      const before = verdict(Verdict.PassVlan)
      c.send(
        ethernet(
          { src: ROUTER, dst: C0, vlan: [{ id: 7 }] },
          ipv4({ src: CLIENT, dst: VIP }, tcp({ sport: 1, dport: 80, flags: 'S' })),
        ),
      )
      assert.deepEqual(await heard(r, 0), [])
      // The program that steers frames to AF_XDP leaves them to the stack at once.
      assert.equal(verdict(Verdict.PassVlan), intake === 'packet' ? before + 1n : before)
    })

    test('direct routing changes addresses of the frame only, and UDP works', async () => {
      await add(service(53, 'udp'), server('direct-routing', 53))
      c.send(
        ethernet({ src: ROUTER, dst: C0 }, ipv4({ src: CLIENT, dst: VIP }, udp({ sport: 9, dport: 53 }))),
      )
      const frames = await heard(r)
      assert.deepEqual(frames.map(hex), [
        hex(
          ethernet(
            { src: R0, dst: RS1 },
            ipv4({ src: CLIENT, dst: VIP, ttl: 63 }, udp({ sport: 9, dport: 53 })),
          ),
        ),
      ])
    })

    test('a tunnel puts its header in front, in place', async () => {
      await add(service(81), server('tunnel', 81))
      c.send(fromClient(1004, 81, 'S'))
      const [frame] = await heard(r)
      assert.ok(frame, verdicts())
      const inner = ipv4({ src: CLIENT, dst: VIP, ttl: 63 }, tcp({ sport: 1004, dport: 81, flags: 'S' }))
      assert.equal(hex(frame.subarray(14 + 20)), hex(inner.bytes))
      assert.equal(frame[14 + 9], 4)
    })

    test('a super-packet passes NAT whole, with its checksum unfinished', { skip: offload }, async () => {
      sendSuper(superPacket(1003, 80, 4000))
      const frames = await heard(r)
      assert.equal(frames.length, 1, verdicts())
      const [frame] = frames
      assert.equal(frame!.length, 54 + 4000)
      assert.equal(be16(frame!, 50), pseudoSum(frame!, 14, 34))
      assert.deepEqual(
        frame!.subarray(54),
        new Uint8Array(4000).map((_, i) => i),
      )
    })

    test('a super-packet larger than a slot of the ring passes too', { skip: offload }, async () => {
      sendSuper(superPacket(1003, 80, 60_000))
      const [frame] = await heard(r)
      assert.equal(frame?.length, 54 + 60_000, verdicts())
      assert.deepEqual(
        frame!.subarray(54),
        new Uint8Array(60_000).map((_, i) => i),
      )
    })

    test('a super-packet leaves as packets where the way out cannot cut it', { skip: offload }, async () => {
      const dropped = verdict(Verdict.DropTx)
      const features = (state: string) => {
        for (const name of state === 'off' ? ['tso', 'gso', 'sg', 'tx'] : ['tx', 'sg', 'gso', 'tso'])
          execFileSync('ethtool', ['-K', 'r0', name, state], { stdio: 'ignore' })
      }
      features('off')
      try {
        for (let round = 0; round < 2; round++) {
          sendSuper(superPacket(1003, 80, 4000))
          const frames = await heard(r, 3)
          assert.deepEqual(
            frames.map((frame) => frame.length),
            [54 + 1400, 54 + 1400, 54 + 1200],
            verdicts(),
          )
          for (const frame of frames) {
            // Finished: the device does not do it either.
            const sum = pseudoSum(frame, 14, 34) + sumOf(frame, 34, frame.length)
            assert.equal(fold(sum), 0xffff)
          }
        }
      } finally {
        features('on')
      }
      assert.equal(verdict(Verdict.DropTx), dropped)
    })

    test('a super-packet into a tunnel is cut into packets', { skip: offload }, async () => {
      sendSuper(superPacket(1004, 81, 4000))
      const frames = await heard(r)
      assert.deepEqual(
        frames.map((frame) => [frame.length, be16(frame, 16), be16(frame, 36), be32(frame, 58), frame[67]]),
        [
          [74 + 1400, 60 + 1400, 40 + 1400, 1000, 0x10],
          [74 + 1400, 60 + 1400, 40 + 1400, 2400, 0x10],
          [74 + 1200, 60 + 1200, 40 + 1200, 3800, 0x18],
        ],
        verdicts(),
      )
      for (const frame of frames) {
        assert.equal(headerSum(frame, 14), 0xffff)
        assert.equal(headerSum(frame, 34), 0xffff)
        assert.equal(be16(frame, 70), pseudoSum(frame, 34, 54))
      }
      const payload = Buffer.concat(frames.map((frame) => frame.subarray(74)))
      assert.deepEqual(
        new Uint8Array(payload),
        new Uint8Array(4000).map((_, i) => i),
      )
    })

    test('a full ring loses frames, and they are counted', async () => {
      await plane.hold()
      const frame = fromClient(2000, 80, 'A')
      for (let i = 0; i < 3000; i++) c.send(frame)
      await plane.resume()
      await until(() => verdict(Verdict.DropRing) >= 100n, 'drops are counted')
      await heard(c)
    })

    test('frames wait in the ring while the plane is held', async () => {
      await plane.hold()
      c.send(fromClient(2001, 80, 'S'))
      assert.deepEqual(await heard(r, 0), [])
      await plane.resume()
      assert.equal((await heard(r)).length, 1)
    })

    test('an interface that is set down and up again goes on', async () => {
      ip('link set c0 down')
      r.send(
        ethernet(
          { src: RS1, dst: R0 },
          ipv4({ src: REAL, dst: CLIENT }, tcp({ sport: 8080, dport: 1000, flags: 'A' })),
        ),
      )
      // No route to the client: the kernel tells the real server.
      assert.equal((await heard(r)).length, 1)
      ip('link set c0 up')
      ip(`neigh replace 192.0.2.2 lladdr ${ROUTER} dev c0 nud permanent`)
      ip('route replace default via 192.0.2.2')
      await wait(200)
      c.send(fromClient(2003, 80, 'S'))
      assert.equal((await heard(r)).length, 1, verdicts())
    })

    test('an interface that frames were only sent out of leaves nothing behind when it vanishes', async () => {
      const descriptors = () => readdirSync('/proc/self/fd').length
      const before = descriptors()
      ip('link add x0 type veth peer name wire-x')
      for (const name of ['x0', 'wire-x']) {
        sysctl(`net/ipv6/conf/${name}/disable_ipv6`, 1)
        ip(`link set ${name} up`)
      }
      ip('route add 10.0.9.0/24 dev x0')
      ip('neigh add 10.0.9.9 lladdr 02:00:00:00:09:09 dev x0')
      const x = new PacketSocket('wire-x')
      const there = service(99)
      await add(there, {
        ...server('nat', 99),
        id: { address: parseAddress('10.0.9.9')!, family: 4, port: 99 },
      })
      c.send(fromClient(2004, 99, 'S'))
      assert.equal((await heard(x)).length, 1, verdicts())
      x.close()
      assert.ok(descriptors() > before)
      ip('link del x0')
      await until(() => descriptors() <= before, 'the sockets to be closed')
      director.deleteService(there.id)
      await director.settle()
    })

    test('a clean restart keeps rules, connections and counters, and the hands of the kernel off', async () => {
      const sent = verdict(Verdict.ForwardNat)
      await plane.close()
      assert.match(nft(), /192\.0\.2\.100 \. 80/)
      assert.match(nft(), /ip timeout 30s/)
      assert.doesNotMatch(ip('link show'), /pm-stack/)
      // Between the two nobody answers.
      c.send(fromClient(1000, 80, 'A'))
      assert.deepEqual(await heard(c, 0), [])
      await open(2)
      await plane.attach(['c0', 'r0'])
      await director.settle()
      assert.equal(verdict(Verdict.ForwardNat), sent)
      c.send(fromClient(1000, 80, 'A', 'after the restart'))
      const frames = await heard(r)
      assert.equal(frames.length, 1, verdicts())
      assert.deepEqual(await heard(c, 0), [])
    })

    test('two workers share the flows', { skip: intake === 'xdp' && 'a veth has one queue' }, async () => {
      const frames: Uint8Array[] = []
      for (let i = 0; i < 40; i++) c.send(fromClient(3000 + i, 80, 'S'))
      frames.push(...(await heard(r, 40)))
      assert.equal(frames.length, 40, verdicts())
      const rows = [0, 1].map((cpu) => plane.map('verdicts').u64[cpu * PM_VERDICT_MAX + Verdict.ForwardNat]!)
      assert.ok(
        rows.every((count) => count > 0n),
        String(rows),
      )
    })

    test('a worker that crashes is replaced, and forwarding goes on', async () => {
      const restarts = () => log.filter((line) => line.includes('was started again')).length
      await plane.crashWorker(0)
      await plane.crashWorker(1)
      await until(() => restarts() === 2, `both are back: ${log.join('; ')}`)
      for (let i = 0; i < 10; i++) c.send(fromClient(3100 + i, 80, 'S'))
      assert.equal((await heard(r, 10)).length, 10, verdicts())
    })

    test('a worker that ends again and again is tried less and less often, and says why once', async () => {
      log.length = 0
      const end = Date.now() + 4000
      let crashes = 0
      while (Date.now() < end) {
        if (plane.interfaces().length > 0) {
          crashes += 1
          await plane.crashWorker(0)
          assert.deepEqual(plane.interfaces(), [], 'its share of the flows is not forwarded')
        }
        await wait(20)
      }
      assert.ok(crashes >= 2 && crashes <= 7, `${crashes} times`)
      await until(() => plane.interfaces().length === 2, `it is back: ${log.join('; ')}`, 10_000)
      assert.ok(log.filter((line) => line.includes('has ended')).length <= 1, log.join('; '))
      await until(() => log.at(-1)?.includes('was started again') === true, log.join('; '))
      c.send(fromClient(3800, 80, 'S'))
      assert.equal((await heard(r)).length, 1, `${verdicts()} ${log.join('; ')}`)
    })

    test('an interface that is renamed is the same interface', async () => {
      ip('link set c0 down')
      ip('link set c0 name wan0')
      ip('link set wan0 up')
      ip(`neigh replace 192.0.2.2 lladdr ${ROUTER} dev wan0 nud permanent`)
      ip('route replace default via 192.0.2.2')
      await until(() => plane.interfaces().some(({ name }) => name === 'wan0'), `followed: ${log.join('; ')}`)
      await wait(200)
      const [first] = await plane.attach(['c0', 'r0'])
      assert.ok(first !== undefined && 'attached' in first && first.attached.name === 'wan0')
      c.send(fromClient(3900, 80, 'S'))
      assert.equal((await heard(r)).length, 1, verdicts())
      assert.deepEqual(await heard(c, 0), [])
      ip('link set wan0 down')
      ip('link set wan0 name c0')
      ip('link set c0 up')
      ip(`neigh replace 192.0.2.2 lladdr ${ROUTER} dev c0 nud permanent`)
      ip('route replace default via 192.0.2.2')
      await until(() => plane.interfaces().some(({ name }) => name === 'c0'), `followed: ${log.join('; ')}`)
      await wait(200)
    })

    for (const loss of [
      'flush ruleset',
      'delete table netdev pointsman',
      'flush table netdev pointsman',
      'flush set netdev pointsman to4',
    ])
      test(`nft ${loss} is made good within a second, and rules go on changing`, async () => {
        const before = nft().replaceAll(/ expires \w+/g, '')
        execFileSync('nft', loss.split(' '))
        await until(() => nft().replaceAll(/ expires \w+/g, '') === before, `mended: ${nft()}`, 1000)
        c.send(fromClient(3700, 80, 'S'))
        assert.equal((await heard(r)).length, 1, verdicts())
        assert.deepEqual(await heard(c, 0), [])
      })

    test('a change of rules right after the table was lost is in force when it is answered', async () => {
      const more = service(8443)
      execFileSync('nft', ['flush', 'ruleset'])
      await add(more, server('nat', 8443))
      c.send(fromClient(3701, 8443, 'S'))
      assert.equal((await heard(r)).length, 1, verdicts())
      assert.deepEqual(await heard(c, 0), [])
      director.deleteService(more.id)
      await director.settle()
    })

    test('a filter or qdisc that somebody takes off is put back', {
      skip: intake === 'xdp' && 'AF_XDP has a program of its own',
    }, async () => {
      const tc = (...words: string[]) => execFileSync('tc', words, { encoding: 'utf8' })
      const stands = () => tc('filter', 'show', 'dev', 'c0', 'ingress').includes('pref 28781')
      assert.ok(stands())
      tc('filter', 'del', 'dev', 'c0', 'ingress', 'pref', '28781')
      await until(stands, 'the filter to be back', 1000)
      tc('qdisc', 'del', 'dev', 'c0', 'clsact')
      await until(stands, 'qdisc and filter to be back', 1000)
    })

    test('what is claimed holds for 30 seconds only, and errors about others are never the lot', () => {
      const listing = nft()
      const table = listing.slice(listing.indexOf('set alive'))
      assert.match(table, /elements = \{ ip timeout 30s expires (30|[12]\d|\d)s/)
      // Nothing is dropped before the lease was looked at.
      for (const chain of listing.split('hook ingress').slice(1))
        assert.match(chain.split('\n')[1]!, /ether type != @alive accept/)
      // ICMP is dropped by what it quotes alone.
      for (const line of listing.split('\n').filter((each) => /icmp(v6)? type/.test(each)))
        assert.match(line, /@quoted_(to|from)[46](_any)? drop/)
    })

    test('an interface that vanishes does no harm, and is taken again when it returns', async () => {
      r.close()
      ip('link del r0')
      await until(() => plane.interfaces().length === 1, 'r0 is let go')
      c.send(fromClient(4000, 80, 'S'))
      await wait(50)
      ip(`link add r0 address ${R0} type veth peer name wire-r`)
      for (const name of ['r0', 'wire-r']) ip(`link set ${name} up`)
      ip('addr add 10.0.2.1/24 dev r0')
      ip(`neigh replace ${REAL} lladdr ${RS1} dev r0 nud permanent`)
      r = new PacketSocket('wire-r', { vnet: true })
      await until(() => plane.interfaces().length === 2, `r0 is back: ${log.join('; ')}`)
      await wait(100)
      c.send(fromClient(4001, 80, 'S'))
      assert.equal((await heard(r)).length >= 1, true, verdicts())
    })

    test('another interface or name is refused with the reason', async () => {
      const [c0, nope, lo] = await plane.attach(['c0', 'nope', 'lo'])
      assert.ok(c0 !== undefined && 'attached' in c0)
      assert.ok(nope !== undefined && 'refused' in nope && nope.absent)
      assert.match(nope.refused, /No interface "nope"/)
      assert.ok(lo !== undefined && 'refused' in lo && !lo.absent)
      assert.match(lo.refused, /Cannot take packets from lo: it is the loopback interface/)
      assert.deepEqual(
        plane.interfaces().map(({ name }) => name),
        ['c0'],
      )
      await plane.attach(['c0', 'r0'])
      assert.equal(plane.interfaces().length, 2)
    })

    test('detach leaves nothing behind', async () => {
      await plane.detach()
      await heard(c)
      assert.equal(nft(), '')
      assert.doesNotMatch(ip('link show'), /pm-/)
      c.send(fromClient(5000, 80, 'S'))
      assert.equal((await heard(c)).length, 1)
      await plane.attach(['c0', 'r0'])
      c.send(fromClient(5001, 80, 'S'))
      assert.equal((await heard(r)).length, 1, verdicts())
    })
  })
