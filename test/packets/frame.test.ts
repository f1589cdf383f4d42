import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hex, ipBytes, ipText, unhex } from './bytes.ts'
import { decode, diff } from './decode.ts'
import {
  ethernet,
  fragmentHeader,
  icmp,
  ipv4,
  ipv6,
  PROTOCOL,
  padOptions,
  patch,
  raw,
  tcp,
  udp,
} from './frame.ts'
import { isInject, loadVectors } from './vectors.ts'

const recordings = loadVectors([new URL('../recordings/packets', import.meta.url).pathname])

test('a built SYN equals the recorded one byte for byte', () => {
  const built = ethernet(
    { src: '02:00:00:00:01:02', dst: '02:00:00:00:01:01' },
    ipv4(
      { src: '198.51.100.7', dst: '192.0.2.100', df: true },
      tcp({ flags: 'S', options: unhex('020405b4') }),
    ),
  )
  const recorded = recordings.find((vector) => vector.area === 'forward')?.steps.find(isInject)
  assert.ok(recorded)
  const bytes = unhex(recorded.inject.frame)
  // Everything but the values that the recording chose for itself.
  assert.equal(hex(built.subarray(0, 18)), hex(bytes.subarray(0, 18)))
  assert.equal(hex(built.subarray(22, 24)), hex(bytes.subarray(22, 24)))
  assert.deepEqual(decode(built).length, decode(bytes).length)
})

test('addresses survive the way from text to bytes and back', () => {
  for (const text of [
    '192.0.2.1',
    '::',
    '::1',
    '2001:db8::1',
    '2001:db8:0:1::',
    '1:0:2::3',
    'fe80::200:ff:fe00:1',
  ]) {
    assert.equal(ipText(ipBytes(text)), text)
  }
  assert.equal(hex(ipBytes('::ffff:192.0.2.1')), '00000000000000000000ffffc0000201')
})

test('no checksum that kernel IPVS computed is called wrong by the decoder', () => {
  const told = new Set<string>()
  for (const vector of recordings) {
    if (['malformed', 'sctp', 'offload'].includes(vector.area) || /wrong|checksum|partial/i.test(vector.name))
      continue
    for (const step of vector.steps.filter(isInject)) {
      for (const { frame } of [step.inject, ...step.expect]) {
        if (decode(unhex(frame)).some((line) => line.includes('WRONG'))) told.add(vector.name)
      }
    }
  }
  // Clients that send wrong checksums on purpose name them in the vector.
  assert.deepEqual([...told].slice(0, 5), [])
})

test('the decoder takes any bytes', () => {
  const frame = ethernet(
    {},
    ipv6(
      {
        src: '2001:db8::1',
        dst: '2001:db8::2',
        extensions: [padOptions(PROTOCOL.hopByHop), fragmentHeader(7, 0, true)],
      },
      udp({}),
    ),
  )
  for (let length = 0; length <= frame.length; length++)
    assert.ok(decode(frame.subarray(0, length)).length > 0)
  for (let at = 0; at < frame.length; at++) assert.ok(decode(patch(frame, at, 'ff')).length > 0)
})

test('lengths, options and checksums can be overridden', () => {
  const packet = ipv4(
    {
      src: '10.0.0.1',
      dst: '10.0.0.2',
      options: unhex('010101'),
      totalLength: 9999,
      checksum: 0x1234,
      protocol: 99,
    },
    raw(6, 'x'),
  )
  assert.equal(hex(packet.bytes.subarray(0, 12)), '4600270f1234000040631234')
  assert.equal(packet.bytes.length, 25)
})

test('an ICMP error quotes a packet and the decoder shows it', () => {
  const quote = ipv4({ src: '192.0.2.100', dst: '198.51.100.7' }, tcp({}))
  const lines = decode(
    ethernet({}, ipv4({ src: '198.51.100.7', dst: '192.0.2.100' }, icmp({ type: 3, code: 3 }, quote))),
  )
  assert.match(lines[2] ?? '', /icmp type 3 code 3 .* ok/)
  assert.match(lines[3] ?? '', /192\.0\.2\.100 > 198\.51\.100\.7 tcp/)
})

test('a difference is marked in the decoded lines and below its byte', () => {
  const one = ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2', ttl: 64 }, udp({})))
  const other = ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2', ttl: 63 }, udp({})))
  const lines = diff(one, other)
  assert.ok(lines.some((line) => line.startsWith('  - ipv4') && line.includes('ttl 64')))
  assert.ok(lines.some((line) => line.startsWith('  + ipv4') && line.includes('ttl 63')))
  assert.ok(lines.some((line) => line.trim().startsWith('^^')))
})
