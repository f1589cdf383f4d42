/** Packets as people describe them, and daemons that explain them in a thread of their own. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { frameOfHex, PacketError } from '../../../control/insight/explain/packet.ts'
import { Asker } from '../../../control/insight/explain/thread/asker.ts'
import { hex } from '../../../net/packet/bytes.ts'
import { ethernet, ipv4, udp } from '../../packets/frame.ts'
import fc from '../../property.ts'

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 2)
const packet = ipv4({ src: '198.51.100.7', dst: '192.0.2.10' }, udp({ sport: 4000, dport: 53 }))
const frame = ethernet({ src: '02:00:00:00:00:01', dst: '02:00:00:00:00:02' }, packet)
const digits = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

test('a frame is read as tools print it, and an IP packet alone gets its Ethernet header', () => {
  const rows = digits(frame).match(/.{1,32}/g)!
  const pairs = (row: string): string => row.match(/../g)!.join(' ')
  const words = (row: string): string => row.match(/.{1,4}/g)!.join(' ')
  const at = (i: number): string => (16 * i).toString(16)
  const forms = [
    digits(frame),
    words(digits(frame)),
    `0x${digits(frame)}`,
    pairs(digits(frame)).replaceAll(' ', ':'),
    // tcpdump -xx, Wireshark, hexdump -C
    rows.map((row, i) => `\t0x${at(i).padStart(4, '0')}:  ${words(row)}`).join('\n'),
    rows.map((row, i) => `${at(i).padStart(4, '0')}   ${pairs(row)}   ..E....@.x`).join('\n'),
    rows.map((row, i) => `${at(i).padStart(8, '0')}  ${pairs(row)}  |..E.|`).join('\n'),
    digits(packet.bytes),
  ]
  for (const form of forms) assert.equal(hex(frameOfHex(form, MAC)), hex(frame), form)
})

test('what is no frame is refused in words, whatever it is', () => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ['', /no bytes/],
    ['abc', /3 digits, expected two for each byte/],
    ['hello', /Cannot read "h" in the frame/],
    ['00'.repeat(9217), /9217 bytes: expected at most 9216/],
  ]
  for (const [text, message] of refused) assert.throws(() => frameOfHex(text, MAC), message)
  fc.assert(
    fc.property(fc.string({ maxLength: 200 }), (text) => {
      try {
        assert.ok(frameOfHex(text, MAC).length > 0)
      } catch (error) {
        assert.ok(error instanceof PacketError, String(error))
      }
    }),
  )
})

async function* never(signal: AbortSignal): AsyncGenerator<Uint8Array> {
  await new Promise((resolve) => signal.addEventListener('abort', resolve))
}

test('who is gone is not asked for, those who wait are bounded, and the next one gets an answer', async () => {
  const gone = new AbortController()
  let copies = 0
  const asker = new Asker(
    () => {
      copies++
      return never(gone.signal)
    },
    () => ({ result: 'no-route' }),
  )
  const asked = { protocol: 'tcp', from: '198.51.100.7:1', to: '192.0.2.10:80' } as const
  const waiting = Array.from({ length: 8 }, () => asker.explain(asked, gone.signal))
  assert.deepEqual(await asker.explain(asked, gone.signal), { busy: 'Others ask at this moment: ask again' })
  gone.abort()
  const answers = await Promise.allSettled(waiting)
  assert.equal(copies, 1)
  assert.equal(answers.length, 8)
})
