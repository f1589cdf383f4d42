/** Claims on spans of ports, those of marking rules above all: every packet in some span, and none twice. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fillMarks, markMaps } from '../../../control/compile/marks.ts'
import type { MarkRule } from '../../../control/model/mark.ts'
import {
  LiveRecord,
  Method,
  RealRecord,
  ServiceRecord,
  SettingsRecord,
  Slot,
} from '../../../dataplane/layout/layout.gen.ts'
import { MemoryDataplane } from '../../../dataplane/memory.ts'
import {
  claimsOf,
  hullsOf,
  type SpanBox,
  type SpanClaim,
  spanKey,
} from '../../../dataplane/userspace/claims/spans.ts'
import { ClaimTracker, claimKey } from '../../../dataplane/userspace/claims/tracker.ts'
import { parseAddress } from '../../../net/address.ts'
import { cut, type Prefix, parsePrefix } from '../../../net/prefix.ts'
import fc from '../../property.ts'

const prefix = (text: string): Prefix => {
  const parsed = parsePrefix(text)
  assert.ok(typeof parsed !== 'string', String(parsed))
  return parsed
}

const rule = (destination: string | null, given: Partial<MarkRule> = {}): MarkRule => ({
  ...{ family: 4, source: null, protocol: 'tcp', ports: null, interface: null, mark: 1 },
  destination: destination === null ? null : prefix(destination),
  ...given,
})

/** A data plane with services of marks 1 and, of IPv6, 6, and a tracker of it. */
class Stage {
  readonly plane = new MemoryDataplane()
  readonly tracker = new ClaimTracker(this.plane)
  #half: 0 | 1 = 0

  constructor() {
    this.putService(0, 4, 1)
    this.putService(1, 6, 6)
  }

  putService(slot: number, family: 4 | 6, fwmark: number, life: number = Slot.Live): void {
    const { view, entrySize } = this.plane.map('services')
    const record = ServiceRecord.read(view, slot * entrySize)
    ServiceRecord.write(view, slot * entrySize, { ...record, slot: life, family, protocol: 0, fwmark })
  }

  putReal(slot: number, service: number, life: number, connections: number): void {
    const { view, entrySize } = this.plane.map('reals')
    const record = RealRecord.read(view, slot * entrySize)
    RealRecord.write(view, slot * entrySize, {
      ...record,
      ...{ slot: life, service, family: 4, method: Method.Dr },
    })
    const live = this.plane.map('live')
    LiveRecord.setInactive(live.view, slot * live.entrySize, connections)
  }

  mark(...rules: readonly MarkRule[]): void {
    this.#half = this.#half === 0 ? 1 : 0
    const word = fillMarks(markMaps(this.plane), this.#half, rules, () => 7)
    SettingsRecord.setMarks(this.plane.map('settings').view, 0, word)
  }

  claims(): string[] {
    this.tracker.update()
    return this.tracker.all().map(claimKey).sort()
  }
}

test('rules claim what they mark for a service, of all protocols if they name none', () => {
  const stage = new Stage()
  stage.mark(
    rule('192.0.2.0/24', { ports: { from: 80, to: 90 } }),
    rule('192.0.2.7/32', { protocol: null, ports: { from: 80, to: 443 }, source: prefix('10.0.0.0/8') }),
    rule('203.0.113.0/24', { mark: 2 }),
    rule(null, { family: 6, protocol: 'udp', mark: 6, interface: 'eth0' }),
    rule('2001:db8::/32', { family: 6, mark: 1 }),
  )
  assert.deepEqual(stage.claims(), [
    'to sctp 192.0.2.7/32 80-443',
    'to sctp 192.0.2.7/32 fragments',
    'to tcp 192.0.2.0/24 80-90',
    'to tcp 192.0.2.0/24 fragments',
    'to tcp 192.0.2.7/32 91-443',
    'to udp 192.0.2.7/32 80-443',
    'to udp 192.0.2.7/32 fragments',
    'to udp ::/0 0-65535',
    'to udp ::/0 fragments',
  ])
  // The same half, filled twice in between, and the same number of kinds: nothing but its content differs.
  stage.mark(rule('192.0.2.0/24'))
  stage.claims()
  stage.mark()
  stage.mark(rule('192.0.3.0/24'))
  assert.deepEqual(stage.claims(), ['to tcp 192.0.3.0/24 0-65535', 'to tcp 192.0.3.0/24 fragments'])
})

test('without a service of the mark nothing is claimed', () => {
  const stage = new Stage()
  stage.mark(rule('192.0.2.0/24'))
  assert.equal(stage.claims().length, 2)
  stage.putService(0, 4, 1, Slot.Free)
  assert.deepEqual(stage.claims(), [])
  stage.putService(2, 4, 1)
  assert.equal(stage.claims().length, 2)
})

test('a removed rule stays claimed while a connection by some mark lives', () => {
  const stage = new Stage()
  stage.putReal(0, 0, Slot.Live, 1)
  stage.mark(rule('192.0.2.0/24'), rule('192.0.3.0/24'))
  const both = stage.claims()
  stage.mark(rule('192.0.3.0/24'))
  assert.deepEqual(stage.claims(), both)
  assert.equal(stage.tracker.lingers, true)
  stage.mark()
  stage.putService(0, 4, 1, Slot.Free)
  stage.putReal(0, 0, Slot.Gone, 1)
  assert.deepEqual(stage.claims(), both)
  stage.putReal(0, 0, Slot.Gone, 0)
  assert.deepEqual(stage.claims(), [])
  assert.equal(stage.tracker.lingers, false)
})

const span = fc.tuple(fc.nat(12), fc.nat(6)).map(([from, more]) => ({ from, to: from + more }))
const box: fc.Arbitrary<SpanBox> = fc.record({
  protocol: fc.constantFrom('tcp', 'udp', 'sctp'),
  prefix: fc
    .tuple(fc.constantFrom('10.0.0.0', '10.0.0.129', '10.128.0.1', '2001:db8::1', '2001:db9::1'), fc.nat(32))
    .map(([address, length]) => cut(parseAddress(address)!, length)),
  ports: fc.oneof({ arbitrary: span, weight: 4 }, fc.constant(null)),
})
const destination = fc.constantFrom('10.0.0.0', '10.0.0.129', '10.128.0.1', '11.0.0.1', '2001:db8::1', '::1')

function isAbout(box: SpanBox, protocol: string, text: string): boolean {
  const { family, length, address } = box.prefix
  const isOfFamily = text.includes(':') === (family === 6)
  return box.protocol === protocol && isOfFamily && cut(parseAddress(text)!, length).address === address
}

test('claims are all that is in some box, and apart from one another', () => {
  fc.assert(
    fc.property(
      fc.array(box, { maxLength: 12 }),
      destination,
      fc.constantFrom('tcp', 'udp', 'sctp'),
      fc.nat(20),
      (boxes, text, protocol, port) => {
        const isIn = (one: SpanBox) => isAbout(one, protocol, text)
        const holds = ({ ports }: Pick<SpanClaim, 'ports'>) =>
          ports !== null && ports.from <= port && port <= ports.to
        const claims = claimsOf(boxes)
        const claimed = claims.filter((claim) => isIn(claim) && holds(claim))
        assert.equal(claimed.length, boxes.some((one) => isIn(one) && holds(one)) ? 1 : 0)
        const pieces = claims.filter((claim) => isIn(claim) && claim.ports === null)
        assert.equal(
          pieces.length,
          boxes.some((one) => isIn(one) && one.ports === null) ? 1 : 0,
          claims.map(spanKey).join('; '),
        )
      },
    ),
    { numRuns: 500 },
  )
})

test('the longest prefix alone tells whether a port may be claimed', () => {
  fc.assert(
    fc.property(
      fc.array(box, { maxLength: 12 }),
      destination,
      fc.constantFrom('tcp', 'udp', 'sctp'),
      fc.nat(20),
      (boxes, text, protocol, port) => {
        const longest = (isPiece: boolean) =>
          hullsOf(claimsOf(boxes))
            .filter((hull) => (hull.ports === null) === isPiece && isAbout(hull, protocol, text))
            .sort((a, b) => b.prefix.length - a.prefix.length)[0]
        const about = boxes.filter((one) => isAbout(one, protocol, text))
        const hull = longest(false)?.ports
        if (about.some(({ ports }) => ports !== null && ports.from <= port && port <= ports.to))
          assert.ok(hull != null && hull.from <= port && port <= hull.to, text)
        assert.equal(
          longest(true) !== undefined,
          about.some(({ ports }) => ports === null),
        )
      },
    ),
    { numRuns: 500 },
  )
})
