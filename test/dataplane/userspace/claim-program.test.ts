/** The claims as a program, against the filter that the workers ask: it may drop less, never more. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ClaimFilter } from '../../../dataplane/userspace/claims/filter.ts'
import { claimProgram } from '../../../dataplane/userspace/claims/program.ts'
import type { EndClaim } from '../../../dataplane/userspace/claims/tracker.ts'
import { readAddress } from '../../../net/address.ts'
import { ethernet, ipv4, ipv6, tcp, udp } from '../../packets/frame.ts'
import fc from '../../property.ts'

const bytesToAddress = (bytes: Uint8Array) => readAddress(bytes, 0, bytes.length === 4 ? 4 : 6)

const PASS = -1
const DROP = 2

/** Classic BPF as linux/filter.h has it, with what programs here use; a load beyond the frame ends with 0. */
function run(program: Uint8Array, frame: Uint8Array): { readonly result: number; readonly steps: number } {
  const code = new DataView(program.buffer, program.byteOffset, program.length)
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length)
  let a = 0
  let x = 0
  let steps = 0
  for (let at = 0; ; at++) {
    steps += 1
    assert.ok(at * 8 < program.length, 'ran off the end')
    const operand = code.getUint32(at * 8 + 4, true)
    const [yes, no] = [code.getUint8(at * 8 + 2), code.getUint8(at * 8 + 3)]
    const load = (bytes: 1 | 2 | 4): boolean => {
      // A frame for this host, without a VLAN tag beside it.
      if (operand >= 0xffff_f000) a = 0
      else if (operand + bytes > frame.length) return false
      else if (bytes === 1) a = view.getUint8(operand)
      else a = bytes === 2 ? view.getUint16(operand) : view.getUint32(operand)
      return true
    }
    const branch = (condition: boolean): void => {
      at += condition ? yes : no
    }
    switch (code.getUint16(at * 8, true)) {
      case 0x20:
        if (!load(4)) return { result: 0, steps }
        break
      case 0x28:
        if (!load(2)) return { result: 0, steps }
        break
      case 0x30:
        if (!load(1)) return { result: 0, steps }
        break
      case 0x80:
        a = frame.length
        break
      case 0x14:
        a = (a - operand) >>> 0
        break
      case 0x54:
        a = (a & operand) >>> 0
        break
      case 0x07:
        x = a
        break
      case 0x05:
        at += operand
        break
      case 0x15:
        branch(a === operand)
        break
      case 0x35:
        branch(a >= operand)
        break
      case 0x2d:
        branch(a > x)
        break
      case 0x45:
        branch((a & operand) !== 0)
        break
      case 0x06:
        return { result: operand | 0, steps }
      default:
        assert.fail(`instruction ${code.getUint16(at * 8, true)}`)
    }
  }
}

/** Few addresses and ports, so that claims and packets meet. */
const smallByte = fc.constantFrom(0, 1, 2, 255)
const address4 = fc
  .tuple(fc.constantFrom(10, 192), smallByte)
  .map(([first, last]) => Uint8Array.of(first, 0, 2, last))
const address6 = fc
  .tuple(fc.constantFrom(0x20, 0xfd), smallByte, smallByte, smallByte)
  .map(([first, b, c, d]) => Uint8Array.of(first, 1, 0, 0, b, 0, 0, 0, 0, 0, 0, c, 0, 0, 0, d))
const port = fc.constantFrom(1, 80, 443, 65_535)
const end = fc.oneof(
  address4.map((bytes) => ({ family: 4 as const, bytes })),
  address6.map((bytes) => ({ family: 6 as const, bytes })),
)
const claim: fc.Arbitrary<EndClaim> = fc
  .record({
    side: fc.constantFrom('to', 'from'),
    protocol: fc.constantFrom('tcp', 'udp', 'sctp'),
    end,
    port: fc.oneof({ arbitrary: port, weight: 4 }, fc.constant(0)),
  })
  .map(({ side, protocol, end: { family, bytes }, port: number }) => ({
    side,
    protocol,
    family,
    address: bytesToAddress(bytes),
    port: number,
    of: 'packets' as const,
  }))
const claims = fc.uniqueArray(claim, {
  maxLength: 400,
  selector: ({ side, protocol, address, port: number }) => `${side} ${protocol} ${address} ${number}`,
})

const packet = fc
  .record({
    family: fc.constantFrom(4, 6),
    isTcp: fc.boolean(),
    sport: port,
    dport: port,
    src4: address4,
    dst4: address4,
    src6: address6,
    dst6: address6,
  })
  .map(({ family, isTcp, sport, dport, src4, dst4, src6, dst6 }) => {
    const segment = isTcp ? tcp({ sport, dport, flags: 'A' }) : udp({ sport, dport })
    const macs = { src: '02:00:00:00:01:02', dst: '02:00:00:00:01:01' }
    return family === 4
      ? ethernet(macs, ipv4({ src: bytesToAddress(src4), dst: bytesToAddress(dst4) }, segment))
      : ethernet(macs, ipv6({ src: bytesToAddress(src6), dst: bytesToAddress(dst6) }, segment))
  })

function filterOf(list: readonly EndClaim[]): ClaimFilter {
  const filter = new ClaimFilter()
  filter.apply({ added: list, removed: [] })
  return filter
}

describe('the program of claims', () => {
  test('drops exactly the ordinary packets that the filter matches', () => {
    fc.assert(
      fc.property(claims, fc.array(packet, { minLength: 1, maxLength: 20 }), (list, frames) => {
        const program = claimProgram(list)
        const filter = filterOf(list)
        for (const frame of frames) {
          const want = filter.matches(frame, 0, frame.length) ? DROP : PASS
          assert.equal(run(program, frame).result, want)
        }
      }),
    )
  })

  test('never drops what the filter does not match, whatever the bytes', () => {
    const change = fc.tuple(fc.nat(80), fc.nat(255))
    const broken = fc
      .tuple(packet, fc.array(change, { maxLength: 4 }), fc.nat(80))
      .map(([frame, changes, cut]) => {
        const bytes = frame.slice(0, Math.max(14, frame.length - (cut > 60 ? cut - 60 : 0)))
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
        return bytes
      })
    fc.assert(
      fc.property(claims, fc.array(broken, { minLength: 1, maxLength: 20 }), (list, frames) => {
        const program = claimProgram(list)
        const filter = filterOf(list)
        for (const frame of frames) {
          if (run(program, frame).result === DROP) assert.ok(filter.matches(frame, 0, frame.length))
        }
      }),
      { numRuns: 300 },
    )
  })

  test('asks little of a packet, however many claims there are', () => {
    const list = Array.from({ length: 800 }, (_, i) => ({
      side: 'to' as const,
      protocol: 'tcp' as const,
      of: 'packets' as const,
      family: 4 as const,
      address: bytesToAddress(Uint8Array.of(10, 0, i >> 8, i & 255)),
      port: 80,
    }))
    const program = claimProgram(list)
    const filter = filterOf(list)
    let most = 0
    for (let i = 0; i < 1000; i++) {
      const dst = bytesToAddress(Uint8Array.of(10, 0, i >> 8, i & 255))
      const frame = ethernet(
        { src: '02:00:00:00:01:02', dst: '02:00:00:00:01:01' },
        ipv4({ src: '198.51.100.7', dst }, tcp({ sport: 1, dport: 80, flags: 'A' })),
      )
      const { result, steps } = run(program, frame)
      assert.equal(result, filter.matches(frame, 0, frame.length) ? DROP : PASS)
      most = Math.max(most, steps)
    }
    assert.ok(most < 60, `${most} steps`)
  })

  test('stays within what the kernel takes', () => {
    const list = Array.from({ length: 100_000 }, (_, i) => ({
      side: i % 2 === 0 ? ('to' as const) : ('from' as const),
      protocol: 'udp' as const,
      of: 'packets' as const,
      family: 6 as const,
      address: bytesToAddress(Uint8Array.of(0x20, 1, 0, 0, i >> 16, 0, i >> 8, 0, i, 0, 0, 0, 0, 0, 0, 0)),
      port: 80 + (i % 7),
    }))
    const program = claimProgram(list)
    assert.ok(program.length / 8 <= 3500)
    assert.ok(program.length / 8 > 2500, 'but takes what fits')
  })
})
