import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type RingMemory, RingReader, RingWriter } from '../../dataplane/ring.ts'

const BYTES = 256

function ring(): RingMemory {
  return {
    consumer: new BigUint64Array(1),
    producer: new BigUint64Array(1),
    data: new Uint8Array(BYTES),
    bytes: BYTES,
  }
}

function readAll(reader: RingReader, enough = Number.POSITIVE_INFINITY): string[] {
  const found: string[] = []
  reader.read((record) => found.push(Buffer.from(record).toString()) < enough)
  return found
}

test('records are read in their order, over the end of the ring many times', () => {
  const memory = ring()
  const [writer, reader] = [new RingWriter(memory), new RingReader(memory)]
  for (let round = 0; round < 200; round++) {
    const texts = Array.from(
      { length: 1 + (round % 3) },
      (_, i) => `${round}.${'x'.repeat((round * 7 + i) % 40)}`,
    )
    for (const text of texts) {
      assert.ok(writer.write(text.length, (record) => void record.set(Buffer.from(text))))
    }
    assert.deepEqual(readAll(reader), texts)
  }
})

test('a full ring takes nothing more until somebody has read, who may have enough in between', () => {
  const memory = ring()
  const [writer, reader] = [new RingWriter(memory), new RingReader(memory)]
  const write = (text: string): boolean =>
    writer.write(text.length, (record) => void record.set(Buffer.from(text)))
  let written = 0
  while (write(`record ${written}`)) written += 1
  assert.equal(written, 14)
  assert.deepEqual(readAll(reader, 2), ['record 0', 'record 1'])
  assert.ok(write('record a'))
  assert.deepEqual(readAll(reader).slice(-2), ['record 13', 'record a'])
})
