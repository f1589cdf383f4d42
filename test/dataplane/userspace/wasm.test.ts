import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { builtFile } from '../../../dataplane/assets.ts'
import { Action, FibResult, MAP_NAMES, PM_VERDICT_MAX, Verdict } from '../../../dataplane/layout.gen.ts'
import { SMALL_SIZES } from '../../../dataplane/memory.ts'
import { openWasm, type WasmDataplane } from '../../../dataplane/userspace/wasm.ts'

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
      fib: () => ({ result: FibResult.NoRoute }),
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

  test('a program that was not built is an error that says so', () => {
    assert.throws(
      () => openWasm({ sizes: SMALL_SIZES, wasmPath: '/nonexistent.wasm', fib: () => ({ result: 2 }) }),
      /Cannot load the packet program \/nonexistent.wasm: build it with npm run build/,
    )
  })
})
