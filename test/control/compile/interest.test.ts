/** The filter in front of the packet program: what it lets through, as the program itself reads it. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { refreshInterest } from '../../../control/compile/interest.ts'
import { builtFile } from '../../../dataplane/assets.ts'
import { putInterface } from '../../../dataplane/interface-table.ts'
import { Verdict, verdictNames } from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { openWasm } from '../../../dataplane/userspace/wasm-file.ts'
import { parseAddress } from '../../../net/address.ts'
import { ethernet, ip, tcp } from '../../packets/frame.ts'
import { openDirector } from '../opened-director.ts'
import { server, service, testHost } from '../support.ts'

const MAC = '02:00:00:00:00:01'
const VIP = { 4: '192.0.2.100', 6: '2001:db8::100' } as const
const CLIENT = { 4: '198.51.100.7', 6: '2001:db8:c::7' } as const
const REAL = { 4: '10.0.0.1', 6: '2001:db8:1::1' } as const

function scene() {
  const dataplane = openWasm({
    sizes: SMALL_SIZES,
    wasmPath: builtFile('pointsman.wasm'),
    fib: () => ({
      result: 'ok',
      ifindex: 3,
      mtu: 1500,
      smac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      dmac: Uint8Array.of(2, 0, 0, 0, 0, 9),
    }),
    now: () => 1000,
  })
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1)
  putInterface(dataplane, { name: 'c0', ifindex: 3, mac, mtu: 1500 })
  return {
    dataplane,
    interest: dataplane.map('interest'),
    start: () => openDirector({ dataplane, host: testHost() }),
    /** The verdict on a TCP segment. */
    send(from: string, sport: number, to: string, dport: number, flags: string): string {
      const segment = tcp({ sport, dport, flags }, new Uint8Array())
      const frame = ethernet({ src: '02:00:00:00:00:07', dst: MAC }, ip({ src: from, dst: to }, segment))
      const [out] = dataplane.run([{ frame, ifindex: 3 }])
      return verdictNames[out!.verdict] ?? String(out!.verdict)
    },
  }
}

const name = (verdict: Verdict): string => verdictNames[verdict] ?? ''
const bits = (words: Uint32Array): number =>
  words.reduce((sum, word) => sum + word.toString(2).replaceAll('0', '').length, 0)

for (const family of [4, 6] as const) {
  const at = (text: string, port: number): string => (family === 4 ? `${text}:${port}` : `[${text}]:${port}`)

  describe(`endpoints that a rule is about, IPv${family}`, () => {
    test('a connection is found in both directions, and not looked for where no rule is', async () => {
      const { interest, start, send } = scene()
      const { director } = start()
      const web = service(`tcp ${at(VIP[family], 80)}`, { scheduler: 'rr' })
      director.addService(web)
      director.addServer(web.id, server(at(REAL[family], 8080)))
      await director.settle()
      assert.equal(bits(interest.u32), 2, 'the service and its real server')
      assert.equal(send(CLIENT[family], 5000, VIP[family], 80, 'S'), name(Verdict.ForwardNat))
      assert.equal(send(REAL[family], 8080, CLIENT[family], 5000, 'SA'), name(Verdict.ForwardNatReply))
      assert.equal(send(CLIENT[family], 5000, VIP[family], 81, 'S'), name(Verdict.PassNoService))
      // The same connection, were the filter to say that nobody is concerned: nothing else is asked then.
      const kept = interest.u32.slice()
      interest.u32.fill(0)
      assert.equal(send(CLIENT[family], 5000, VIP[family], 80, 'A'), name(Verdict.PassNoService))
      interest.u32.set(kept)
      assert.equal(send(CLIENT[family], 5000, VIP[family], 80, 'A'), name(Verdict.ForwardNat))
    })

    test('port 0 stands for every port of its address, of services and of real servers', async () => {
      const { start, send } = scene()
      const { director } = start()
      const all = service(`tcp ${at(VIP[family], 0)}`, { scheduler: 'rr', persistenceTimeoutS: 0 })
      director.addService(all)
      director.addServer(all.id, server(at(REAL[family], 0)))
      await director.settle()
      // IPVS answers a service of port 0 that is not persistent with an error: it was looked at.
      for (const port of [1, 80, 65_535]) {
        assert.notEqual(send(CLIENT[family], 5000, VIP[family], port, 'S'), name(Verdict.PassNoService))
      }
    })

    test('a health check of a port that no service has is answered on, also when the filter is made anew', async () => {
      const { dataplane, interest, start, send } = scene()
      const { director, applier } = start()
      const web = service(`tcp ${at(VIP[family], 80)}`, { scheduler: 'rr' })
      const real = server(at(REAL[family], 8080))
      director.addService(web)
      director.addServer(web.id, real)
      await director.settle()
      const mac = Uint8Array.of(2, 0, 0, 0, 0, 1)
      const way = applier.probeWays.open({
        real,
        protocol: 'tcp',
        virtual: { address: parseAddress(VIP[family])!, family, port: 8888 },
        source: { address: parseAddress(CLIENT[family])!, port: 64_000 },
        hop: { ifindex: 3, smac: mac, dmac: mac, mtu: 1500 },
        lifeMs: 5000,
      })
      if (typeof way === 'string') assert.fail(way)
      assert.equal(send(CLIENT[family], 64_000, VIP[family], 8888, 'S'), name(Verdict.ForwardNat))
      refreshInterest(
        interest,
        dataplane.map('services'),
        dataplane.map('reals'),
        applier.probeWays.endpoints(),
      )
      assert.equal(send(CLIENT[family], 64_000, VIP[family], 8888, 'A'), name(Verdict.ForwardNat))
      assert.equal(send(REAL[family], 8080, CLIENT[family], 64_000, 'A'), name(Verdict.ForwardNatReply))
      way.close()
      assert.deepEqual(applier.probeWays.endpoints(), [])
    })

    test('connections of a removed service are found, also by a new daemon, until they have ended', async () => {
      const { interest, start, send } = scene()
      const { director } = start()
      const web = service(`tcp ${at(VIP[family], 80)}`, { scheduler: 'rr' })
      director.addService(web)
      director.addServer(web.id, server(at(REAL[family], 8080)))
      // With the last service of a family gone IPVS looks at no packet of it, connections or not.
      director.addService(service(`tcp ${at(VIP[family], 443)}`))
      await director.settle()
      assert.equal(send(CLIENT[family], 5000, VIP[family], 80, 'S'), name(Verdict.ForwardNat))
      director.deleteService(web.id)
      await director.settle()
      assert.equal(send(CLIENT[family], 5000, VIP[family], 80, 'A'), name(Verdict.DropRealServerGone))
      assert.equal(send(REAL[family], 8080, CLIENT[family], 5000, 'A'), name(Verdict.ForwardNatReply))
      assert.equal(send(CLIENT[family], 6000, VIP[family], 80, 'A'), name(Verdict.PassNoService))
      // Whatever an earlier version has left in the filter, a new daemon brings it to what the records say.
      interest.u32.fill(0x5a5a5a5a)
      start()
      assert.equal(bits(interest.u32), 3)
      assert.equal(send(CLIENT[family], 5000, VIP[family], 80, 'A'), name(Verdict.DropRealServerGone))
    })
  })
}
