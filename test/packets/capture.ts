/** Capture files that tcpdump and Wireshark read: classic pcap, microseconds, Ethernet. */
import { readFileSync, writeFileSync } from 'node:fs'

const MAGIC = 0xa1b2c3d4
const LINKTYPE_ETHERNET = 1
const SNAP_LENGTH = 65_535

/** One frame per millisecond, in their order. */
export function writeCapture(path: string, frames: readonly Uint8Array[]): void {
  const head = Buffer.alloc(24)
  head.writeUInt32LE(MAGIC, 0)
  head.writeUInt16LE(2, 4)
  head.writeUInt16LE(4, 6)
  head.writeUInt32LE(SNAP_LENGTH, 16)
  head.writeUInt32LE(LINKTYPE_ETHERNET, 20)
  const records = frames.map((frame, index) => {
    const record = Buffer.alloc(16 + frame.length)
    record.writeUInt32LE(Math.floor(index / 1000), 0)
    record.writeUInt32LE((index % 1000) * 1000, 4)
    record.writeUInt32LE(frame.length, 8)
    record.writeUInt32LE(frame.length, 12)
    record.set(frame, 16)
    return record
  })
  writeFileSync(path, Buffer.concat([head, ...records]))
}

/** Frames of a little-endian Ethernet capture file. */
export function readCapture(path: string): Uint8Array[] {
  const bytes = readFileSync(path)
  if (bytes.length < 24 || bytes.readUInt32LE(0) !== MAGIC || bytes.readUInt32LE(20) !== LINKTYPE_ETHERNET) {
    throw new Error(`Cannot read ${path}: expected a little-endian pcap file of Ethernet frames`)
  }
  const frames: Uint8Array[] = []
  for (let at = 24; at + 16 <= bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8)
    frames.push(Uint8Array.from(bytes.subarray(at + 16, at + 16 + length)))
    at += 16 + length
  }
  return frames
}
