/** Services on their way between threads. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Packer, type SentService, Unpacker } from '../../../../control/source/thread/packing.ts'
import fc from '../../../property.ts'
import { siteService } from '../sites.ts'

const place = fc.record({
  file: fc.constantFrom('/etc/a.yaml', '/etc/b.yaml'),
  line: fc.nat(),
  column: fc.nat(),
})
const sent: fc.Arbitrary<SentService> = fc.oneof(
  fc.record({ same: fc.nat({ max: 9 }), at: place }),
  fc.tuple(siteService, place).map(([service, at]) => ({ ...service, at })),
)

test('what is packed is what is unpacked, however it is cut into messages', () => {
  fc.assert(
    fc.property(fc.array(fc.array(sent, { maxLength: 4 }), { maxLength: 4 }), (messages) => {
      const packer = new Packer()
      const unpacker = new Unpacker()
      for (const services of messages) {
        // Generated records have no prototype.
        assert.deepEqual(unpacker.unpack(packer.pack(services)), structuredClone(services))
      }
    }),
    { numRuns: 200 },
  )
})

test('equal checks of many real servers are one value at the other end', () => {
  const [service] = fc.sample(
    siteService.filter(({ servers }) => servers.length > 1),
    { numRuns: 1, seed: 1 },
  )
  const at = { file: 'a', line: 1, column: 1 }
  const copies = service!.servers.map((server) => ({
    ...server,
    checks: structuredClone(service!.servers[0]!.checks),
  }))
  const unpacker = new Unpacker()
  const packer = new Packer()
  const [first] = unpacker.unpack(packer.pack([{ ...service!, servers: copies, at }]))
  const [second] = unpacker.unpack(packer.pack([{ ...service!, servers: copies, at }]))
  assert.ok(first !== undefined && second !== undefined && 'servers' in first && 'servers' in second)
  assert.equal(first.servers[0]!.checks, first.servers[1]!.checks)
  assert.equal(first.servers[0]!.checks, second.servers[1]!.checks)
})
