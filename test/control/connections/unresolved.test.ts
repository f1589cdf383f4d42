import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { UnresolvedHops } from '../../../control/connections/unresolved.ts'
import {
  Conn4Record,
  ConnKind,
  ConnRecord,
  ConnStatus,
  PM_VERDICT_MAX,
  RealRecord,
  Slot,
  Verdict,
} from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane, SMALL_SIZES } from '../../../dataplane/memory.ts'
import type { IpAddress } from '../../../net/address.ts'
import { ipv4ToNumber, parseAddress } from '../../../net/address.ts'

function address(text: string): IpAddress {
  const parsed = parseAddress(text)
  assert.ok(parsed !== null)
  return parsed
}

/** A live line towards `destination`. */
function putLine(
  plane: MemoryDataplane,
  line: number,
  kind: ConnKind,
  destination: string,
  neighbour: number,
): void {
  const { view } = plane.map('connections4')
  const base = line * Conn4Record.size
  ConnRecord.setWord(view, base, ConnStatus.Live)
  ConnRecord.setTraits(view, base, kind)
  ConnRecord.setNeighbour(view, base, neighbour)
  ConnRecord.setReal(view, base, 0)
  Conn4Record.setDaddr(view, base, ipv4ToNumber(address(destination)))
}

function drop(plane: MemoryDataplane, cpu: number): void {
  const { u64 } = plane.map('verdicts')
  u64[cpu * PM_VERDICT_MAX + Verdict.DropNextHopUnresolved]! += 1n
}

function searched(hops: UnresolvedHops, lines: number): string[] {
  for (let slices = 0; slices < 10_000; slices++) {
    const found = hops.slice(lines)
    if (found !== null) return [...found].sort()
  }
  return assert.fail('the search does not end')
}

describe('next hops that packets wait for', () => {
  test('are looked for only after packets were dropped for want of one', () => {
    const plane = new MemoryDataplane(SMALL_SIZES)
    drop(plane, 0)
    const hops = new UnresolvedHops(plane)
    assert.equal(hops.due(), false, 'drops before the start are old')
    drop(plane, SMALL_SIZES.cpus - 1)
    assert.equal(hops.due(), true)
    searched(hops, 1000)
    assert.equal(hops.due(), false)
  })

  test('are the clients of replies and the real servers of requests, whatever the size of a slice', () => {
    const plane = new MemoryDataplane(SMALL_SIZES)
    const real = plane.map('reals').view
    RealRecord.setSlot(real, 0, Slot.Live)
    RealRecord.setFamily(real, 0, 4)
    plane.map('reals').bytes.set([10, 0, 0, 9], RealRecord.offsets.addr)
    putLine(plane, 1, ConnKind.Reply, '192.0.2.50', 0)
    putLine(plane, 2, ConnKind.Reply, '192.0.2.51', 7)
    putLine(plane, 5, ConnKind.In, '192.0.2.100', 0)
    putLine(plane, SMALL_SIZES.connections4 - 1, ConnKind.Reply, '192.0.2.52', 0)
    for (const lines of [1, 3, 1_000_000]) {
      const hops = new UnresolvedHops(plane)
      drop(plane, 0)
      assert.ok(hops.due())
      assert.deepEqual(searched(hops, lines), ['10.0.0.9', '192.0.2.50', '192.0.2.52'])
    }
  })

  test('are no more than a bounded number at once', () => {
    const plane = new MemoryDataplane(SMALL_SIZES)
    for (let i = 0; i < SMALL_SIZES.connections4; i++)
      putLine(plane, i, ConnKind.Reply, `198.51.${i >> 8}.${i & 255}`, 0)
    const hops = new UnresolvedHops(plane)
    drop(plane, 0)
    assert.ok(hops.due())
    assert.equal(searched(hops, 100).length, Math.min(64, SMALL_SIZES.connections4))
  })
})
