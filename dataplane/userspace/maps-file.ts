/**
 * The maps of this plane in a file, between a clean stop and the next start. Valid once, on the same
 * boot (times in the maps count from it), for the same layout and sizes.
 *
 * Form: one line of JSON, then for every map in order its pages that are not zero, each with its number
 * (32 bits, little-endian) before it; 0xffffffff ends a map.
 */

import { closeSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import { bootId } from '../../linux/boot.ts'
import { type Dataplane, DataplaneError, type Sizes } from '../dataplane.ts'
import { LAYOUT_FINGERPRINT, MAP_NAMES } from '../layout/layout.gen.ts'

const PAGE = 4096
const END = 0xffff_ffff

interface Head {
  readonly layout: string
  readonly boot: string
  readonly sizes: Sizes
}

/** Writes all maps beside the final name and moves them there; no packets may be handled meanwhile. */
export function saveMaps(plane: Pick<Dataplane, 'map' | 'sizes'>, path: string, boot = bootId()): void {
  const temporary = `${path}.new`
  const fd = openSync(temporary, 'w', 0o600)
  try {
    const head: Head = { layout: LAYOUT_FINGERPRINT, boot, sizes: plane.sizes }
    writeAll(fd, Buffer.from(`${JSON.stringify(head)}\n`))
    for (const name of MAP_NAMES) writePages(fd, plane.map(name).bytes)
  } catch (cause) {
    rmSync(temporary, { force: true })
    throw new DataplaneError(`Cannot save connections to ${path}: ${messageOf(cause)}`, { cause })
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, path)
}

/**
 * Reads back what `saveMaps` wrote and removes the file, so that no later crash finds it. Returns why
 * the state could not be used, or null when it was restored; the maps are untouched if not.
 */
export function restoreMaps(
  plane: Pick<Dataplane, 'map' | 'sizes'>,
  path: string,
  boot = bootId(),
): string | null {
  let file: Buffer
  try {
    file = readFileSync(path)
  } catch {
    return 'nothing was saved'
  }
  rmSync(path, { force: true })
  const newline = file.indexOf(10)
  const head = newline < 0 ? null : parseHead(file.toString('utf8', 0, newline))
  if (head === null) return `${path} does not begin as expected`
  if (head.layout !== LAYOUT_FINGERPRINT) return 'it was saved by a version with another layout'
  if (head.boot !== boot) return 'it was saved before the last boot'
  if (JSON.stringify(head.sizes) !== JSON.stringify(plane.sizes)) return 'it was saved with other sizes'
  const pages = readPages(plane, file, newline + 1)
  if (pages === null) return `${path} is damaged`
  for (const { bytes, at, page } of pages) bytes.set(page, at)
  return null
}

function parseHead(text: string): Head | null {
  try {
    const head: unknown = JSON.parse(text)
    if (typeof head !== 'object' || head === null) return null
    return 'layout' in head && 'boot' in head && 'sizes' in head ? (head as Head) : null
  } catch {
    return null
  }
}

function writePages(fd: number, bytes: Uint8Array): void {
  const pieces: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += PAGE) {
    const page = bytes.subarray(at, Math.min(at + PAGE, bytes.length))
    if (isZero(page)) continue
    pieces.push(numberBytes(at / PAGE), page)
    if (pieces.length >= 512) {
      writeAll(fd, Buffer.concat(pieces))
      pieces.length = 0
    }
  }
  pieces.push(numberBytes(END))
  writeAll(fd, Buffer.concat(pieces))
}

function isZero(page: Uint8Array): boolean {
  if (page.byteOffset % 4 !== 0 || page.length % 4 !== 0) return page.every((byte) => byte === 0)
  const words = new Uint32Array(page.buffer, page.byteOffset, page.length / 4)
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false
  return true
}

function numberBytes(value: number): Uint8Array {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
}

interface Page {
  readonly bytes: Uint8Array
  readonly at: number
  readonly page: Uint8Array
}

function readPages(plane: Pick<Dataplane, 'map'>, file: Buffer, start: number): Page[] | null {
  const pages: Page[] = []
  let offset = start
  for (const name of MAP_NAMES) {
    const { bytes } = plane.map(name)
    for (;;) {
      if (offset + 4 > file.length) return null
      const number = file.readUInt32LE(offset)
      offset += 4
      if (number === END) break
      const at = number * PAGE
      const length = Math.min(PAGE, bytes.length - at)
      if (length <= 0 || offset + length > file.length) return null
      pages.push({ bytes, at, page: file.subarray(offset, offset + length) })
      offset += length
    }
  }
  return offset === file.length ? pages : null
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
