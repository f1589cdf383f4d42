import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { builtFile } from '../../../dataplane/assets.ts'
import { putInterface } from '../../../dataplane/interface-table.ts'
import {
  Action,
  JobRecord,
  MAP_NAMES,
  PM_VERDICT_MAX,
  Verdict,
} from '../../../dataplane/layout/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { openWasm } from '../../../dataplane/userspace/wasm-file.ts'
import { seatInstance } from '../../../dataplane/wasm/instance.ts'
import type { WasmDataplane } from '../../../dataplane/wasm/program.ts'
import { openDirector } from '../../control/opened-director.ts'
import { server, service, testHost } from '../../control/support.ts'
import { ethernet, ipv4, udp } from '../../packets/frame.ts'

function built(): string | null {
  try {
    return builtFile('pointsman.wasm')
  } catch {
    return null
  }
}

const wasmPath = built()

describe('the packet program in wasm', { skip: wasmPath === null && 'needs npm run build' }, () => {
  const open = (): WasmDataplane =>
    openWasm({
      sizes: SMALL_SIZES,
      wasmPath: wasmPath!,
      fib: () => ({ result: 'no-route' }),
      now: () => 7,
    })

  test('maps are separate regions of one memory, zeroed', () => {
    const plane = open()
    const ranges = MAP_NAMES.map((name) => plane.map(name).bytes).map((bytes) => {
      assert.equal(bytes.byteOffset % 64, 0)
      return [bytes.byteOffset, bytes.byteOffset + bytes.length] as const
    })
    ranges.sort((a, b) => a[0] - b[0])
    for (let i = 1; i < ranges.length; i++) assert.ok(ranges[i - 1]![1] <= ranges[i]![0])
    for (const name of MAP_NAMES) {
      if (name !== 'settings') assert.ok(plane.map(name).bytes.every((byte) => byte === 0))
    }
  })

  test('a trap gives the stack back: however many there were, nothing below it is written', async () => {
    const plane = open()
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 1)
    putInterface(plane, { name: 'c0', ifindex: 3, mac, mtu: 1500 })
    const { director } = openDirector({ dataplane: plane, host: testHost() })
    const dns = service('udp 192.0.2.100:53', { scheduler: 'rr' })
    director.addService(dns)
    director.addServer(dns.id, server('10.0.0.1:53'))
    await director.settle()
    const seat = plane.seat(1)
    // From deep inside, as a trap would.
    const instance = seatInstance(seat, () => {
      throw new WebAssembly.RuntimeError('unreachable')
    })
    const job = plane.owner.allocate(JobRecord.size)
    const data = plane.owner.allocate(512) + 256 + 2
    const memory = new Uint8Array(seat.memory.buffer)
    memory.set(
      ethernet(
        { src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' },
        ipv4({ src: '198.51.100.7', dst: '192.0.2.100' }, udp({ sport: 9, dport: 53 }, new Uint8Array(20))),
      ),
      data,
    )
    const view = new DataView(seat.memory.buffer)
    const frame = { data, linear: 62, length: 62, ifindex: 3 }
    for (let i = 0; i < 5000; i++) {
      JobRecord.write(view, job, { ...JobRecord.read(view, job), ...frame })
      // A new flow each time, which asks for its next hop.
      plane.map('connections4').bytes.fill(0)
      assert.throws(() => instance.runBatch(job, 1), WebAssembly.RuntimeError)
    }
    assert.ok(instance.stackIsWhole())
  })

  test('frames get a verdict, in order and over several batches, and each is counted', () => {
    const plane = open()
    const arp = {
      frame: Buffer.concat([Buffer.alloc(12), Buffer.from('0806', 'hex'), Buffer.alloc(46)]),
      ifindex: 3,
    }
    const results = plane.run(Array.from({ length: 150 }, () => arp))
    assert.equal(results.length, 150)
    for (const result of results) {
      assert.equal(result.action, Action.Pass)
      assert.deepEqual(Buffer.from(result.frame), arp.frame)
    }
    const verdict = results[0]!.verdict
    assert.equal(plane.map('verdicts').u64[verdict], 150n)
    assert.ok(verdict === Verdict.PassNotIp || verdict === Verdict.PassNotConfigured)
  })

  test('an empty frame, a frame of one byte and the largest one are no problem', () => {
    const plane = open()
    for (const length of [0, 1, 13, 14, 33, 65_549]) {
      const [result] = plane.run([{ frame: new Uint8Array(length), ifindex: 1 }])
      assert.equal(result?.action, Action.Pass, `${length} bytes`)
      assert.equal(result?.frame.length, length)
    }
  })

  test('every instance counts in a row of its own', () => {
    const plane = open()
    const verdicts = plane.map('verdicts')
    assert.equal(verdicts.entries, SMALL_SIZES.cpus * PM_VERDICT_MAX)
    plane.run([{ frame: new Uint8Array(60), ifindex: 1 }])
    const rows = [0, 1].map((cpu) =>
      verdicts.u64.subarray(cpu * PM_VERDICT_MAX, (cpu + 1) * PM_VERDICT_MAX).reduce((sum, n) => sum + n, 0n),
    )
    assert.deepEqual(rows, [1n, 0n])
  })

  test('a frame of which only headers were shown never joins a connection of source port 0', async () => {
    const mac = Uint8Array.from([2, 0, 0, 0, 1, 1])
    const hop = { result: 'ok', ifindex: 3, smac: mac, dmac: mac, mtu: 1500 } as const
    const plane = openWasm({ sizes: SMALL_SIZES, wasmPath: wasmPath!, fib: () => hop, now: () => 7 })
    putInterface(plane, { name: 'c0', ifindex: 3, mac, mtu: 1500 })
    const { director } = openDirector({ dataplane: plane, host: testHost() })
    const dns = service('udp 192.0.2.100:53', { scheduler: 'rr' })
    director.addService(dns)
    director.addServer(dns.id, server('10.0.0.1:53'))
    await director.settle()
    const datagram = udp({ sport: 0, dport: 53 }, new Uint8Array(60))
    const packet = ipv4({ src: '198.51.100.7', dst: '192.0.2.100' }, datagram)
    const frame = ethernet({ src: '02:00:00:00:01:02', dst: '02:00:00:00:01:01' }, packet)
    const verdict = () => plane.run([{ frame, ifindex: 3, linear: 60 }])[0]!.verdict
    assert.equal(verdict(), Verdict.ForwardNat)
    director.deleteServer(dns.id, server('10.0.0.1:53').id)
    await director.settle()
    assert.equal(verdict(), Verdict.AnswerPortUnreachable, 'it asks for the payload to quote it')
  })

  test('a program that was not built is an error that says so', () => {
    assert.throws(
      () =>
        openWasm({ sizes: SMALL_SIZES, wasmPath: '/nonexistent.wasm', fib: () => ({ result: 'no-route' }) }),
      /Cannot load the packet program \/nonexistent.wasm: build it with npm run build/,
    )
  })
})
