/**
 * The maps of this plane as a file that everybody maps: the daemon writes rules into it, the forwarder has it
 * in the place of its linear memory. They outlive both processes, whatever ends these.
 *
 * Form: a page with one line of JSON, then the maps in their order, each from the start of a page. All of it
 * is reserved when the file is made.
 */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  linkSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { bootId } from '../../linux/boot.ts'
import { addressOf, errno, libc, MAP_FAILED, type Mapping, mapShared, SystemError } from '../../linux/libc.ts'
import type { NewMaps } from '../conversions.ts'
import { DataplaneError, type MapMemory, type Sizes } from '../dataplane.ts'
import {
  LAYOUT_FINGERPRINT,
  MAP_NAMES,
  MAPS,
  type MapName,
  PM_LAYOUT_VERSION,
  SettingsRecord,
} from '../layout/layout.gen.ts'
import { stampLayout } from '../layout/stamp.ts'
import { findLayout, recordOf } from '../layout/version.ts'
import { startSmall } from '../levels.ts'
import { mapMemory } from '../map-memory.ts'
import { Migration, planMigration } from '../migrate.ts'
import { checkSizes, mapEntries } from '../sizes.ts'
import { MAP_ALIGNMENT, type MapsBacking } from '../wasm/program.ts'
import { reserve } from './reserve.ts'

const HEAD_BYTES = MAP_ALIGNMENT
const PROT_READ_WRITE = 3
const MAP_SHARED_FIXED = 0x01 | 0x10

interface Head {
  /** PM_LAYOUT_VERSION and fingerprint of who made it. */
  readonly version: number
  readonly layout: string
  /** Times in the maps count from it. */
  readonly boot: string
  readonly sizes: Sizes
  /** So that a later version finds them without knowing how this one lays them out. */
  readonly maps: Readonly<Record<string, { readonly offset: number; readonly entries: number }>>
}

/** Why a file cannot be carried on with; `absent` when there is none. */
export interface Unusable {
  readonly reason: string
  readonly absent: boolean
  /** Another version made it, and may go on with it: see `older`. */
  readonly foreign?: true
}

export class MapsFile implements MapsBacking {
  readonly path: string
  readonly sizes: Sizes
  /** Bytes of all maps. */
  readonly bytes: number
  /** Tells this file from another that has its name later. */
  readonly inode: number
  readonly #fd: number
  #closed = false
  readonly #offsets: ReadonlyMap<MapName, number>
  readonly #mapped = new Map<MapName, { readonly memory: MapMemory; readonly mapping: Mapping }>()

  /** One that is there already. */
  static open(path: string, boot = bootId()): MapsFile | Unusable {
    let fd: number
    try {
      fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW)
    } catch (error) {
      const absent = (error as NodeJS.ErrnoException).code === 'ENOENT'
      return { reason: absent ? 'there are none' : String(error), absent }
    }
    const head = readHead(fd)
    if (head !== null && head.boot === boot && head.layout !== LAYOUT_FINGERPRINT) {
      closeSync(fd)
      return { reason: 'they are of a version with another layout', absent: false, foreign: true }
    }
    const reason = head === null ? `${path} does not begin as expected` : whyNot(head, boot, fd)
    if (head === null || reason !== null) {
      closeSync(fd)
      return { reason: reason ?? '', absent: false }
    }
    return new MapsFile(path, fd, head.sizes)
  }

  /**
   * A new one; who has mapped an earlier one of that name keeps that. It has the name once `fill` is through:
   * killed or failed before that, the earlier one is still there.
   */
  static create(
    path: string,
    sizes: Sizes,
    { boot = bootId(), fill = () => {} }: { boot?: string; fill?: (file: MapsFile) => void } = {},
  ): MapsFile {
    checkSizes(sizes)
    const temporary = `${path}.new`
    const length = HEAD_BYTES + layOut(sizes).bytes
    rmSync(temporary, { force: true })
    const fd = openSync(temporary, 'wx+', 0o600)
    let file: MapsFile | null = null
    try {
      reserve(fd, path, length, 'use another --run-dir, or fewer --connections')
      const { offsets } = layOut(sizes)
      const entries = mapEntries(sizes)
      const maps = Object.fromEntries(
        MAP_NAMES.map((name) => [name, { offset: HEAD_BYTES + offsets.get(name)!, entries: entries[name] }]),
      )
      const head: Head = { version: PM_LAYOUT_VERSION, layout: LAYOUT_FINGERPRINT, boot, sizes, maps }
      writeSync(fd, Buffer.from(`${JSON.stringify(head)}\n`), 0, null, 0)
      file = new MapsFile(path, fd, sizes)
      const settings = file.map('settings').view
      stampLayout(settings)
      SettingsRecord.setHashSeed(settings, 0, randomBytes(4).readUInt32LE(0))
      startSmall(settings, sizes)
      fill(file)
      renameSync(temporary, path)
      return file
    } catch (error) {
      if (file === null) closeSync(fd)
      else file.close()
      rmSync(temporary, { force: true })
      throw error
    }
  }

  private constructor(path: string, fd: number, sizes: Sizes) {
    const { offsets, bytes } = layOut(sizes)
    this.path = path
    this.sizes = sizes
    this.bytes = bytes
    this.inode = fstatSync(fd).ino
    this.#fd = fd
    this.#offsets = offsets
  }

  offset(name: MapName): number {
    return this.#offsets.get(name)!
  }

  /** In this process's own memory. */
  map(name: MapName): MapMemory {
    const known = this.#mapped.get(name)
    if (known !== undefined) return known.memory
    const entries = mapEntries(this.sizes)[name]
    const length = entries * MAPS[name].entrySize
    const mapping = mapShared(this.#fd, length, `map ${name}`, HEAD_BYTES + this.offset(name))
    const memory = mapMemory(name, entries, mapping.buffer)
    this.#mapped.set(name, { memory, mapping })
    return memory
  }

  mapInto(memory: WebAssembly.Memory, base: number): void {
    const address = addressOf(new Uint8Array(memory.buffer)) + BigInt(base)
    const mapped = libc.mmap(address, this.bytes, PROT_READ_WRITE, MAP_SHARED_FIXED, this.#fd, HEAD_BYTES)
    if (mapped === MAP_FAILED) throw new SystemError(`map ${this.path} into wasm memory`, errno())
  }

  /** No view of `map` may be touched afterwards; what was mapped into wasm memory stays. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const { mapping } of this.#mapped.values()) mapping.unmap()
    this.#mapped.clear()
    closeSync(this.#fd)
  }
}

/**
 * Maps in the place of others under a forwarder that goes on with those: they are kept under a name of their
 * own, and what it does until it lets go is carried over by `catchUp`. Killed in between, whoever comes next
 * finds that it is owed.
 */
const before = (path: string): string => `${path}.before`

/** The same rules, connections and counters for more CPUs, in a file of the same name. */
export function widen(file: MapsFile, cpus: number): MapsFile {
  keepBefore(file.path)
  const wide = MapsFile.create(file.path, { ...file.sizes, cpus }, { fill: (made) => copyInto(file, made) })
  file.close()
  return wide
}

function copyInto(file: MapsFile, to: MapsFile): void {
  const [fromRow, toRow] = [file, to].map(({ sizes }) => MAPS.counters.entrySize * sizes.cpus)
  for (const name of MAP_NAMES) {
    const [from, target] = [file.map(name).bytes, to.map(name).bytes]
    if (name !== 'counters') target.set(from)
    else copyRows(from, target, fromRow!, toRow!)
  }
}

function keepBefore(path: string): void {
  rmSync(before(path), { force: true })
  linkSync(path, before(path))
}

/** Whether what was done on the maps before these has still to be carried over. */
export function isOwed({ path, inode }: MapsFile): boolean {
  return existsSync(before(path)) && statSync(before(path)).ino !== inode
}

/** Once nobody works on the maps before these any more. */
export function catchUp(maps: MapsFile): void {
  const path = before(maps.path)
  if (isOwed(maps)) {
    const old = MapsFile.open(path)
    if (old instanceof MapsFile) {
      copyInto(old, maps)
      old.close()
    } else if (old.foreign === true) {
      const older = olderMaps(path)
      for (const name of MAP_NAMES) maps.map(name).bytes.fill(0)
      older.carryInto(maps)
    }
  }
  rmSync(path, { force: true })
}

/** Maps of an earlier version, from which everything can be carried over, field by field. */
export interface OlderMaps {
  readonly sizes: Sizes
  /** Into maps of these sizes that are new; without `except`. Nobody may be forwarding by either meanwhile. */
  carryInto(to: NewMaps, except?: readonly MapName[]): void
}

/**
 * What another version has left in a file that this one cannot open. Throws `DataplaneError` where it cannot be
 * carried over: that version can go on with it, so it is not ours to make anew.
 */
export function olderMaps(path: string): OlderMaps {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const head = readHead(fd)
    const layout = head === null ? null : findLayout({ version: head.version, fingerprint: head.layout })
    if (head === null || layout === null) {
      const version = head === null ? 'another layout' : `layout ${head.version}`
      throw refusal(path, `they have ${version}, which this version does not know`)
    }
    const entries = (name: string) => head.maps[name]?.entries ?? 0
    const plan = planMigration({ layout, entries }, mapEntries(head.sizes))
    if ('refusal' in plan) throw refusal(path, plan.refusal)
    return {
      sizes: head.sizes,
      carryInto: (to, except = []) => {
        const file = readFileSync(path)
        const bytes = (name: string) => {
          const { offset } = head.maps[name]!
          return new Uint8Array(file.subarray(offset, offset + entries(name) * recordOf(layout, name).size))
        }
        const wanted = (name: MapName) => !except.includes(name)
        const carried = plan.carried.filter(wanted)
        new Migration({ layout, entries, bytes }, to, { ...plan, carried }).copy()
        for (const name of plan.shared.filter(wanted)) to.map(name).bytes.set(bytes(name))
      },
    }
  } finally {
    closeSync(fd)
  }
}

function refusal(path: string, why: string): DataplaneError {
  return new DataplaneError(
    `Cannot carry on with the maps of another version in ${path}: ${why}; start that version again, or take them off with pointsman detach (connections are lost)`,
  )
}

/** Maps of an earlier version as those of this one, in a new file of the same name. */
export function migrate(path: string): MapsFile {
  const older = olderMaps(path)
  keepBefore(path)
  return MapsFile.create(path, older.sizes, { fill: (made) => older.carryInto(made) })
}

/** One row per real server, with a record per CPU. */
function copyRows(from: Uint8Array, to: Uint8Array, fromRow: number, toRow: number): void {
  for (let row = 0; row * fromRow < from.length; row++) {
    to.set(from.subarray(row * fromRow, (row + 1) * fromRow), row * toRow)
  }
}

function layOut(sizes: Sizes): { readonly offsets: ReadonlyMap<MapName, number>; readonly bytes: number } {
  const entries = mapEntries(sizes)
  const offsets = new Map<MapName, number>()
  let bytes = 0
  for (const name of MAP_NAMES) {
    offsets.set(name, bytes)
    bytes += Math.ceil((entries[name] * MAPS[name].entrySize) / MAP_ALIGNMENT) * MAP_ALIGNMENT
  }
  return { offsets, bytes }
}

function whyNot(head: Head, boot: string, fd: number): string | null {
  if (head.boot !== boot) return 'they are from before the last boot'
  try {
    checkSizes(head.sizes)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  return fstatSync(fd).size === HEAD_BYTES + layOut(head.sizes).bytes ? null : 'their file was cut'
}

function readHead(fd: number): Head | null {
  const page = Buffer.alloc(HEAD_BYTES)
  const read = readSync(fd, page, 0, HEAD_BYTES, 0)
  const end = page.subarray(0, read).indexOf(10)
  try {
    const head: unknown = JSON.parse(page.toString('utf8', 0, Math.max(0, end)))
    if (typeof head !== 'object' || head === null) return null
    return 'layout' in head && 'boot' in head && 'sizes' in head ? (head as Head) : null
  } catch {
    return null
  }
}

/** Who has mapped them keeps them until the end. */
export function removeMaps(path: string): void {
  for (const name of [path, before(path)]) rmSync(name, { force: true })
}

/** The sizes of maps that can be carried on with, null where there are none. */
export function sizesInFile(path: string): Sizes | null {
  const file = MapsFile.open(path)
  if (!(file instanceof MapsFile)) return file.foreign === true ? olderMaps(path).sizes : null
  file.close()
  return file.sizes
}
